package gateway

import (
	"bytes"
	"encoding/json"
	"net/http"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/catalog"
	"github.com/mcphub-go/mcphub/pkg/hubtest"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

func TestTransparentHubChangesNothing(t *testing.T) {
	for _, isolation := range []upstream.Isolation{upstream.Shared, upstream.PerSession} {
		t.Run(string(isolation), func(t *testing.T) {
			one := stdio(t, "one")
			one.Isolation = isolation
			r := start(t, setup{specs: []upstream.Spec{one}, naming: catalog.Bare, untraced: true,
				gateway: func(c *Config) { c.Transparent = true }})
			p := r.send(http.MethodPost, initializeBody)
			var init struct {
				Capabilities json.RawMessage
				Instructions string
			}
			if err := json.Unmarshal(p.response(t).Result, &init); err != nil || init.Instructions != "Be kind to one." {
				t.Errorf("initialized with %s", p.body)
			}
			want := []byte(childCapabilities)
			if isolation == upstream.Shared { // its tasks could not be told from those of other clients
				want = bytes.Replace(want, []byte(`,"tasks":{"list":{}}`), nil, 1)
			}
			if !bytes.Equal(init.Capabilities, want) {
				t.Errorf("capabilities are %s, want %s", init.Capabilities, want)
			}
			c := r.connect()
			for _, x := range []struct{ method, params, result, failure string }{
				{"tools/list", `{}`, `{"tools":` + childTools + `,"_meta":{"page":1.0}}`, ""},
				{"tools/list", `{"cursor":"x"}`, `{"tools":` + childTools + `,"_meta":{"page":1.0}}`, ""},
				{"prompts/list", `{}`, `{"prompts":` + childPrompts + `}`, ""},
				{"tools/call", `{"name":"weird"}`, weirdResult, ""},
				{"tools/call", `{"name":"echo", "arguments":{"a":1.50}}`,
					`{"content":[],"server":"one","params":{"name":"echo", "arguments":{"a":1.50}}}`, ""},
				{"tools/call", `{"name":"nothing"}`, "", `{"code":-32602,"message":"no such tool here"}`},
				{"tools/call", `{"name":"fail","arguments":{"error":{"code":7,"message":"x","data":[1.50]}}}`, "",
					`{"code":7,"message":"x","data":[1.50]}`},
				{"prompts/get", `{"name":"any"}`, `{"server":"one","params":{"name":"any"}}`, ""},
				{"resources/read", `{"uri":"any://x"}`, `{"server":"one","params":{"uri":"any://x"}}`, ""},
				{"completion/complete", `{"ref":7}`, `{"server":"one","params":{"ref":7}}`, ""},
				{"custom/echo", `{"x":[1, 2]}`, `{"server":"one","params":{"x":[1, 2]}}`, ""},
				{"no/such", `{}`, "", `{"code":-32601,"message":"no such method here","data":{"method": "no/such"},"extra":1.0}`},
				{"logging/setLevel", `{"level":"odd"}`, `{}`, ""},
				{"logging/setLevel", `{"level":"info"}`, `{}`, ""},
				{"resources/subscribe", `{"uri":"test://one/one"}`, `{}`, ""},
			} {
				m := c.call("1", x.method, x.params).response(t)
				if string(m.Result) != x.result || string(m.Error) != x.failure {
					t.Errorf("%s %s: %s %s", x.method, x.params, m.Result, m.Error)
				}
			}
			s, err := r.sessions.Get(t.Context(), c.id)
			if err != nil || s.LogLevel != "info" || len(s.Subscriptions) != 1 {
				t.Errorf("stored %+v: %v", s, err)
			}
			stream := c.listen()
			c.tool("grow", `{}`)
			if m := stream.message(); m.Method != "notifications/tools/list_changed" {
				t.Errorf("received %s", m.Encode())
			}
		})
	}
}

func TestTransparentHubReportsThatItsServerIsDown(t *testing.T) {
	r := start(t, setup{specs: []upstream.Spec{absent("gone")}, naming: catalog.Bare, gateway: func(c *Config) { c.Transparent = true }})
	c := r.connect()
	for _, method := range []string{"tools/list", "tools/call", "custom/echo", "logging/setLevel"} {
		if e := c.call("1", method, `{"name":"x","level":"info"}`).rpcError(t); e.Code != -32603 ||
			!bytes.Contains([]byte(e.Message), []byte(`server "gone" is down`)) {
			t.Errorf("%s: %v", method, e)
		}
	}
}

func TestUnknownNotificationsPassATransparentHub(t *testing.T) {
	for _, isolation := range []upstream.Isolation{upstream.Shared, upstream.PerSession} {
		t.Run(string(isolation), func(t *testing.T) {
			web := newWeb(t)
			spec := web.spec("web")
			spec.Isolation = isolation
			r := start(t, setup{specs: []upstream.Spec{spec}, naming: catalog.Bare, gateway: func(c *Config) { c.Transparent = true }})
			c := r.connect()
			if p := c.post(`{"jsonrpc":"2.0","method":"custom/note","params":{"x": 1}}`); p.status != 202 {
				t.Fatalf("answered %d %s", p.status, p.body)
			}
			hubtest.Eventually(t, "the server has the notification", func() bool { return len(web.seen("POST", "custom/note")) == 1 })
		})
	}
}
