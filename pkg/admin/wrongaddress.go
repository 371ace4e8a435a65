package admin

import (
	"net/http"
	"strings"
)

// rpcError is a JSON-RPC error for a client of MCP that was given the address of the admin listener.
type rpcError struct {
	JSONRPC string    `json:"jsonrpc"`
	ID      *struct{} `json:"id"` // null: the request is not read
	Error   rpcReason `json:"error"`
}

type rpcReason struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

// invalidRequest is the code of JSON-RPC for what is no request here.
const invalidRequest = -32600

// handleWrongAddress has mux answer where clients of MCP would look for their endpoint.
func (a *api) handleWrongAddress(mux *http.ServeMux) {
	for _, pattern := range []string{"/mcp", "/mcp/{$}", "/sse", "/message", "POST /{$}"} {
		mux.HandleFunc(pattern, a.wrongAddress)
	}
}

func (a *api) wrongAddress(w http.ResponseWriter, r *http.Request) {
	text := "this is the admin listener of mcphub; the MCP endpoint is " + a.cfg.Endpoint
	status := http.StatusNotFound
	if r.URL.Path == "/" {
		w.Header().Set("Allow", "GET, HEAD")
		status = http.StatusMethodNotAllowed
	}
	for _, header := range append(r.Header.Values("Accept"), r.Header.Get("Content-Type")) {
		if strings.Contains(header, "application/json") {
			a.writeJSON(w, r, status, rpcError{JSONRPC: "2.0", Error: rpcReason{invalidRequest, text}})
			return
		}
	}
	http.Error(w, text, status)
}
