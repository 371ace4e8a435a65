package gateway

import (
	_ "embed"
	"fmt"
	"html/template"
	"mime"
	"net/http"
	"strings"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
)

// endpointPath is the path of the MCP endpoint. With a slash at its end it is the same: people and clients add one.
const endpointPath = "/mcp"

//go:embed address.html
var addressHTML string

// addressTemplate is an html/template: what it shows comes from the request.
var addressTemplate = template.Must(template.New("address").Parse(addressHTML))

// Endpoint is the handler of the MCP listener. It serves mcp at /mcp; at every other path it says where that is.
func Endpoint(mcp http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle(endpointPath, mcp)
	mux.Handle(endpointPath+"/{$}", mcp)
	mux.HandleFunc("/", wrongAddress)
	return mux
}

// EndpointMethods returns the methods that pages of other origins may use at the MCP listener.
func EndpointMethods() []string { return []string{http.MethodGet, http.MethodPost, http.MethodDelete} }

// EndpointPages returns the paths of the MCP listener at which a browser shows a page.
func EndpointPages() []string {
	return []string{"/", endpointPath, endpointPath + "/", "/sse", "/message"}
}

// wrongAddress answers a request for any other path, in the form that its sender reads.
func wrongAddress(w http.ResponseWriter, r *http.Request) {
	url := endpointURL(r)
	status, where := http.StatusNotFound, fmt.Sprintf("there is nothing at %.80q; ", r.URL.Path)
	if r.URL.Path == "/" && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
		status, where = http.StatusOK, "this is mcphub; "
	}
	text := where + "the MCP endpoint is " + url + ` (Streamable HTTP, in clients "type": "http"), and HTTP+SSE is not served; ` +
		"page, API and metrics are at the address of the key admin.listen"
	switch {
	case wantsPage(r):
		writePage(w, r, status)
	case wantsMessage(r):
		refuse(w, http.StatusNotFound, "", jsonrpc.Errorf(jsonrpc.CodeInvalidRequest, "%s", text))
	default:
		h := w.Header()
		h.Set("Content-Type", "text/plain; charset=utf-8")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cache-Control", "no-store")
		w.WriteHeader(status)
		_, _ = fmt.Fprintln(w, text) //nolint:gosec // declared as plain text
	}
}

// endpointURL returns the URL of the endpoint as the sender of r reaches it.
func endpointURL(r *http.Request) string { return schemeOf(r) + "://" + r.Host + endpointPath }

// wantsMessage reports whether a program that speaks JSON-RPC has sent r.
func wantsMessage(r *http.Request) bool {
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return kind == protocol.TypeJSON || names(r, protocol.TypeJSON)
}

// wantsPage reports whether a browser has sent r to show the answer to a person. Browsers accept anything, but name
// HTML; clients of MCP do not.
func wantsPage(r *http.Request) bool {
	return r.Method == http.MethodGet && names(r, "text/html") && !names(r, protocol.TypeEventStream)
}

// names reports whether the Accept header of r names a media type itself, not only by a wildcard.
func names(r *http.Request, want string) bool {
	for _, header := range r.Header.Values("Accept") {
		for part := range strings.SplitSeq(header, ",") {
			if kind, params, err := mime.ParseMediaType(part); err == nil && kind == want && params["q"] != "0" {
				return true
			}
		}
	}
	return false
}

// writePage shows a person what this address is.
func writePage(w http.ResponseWriter, r *http.Request, status int) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = addressTemplate.Execute(w, struct{ URL string }{endpointURL(r)})
}
