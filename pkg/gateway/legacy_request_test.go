package gateway

import (
	"net/http"
	"strings"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/catalog"
	"github.com/mcphub-go/mcphub/pkg/hubtest"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

func TestPanicAffectsItsOwnRequestOnly(t *testing.T) {
	r := start(t, setup{gateway: func(c *Config) { c.Catalog = nil }}) // lists need it
	c, other := r.connect(), r.connect()
	stream := c.listen()
	for range 3 { // with the same id, because the previous request has ended
		p := c.call("7", "tools/list", `{}`)
		if e := p.rpcError(t); p.status != http.StatusOK || e.Code != -32603 || e.Message != "internal error of the hub" ||
			string(p.response(t).ID) != "7" {
			t.Errorf("answered %d %s", p.status, p.body)
		}
	}
	for _, c := range []*peer{c, other} {
		if p := c.post(pingBody); p.status != http.StatusOK {
			t.Errorf("another request: %d %s", p.status, p.body)
		}
	}
	if len(stream.events) != 0 {
		t.Error("the GET stream of the session received a message")
	}
	r.conserved(0)
	hubtest.Eventually(t, "the requests have released their session", func() bool {
		info, err := r.sessions.Info(t.Context(), c.id)
		return err == nil && info.InFlight == 1 // the stream
	})
	if got := r.metric("mcp_server_operation_duration_seconds", "mcp_method_name", "tools/list", "error_type", "-32603"); got != 3 {
		t.Errorf("%v operations failed with an internal error", got)
	}
	logs := r.logs.String()
	if n := strings.Count(logs, "panic while answering a request"); n != 3 || !strings.Contains(logs, "nil pointer") ||
		!strings.Contains(logs, "routing.(*Router).list") {
		t.Errorf("the log has %d panics and says %s", n, logs)
	}
}

func TestListOfParamsIsForwardedUnchanged(t *testing.T) {
	for name, s := range map[string]setup{
		"traced":      {},
		"untraced":    {untraced: true},
		"transparent": {naming: catalog.Bare, gateway: func(c *Config) { c.Transparent = true }},
	} {
		for _, isolation := range []upstream.Isolation{upstream.Shared, upstream.PerSession} {
			t.Run(name+" "+string(isolation), func(t *testing.T) {
				one := stdio(t, "one")
				one.Isolation = isolation
				s.specs = []upstream.Spec{one}
				c := start(t, s).connect()
				for _, params := range []string{`[]`, `[1, 2.50,"\u00e9",{"_meta":{"progressToken":7}}]`, `[{"uri":"test://one/one"}]`} {
					if m := c.call("1", "custom/echo", params).response(t); string(m.Result) != `{"server":"one","params":`+params+`}` {
						t.Errorf("%s was answered with %s %s", params, m.Result, m.Error)
					}
				}
				if p := c.post(`{"jsonrpc":"2.0","method":"custom/said","params":[1]}`); p.status != http.StatusAccepted {
					t.Errorf("a notification: %d", p.status)
				}
			})
		}
	}
}
