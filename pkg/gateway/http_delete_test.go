package gateway

import (
	"net/http"
	"strings"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
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

func TestDeleteEndsRunningCallsAtOnce(t *testing.T) {
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
	hubtest.Eventually(t, "the calls are in flight", func() bool {
		return other.state("one").Hanging == 1 && c.waitingRequests() == 1 && web.waiting.Load() == 1
	})
	bound := web.session("tools/call")
	if p := c.send(http.MethodDelete, "", "Mcp-Session-Id: "+c.token); p.status != http.StatusNoContent {
		t.Errorf("DELETE: %d %q", p.status, p.body)
	}
	stream.waitForEnd()
	for range 3 {
		p := <-answers
		// The server that sent the request gets the error too, and may answer the call with it first.
		if m := p.response(t); !strings.Contains(string(m.Encode()), "the session has ended: client_delete") {
			t.Errorf("the call was answered with %s", p.body)
		}
	}
	hubtest.Eventually(t, "the call on the shared server is cancelled", func() bool {
		s := other.state("one")
		return s.Hanging == 0 && len(s.Cancelled) == 1 && string(s.Cancelled[0]) == `{"who":"deleted"}`
	})
	hubtest.Eventually(t, "the server's session is deleted", func() bool { return web.receivedIn("DELETE", bound) })
	if n := len(r.gateway.legacy.all()); n != 1 {
		t.Errorf("%d sessions are open", n)
	}
}
