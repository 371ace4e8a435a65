package gateway

import (
	"net/http"
	"strings"

	"github.com/mcphub-go/mcphub/pkg/protocol"
)

// pageHeaders are the headers that a web page of an allowed origin may send: those that clients of MCP and of the hub
// use. Mcp-Param-* are added as they are asked for.
const pageHeaders = "content-type, accept, authorization, mcp-session-id, mcp-protocol-version, mcp-method, mcp-name, " +
	"last-event-id, traceparent, tracestate, baggage, x-mcp-cwd, x-mcp-project, x-api-key, mcphub-work"

// exposedHeaders are the headers of answers that such a page may read, besides those that every page may.
const exposedHeaders = "Mcp-Session-Id, WWW-Authenticate, Retry-After"

// preflightAge is the time, in seconds, for which a browser keeps the answer to a preflight.
const preflightAge = "600"

// permitReading adds what lets a page read the answer, if its origin is listed. Every answer varies with the origin:
// one that was kept without the permission must not be used for a page that has it.
func permitReading(h http.Header, r *http.Request, listed bool) {
	h.Add("Vary", "Origin")
	if !listed {
		return
	}
	h.Set("Access-Control-Allow-Origin", r.Header.Get("Origin"))
	h.Set("Access-Control-Expose-Headers", exposedHeaders)
}

// isPreflight reports whether a browser asks what a page may send.
func isPreflight(r *http.Request) bool {
	return r.Method == http.MethodOptions && r.Header.Get("Origin") != "" && r.Header.Get("Access-Control-Request-Method") != ""
}

// answerPreflight tells a browser what a page of a listed origin may send.
func answerPreflight(w http.ResponseWriter, r *http.Request, methods []string) {
	h := w.Header()
	h.Add("Vary", "Access-Control-Request-Headers")
	h.Set("Access-Control-Allow-Methods", strings.Join(methods, ", "))
	h.Set("Access-Control-Allow-Headers", strings.Join(append([]string{pageHeaders}, requestedParams(r)...), ", "))
	h.Set("Access-Control-Max-Age", preflightAge)
	if r.Header.Get("Access-Control-Request-Private-Network") == "true" { // a page of the internet, and a hub on loopback
		h.Set("Access-Control-Allow-Private-Network", "true")
	}
	w.WriteHeader(http.StatusNoContent)
}

// requestedParams returns the headers among the requested ones that mirror an argument of a tool. Their names depend
// on the tool.
func requestedParams(r *http.Request) []string {
	var params []string
	for _, list := range r.Header.Values("Access-Control-Request-Headers") {
		for name := range strings.SplitSeq(list, ",") {
			name = strings.ToLower(strings.TrimSpace(name))
			if strings.HasPrefix(name, strings.ToLower(protocol.HeaderParamPrefix)) && isToken(name) {
				params = append(params, name)
			}
		}
	}
	return params
}

// isToken reports whether s can be the name of a header.
func isToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < '0' || c > '9') && !strings.ContainsRune("-_.!#$%&'*+^`|~", c)
	})
}
