package gateway

import (
	"net/http"
	"strings"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/upstream"
)

func TestDeleteEndsTheSession(t *testing.T) {
	r := start(t, setup{})
	c := r.connect()
	if p := c.send(http.MethodDelete, "", "Mcp-Session-Id: "+c.token); p.status != http.StatusNoContent || p.body != "" {
		t.Errorf("DELETE: %d %q", p.status, p.body)
	}
	for _, method := range []string{http.MethodPost, http.MethodGet, http.MethodDelete} {
		if p := c.send(method, pingBody, "Mcp-Session-Id: "+c.token); p.status != http.StatusNotFound {
			t.Errorf("%s afterwards: %d %q", method, p.status, p.body)
		}
	}
	if keys := r.stored(); len(keys) > 0 {
		t.Errorf("the store holds %q", keys)
	}
	if got := r.closed("client_delete"); got != 1 {
		t.Errorf("%v sessions ended as deleted", got)
	}
}

func TestDeleteEndsWhatRunsAtOnce(t *testing.T) {
	web := newWeb(t)
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one"), web.spec("web")}})
	c, other := r.connect(), r.connect()
	stream := c.listen()
	answers := make(chan reply, 3)
	for id, params := range map[string]string{
		"1": `{"name":"one__hang","arguments":{"who":"deleted"}}`,
		"2": `{"name":"web__elicit","arguments":{}}`,
		"3": `{"name":"web__wait","arguments":{}}`,
	} {
		go func() { answers <- c.call(id, "tools/call", params) }()
	}
	until(t, "the calls are under way", func() bool {
		return other.state("one").Hanging == 1 && c.asks() == 1 && web.waiting.Load() == 1
	})
	bound := web.session("tools/call")
	if p := c.send(http.MethodDelete, "", "Mcp-Session-Id: "+c.token); p.status != http.StatusNoContent {
		t.Errorf("DELETE: %d %q", p.status, p.body)
	}
	stream.ended()
	for range 3 {
		p := <-answers
		// The server that asked hears of it too, and may be the first to say so.
		if m := p.answer(t); !strings.Contains(string(m.Encode()), "the session has ended: client_delete") {
			t.Errorf("the call was answered with %s", p.body)
		}
	}
	until(t, "the call on the shared server is cancelled", func() bool {
		s := other.state("one")
		return s.Hanging == 0 && len(s.Cancelled) == 1 && string(s.Cancelled[0]) == `{"who":"deleted"}`
	})
	until(t, "the server's session is deleted", func() bool { return web.saw("DELETE", bound) })
	if n := len(r.gateway.legacy.all()); n != 1 {
		t.Errorf("%d sessions are open", n)
	}
}

func TestASessionOfAnotherPrincipalIsNotFound(t *testing.T) {
	r := start(t, setup{gateway: func(c *Config) { c.Principal = func(r *http.Request) string { return r.Header.Get("X-User") } }})
	ann := r.connect("X-User: ann")
	for _, user := range []string{"bob", "Ann", ""} {
		if p := r.send(http.MethodPost, pingBody, "Mcp-Session-Id: "+ann.token, "X-User: "+user); p.status != http.StatusNotFound {
			t.Errorf("%q may use the session: %d", user, p.status)
		}
		r.connect("Mcp-Session-Id: "+ann.token, "X-User: "+user) // must not end it
	}
	if p := ann.post(pingBody); p.status != http.StatusOK {
		t.Errorf("ann may not: %d", p.status)
	}
}
