package gateway

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/catalog"
	"github.com/mcphub-go/mcphub/pkg/hubtest"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

// A server in Go also reads a progress token from _META, where the hub does not look for one. It must not be the token
// of the call of another client.
func TestProgressTokenOfAClientCannotNameTheCallOfAnother(t *testing.T) {
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one")}})
	ann, bob := r.connect(), r.connect()
	s := ann.open(http.MethodPost, request("1", "tools/call",
		`{"name":"one__gated","arguments":{"steps":1},"_meta":{"progressToken":"ann"}}`))
	hubtest.Eventually(t, "ann's call is in flight", func() bool { return bob.state("one").Seen["tools/call"] > 1 })
	for n := range 40 {
		bob.call("1", "tools/call", fmt.Sprintf(`{"name":"one__work","arguments":{"steps":1,"bob":1},"_meta":{},`+
			`"_META":{"progressToken":%d}}`, n))
	}
	bob.tool("one__gate", `{"steps":2}`)
	if m := s.message(); m.Method != "notifications/progress" || strings.Contains(string(m.Params), "bob") {
		t.Errorf("ann received %s %s", m.Method, m.Params)
	}
	if m := s.message(); m.Result == nil {
		t.Errorf("ann received %s %s", m.Method, m.Params)
	}
}

// Servers may read the names of members in any case, and the last of two equal ones. Such params of one client must not
// end what another client asked of a shared server.
func TestAmbiguousParamsDoNotChangeWhatAnotherClientAskedOfASharedServer(t *testing.T) {
	for _, naming := range []catalog.Naming{catalog.Bare, catalog.Prefix} {
		r := start(t, setup{specs: []upstream.Spec{stdio(t, "one")}, naming: naming,
			gateway: func(c *Config) { c.Transparent = naming == catalog.Bare }})
		state := map[catalog.Naming]string{catalog.Bare: "state", catalog.Prefix: "one__state"}[naming]
		ann, bob := r.connect(), r.connect()
		seen := func() string { return string(ann.tool(state, `{}`)) }
		ann.call("1", "resources/subscribe", `{"uri":"test://one/one"}`).response(t)
		ann.call("2", "logging/setLevel", `{"level":"debug"}`).response(t)
		for _, params := range []string{
			`{"uri":"test://both","uri":"test://one/one"}`, `{"uri":"test://both","URI":"test://one/one"}`, `{"URI":"test://one/one"}`,
		} {
			bob.call("1", "resources/unsubscribe", params)
			if s := seen(); !strings.Contains(s, `"subscriptions":["test://one/one"]`) {
				t.Errorf("%s: after %s the server has %.200s", naming, params, s)
				ann.call("1", "resources/subscribe", `{"uri":"test://one/one"}`).response(t)
			}
		}
		for _, params := range []string{
			`{"level":"debug","level":"emergency"}`, `{"level":"debug","LEVEL":"emergency"}`, `{"LEVEL":"emergency"}`,
		} {
			bob.call("1", "logging/setLevel", params)
			if s := seen(); !strings.Contains(s, `"level":"debug"`) {
				t.Errorf("%s: after %s the server has %.200s", naming, params, s)
				ann.call("2", "logging/setLevel", `{"level":"debug"}`).response(t)
			}
		}
	}
}

func TestNameThatOccursTwiceIsMirroredByNoHeader(t *testing.T) {
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one")}, naming: catalog.Bare, gateway: func(c *Config) { c.Transparent = true }})
	c := r.modern(`{}`)
	for method, params := range map[string]string{
		"tools/call":     `{"name":"echo","name":"weird"}`,
		"prompts/get":    `{"name":"greet","name":"other"}`,
		"resources/read": `{"uri":"test://both","uri":"test://one/one"}`,
	} {
		if p := c.call("1", method, params, "Mcp-Name: greet"); p.status != http.StatusBadRequest || p.rpcError(t).Code != -32602 {
			t.Errorf("%s: %d %s", method, p.status, p.body)
		}
	}
	if seen := c.peer.rig.connect().tool("state", `{}`); strings.Contains(string(seen), `"resources/read"`) {
		t.Errorf("the server has seen %s", seen)
	}
}
