package gateway

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/session"
)

const page = "http://localhost:6274" // the origin of an allowed page

// open has the hub serve its endpoint to pages of the origin page, too.
func (r *rig) open() *rig {
	r.server.Config.Handler = Guard{Origins: []string{page}, Methods: EndpointMethods()}.Handler(Endpoint(r.gateway))
	r.url = r.server.URL + "/mcp"
	return r
}

// readable reports whether a page of origin may read an answer with this header.
func readable(h http.Header, origin string) bool {
	return h.Get("Access-Control-Allow-Origin") == origin && slices.Contains(h.Values("Vary"), "Origin")
}

func TestAPreflightOfAListedOriginIsAnsweredWithWhatItMaySend(t *testing.T) {
	r := start(t, setup{}).open()
	for _, method := range []string{http.MethodPost, http.MethodGet, http.MethodDelete} {
		p := r.send(http.MethodOptions, "", "Origin: "+page, "Access-Control-Request-Method: "+method,
			"Access-Control-Request-Headers: content-type,mcp-param-region,Mcp-Param-Über,x-evil")
		if p.status != http.StatusNoContent || !readable(p.header, page) {
			t.Errorf("%s: answered %d %v", method, p.status, p.header)
		}
		if got := p.header.Get("Access-Control-Allow-Methods"); got != "GET, POST, DELETE" {
			t.Errorf("methods %s", got)
		}
		if age := p.header.Get("Access-Control-Max-Age"); age != "600" ||
			!slices.Contains(p.header.Values("Vary"), "Access-Control-Request-Headers") {
			t.Errorf("kept for %q s, varies with %q", age, p.header.Values("Vary"))
		}
		if got := p.header.Get("Access-Control-Allow-Headers"); got != pageHeaders+", mcp-param-region" {
			t.Errorf("headers %s", got)
		}
	}
	for _, name := range []string{"content-type", "accept", "authorization", "mcp-session-id", "mcp-protocol-version", "mcp-method",
		"mcp-name", "last-event-id", "traceparent", "tracestate", "baggage", "x-mcp-cwd", "x-mcp-project", "x-api-key", "mcphub-work"} {
		if !slices.Contains(strings.Split(pageHeaders, ", "), name) {
			t.Errorf("%s may not be sent", name)
		}
	}
	p := r.send(http.MethodOptions, "", "Origin: "+page, "Access-Control-Request-Method: POST", "Access-Control-Request-Private-Network: true")
	if p.header.Get("Access-Control-Allow-Private-Network") != "true" {
		t.Errorf("a page of the internet does not reach the hub: %v", p.header)
	}
}

func TestAForeignOriginGetsNoPermission(t *testing.T) {
	r := start(t, setup{}).open()
	for _, origin := range []string{"https://evil.example", "null", "http://localhost:6275", page + ".evil.example"} {
		for _, method := range []string{http.MethodOptions, http.MethodPost, http.MethodGet, http.MethodDelete} {
			p := r.send(method, "{}", "Origin: "+origin, "Access-Control-Request-Method: POST")
			if p.status != http.StatusForbidden || p.header.Get("Access-Control-Allow-Origin") != "" || p.header.Get("Vary") != "Origin" {
				t.Errorf("%s from %s: answered %d %v", method, origin, p.status, p.header)
			}
		}
	}
}

func TestAListedPageMayReadEveryAnswerErrorsIncluded(t *testing.T) {
	r := start(t, setup{sessions: func(c *session.Config) { c.MaxSessions = 1 }}).open()
	opened := r.send(http.MethodPost, initializeBody, "Origin: "+page)
	token := "Mcp-Session-Id: " + opened.header.Get("Mcp-Session-Id")
	for name, answer := range map[string]struct {
		reply
		status int
	}{
		"initialize":           {opened, http.StatusOK},
		"one session too many": {r.send(http.MethodPost, initializeBody, "Origin: "+page), http.StatusServiceUnavailable},
		"an unknown session": {r.send(http.MethodPost, `{"jsonrpc":"2.0","id":1,"method":"ping"}`, "Origin: "+page,
			"Mcp-Session-Id: gone"), http.StatusNotFound},
		"no JSON":          {r.send(http.MethodPost, "{", "Origin: "+page), http.StatusBadRequest},
		"a wrong type":     {r.send(http.MethodPost, "{}", "Origin: "+page, "Content-Type: text/plain"), http.StatusUnsupportedMediaType},
		"a wrong method":   {r.send(http.MethodPatch, "", "Origin: "+page), http.StatusMethodNotAllowed},
		"a wrong host":     {r.send(http.MethodPost, "{}", "Origin: "+page, "Host: evil.example"), http.StatusForbidden},
		"no session":       {r.send(http.MethodGet, "", "Origin: "+page), http.StatusBadRequest},
		"a modern request": {r.send(http.MethodPost, "{}", "Origin: "+page, "Mcp-Protocol-Version: 2026-07-28"), http.StatusBadRequest},
		"the end":          {r.send(http.MethodDelete, "", "Origin: "+page, token), http.StatusNoContent},
	} {
		if answer.reply.status != answer.status || !readable(answer.header, page) ||
			answer.header.Get("Access-Control-Expose-Headers") != "Mcp-Session-Id, WWW-Authenticate, Retry-After" {
			t.Errorf("%s: answered %d %v", name, answer.reply.status, answer.header)
		}
	}
}

func TestAStreamMayBeReadByAListedPage(t *testing.T) {
	r := start(t, setup{}).open()
	token := r.send(http.MethodPost, initializeBody, "Origin: "+page).header.Get("Mcp-Session-Id")
	response := r.do(t.Context(), http.MethodGet, "", "Origin: "+page, "Mcp-Session-Id: "+token)
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK || !readable(response.Header, page) ||
		!strings.Contains(response.Header.Get("Cache-Control"), "no-store") {
		t.Errorf("answered %d %v", response.StatusCode, response.Header)
	}
}

func TestOptionsWithoutAPageAreTheMethods(t *testing.T) {
	r := start(t, setup{}).open()
	for _, header := range []string{"Accept: */*", "Origin: " + page, "Access-Control-Request-Method: POST"} { // each alone is no preflight
		p := r.send(http.MethodOptions, "", header)
		if p.status != http.StatusNoContent || p.header.Get("Allow") != "GET, POST, DELETE, OPTIONS" ||
			p.header.Get("Access-Control-Allow-Methods") != "" {
			t.Errorf("%s: answered %d %v", header, p.status, p.header)
		}
	}
}

func TestEveryAnswerVariesWithTheOrigin(t *testing.T) {
	w := httptest.NewRecorder()
	Guard{}.Handler(http.NotFoundHandler()).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "http://localhost/", nil))
	if w.Code != http.StatusNotFound || w.Header().Get("Vary") != "Origin" {
		t.Errorf("answered %d %v", w.Code, w.Header())
	}
}
