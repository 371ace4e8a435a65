package gateway

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/catalog"
	"github.com/mcphub-go/mcphub/pkg/persist"
	"github.com/mcphub-go/mcphub/pkg/protocol"
	"github.com/mcphub-go/mcphub/pkg/session"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

// FuzzHeaders sends requests with fuzzed headers. None may panic, create a session or write a record.
func FuzzHeaders(f *testing.F) {
	f.Add("POST", "abc.def", "2025-11-25", "application/json", "*/*", "localhost", "")
	f.Add("GET", "../config/x", "", "", "text/event-stream", "127.0.0.1:1", "http://evil")
	f.Add("DELETE", strings.Repeat("a", 300), "2026-07-28", "application/json; charset=utf-8", "a/b;q=0", "[::1]:7", "null")
	f.Fuzz(func(t *testing.T, method, token, version, kind, accept, host, origin string) {
		store := &persist.Memory{}
		pool := upstream.NewPool(nil, upstream.Config{})
		var g *Gateway
		sessions := session.New(store, session.Config{
			Open: func(ctx context.Context, s session.Session) (session.Live, error) { return g.Open(ctx, s) },
		})
		g = New(Config{Sessions: sessions, Pool: pool, Catalog: catalog.New(catalog.Bare, nil)})
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/mcp",
			strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"ping"}`))
		r.Method, r.Host = method, host
		r.Header = http.Header{}
		for name, value := range map[string]string{protocol.HeaderSessionID: token, protocol.HeaderProtocolVersion: version,
			"Content-Type": kind, "Accept": accept, "Origin": origin} {
			if value != "" {
				r.Header.Set(name, value)
			}
		}
		w := httptest.NewRecorder()
		Guard{Hosts: []string{"hub.example"}, Origins: []string{"https://app.example"}}.Handler(g).ServeHTTP(w, r)
		if w.Code < 400 {
			t.Errorf("status %d", w.Code)
		}
		if w.Header().Get(protocol.HeaderSessionID) != "" {
			t.Error("a session was opened")
		}
		if all, _ := sessions.All(); len(all) != 0 {
			t.Error("there is a session")
		}
		for key, err := range store.Keys(t.Context()) {
			t.Errorf("%s was written, %v", key, err)
		}
	})
}
