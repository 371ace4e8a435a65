package admin_test

import (
	"net/http"
	"strings"
	"testing"
)

func TestAClientOfMCPAtTheAdminListenerHearsWhereTheEndpointIs(t *testing.T) {
	r := start(t)
	for _, path := range []string{"/mcp", "/mcp/", "/sse", "/message", "/"} {
		p := r.send(http.MethodPost, path, `{"jsonrpc":"2.0","id":1,"method":"initialize"}`, "Content-Type: application/json",
			"Accept: application/json, text/event-stream")
		want := http.StatusNotFound
		if path == "/" {
			want = http.StatusMethodNotAllowed
		}
		if p.status != want || p.header.Get("Content-Type") != "application/json" ||
			!strings.Contains(p.body, `"code": -32600`) || !strings.Contains(p.body, "http://127.0.0.1:1/mcp") {
			t.Errorf("POST %s: answered %d %s", path, p.status, p.body)
		}
		if path == "/" {
			continue // for people
		}
		p = r.do(http.MethodGet, path, "Accept: text/event-stream")
		if p.status != http.StatusNotFound || !strings.HasPrefix(p.header.Get("Content-Type"), "text/plain") ||
			!strings.Contains(p.body, "http://127.0.0.1:1/mcp") {
			t.Errorf("GET %s: answered %d %s", path, p.status, p.body)
		}
	}
}
