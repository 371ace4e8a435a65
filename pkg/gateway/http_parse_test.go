package gateway

import (
	"net/http"
	"strings"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/upstream"
)

func TestMessageOfAClientThatIsNotQuiteJSONRPCIsRepaired(t *testing.T) {
	r := start(t, setup{untraced: true, specs: []upstream.Spec{stdio(t, "one")}})
	c := r.connect()
	for name, test := range map[string]struct{ params, want, repair string }{
		"half a surrogate": {`{"a":"\ud83d"}`, `{"a":"\ufffd"}`, "surrogate"},
		"latin-1":          {"{\"a\":\"\xe9\"}", "{\"a\":\"\ufffd\"}", "utf8"},
		"a raw tab":        {"{\"a\":\"\t\"}", `{"a":"\t"}`, "control"},
	} {
		count := func() float64 {
			return r.metric("mcphub_messages_repaired_total", "hop", "downstream", "repair", test.repair)
		}
		before := count()
		p := c.post(`{"jsonrpc":"2.0","id":"` + name + `","method":"custom/echo","params":` + test.params + `}`)
		m := p.response(t)
		if p.status != http.StatusOK || string(m.ID) != `"`+name+`"` || !strings.Contains(string(m.Result), `"params":`+test.want) {
			t.Errorf("%s: answered %d %s", name, p.status, p.body)
		}
		if count() != before+1 {
			t.Errorf("%s: not counted as %s", name, test.repair)
		}
	}
	p := c.post(`{"jsonrpc":"2.0","id":1,"method":"tools/list","params":null}`)
	if p.status != http.StatusOK || p.response(t).Result == nil ||
		r.metric("mcphub_messages_repaired_total", "hop", "downstream", "repair", "envelope") != 1 {
		t.Errorf("params: null: %d %s", p.status, p.body)
	}
}

func TestMessageOfAClientThatCannotBeReadIsRefusedWithItsID(t *testing.T) {
	r := start(t, setup{untraced: true, specs: []upstream.Spec{stdio(t, "one")}})
	c := r.connect()
	for name, test := range map[string]struct{ body, id string }{
		"NaN":        {`{"jsonrpc":"2.0","id":"x","method":"tools/call","params":{"a":NaN}}`, `"x"`},
		"truncated":  {`{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"a":`, `7`},
		"no jsonrpc": {`{"id":7,"method":"tools/call"}`, `7`},
		"two ids":    {`{"jsonrpc":"2.0","id":7,"id":8,"method":"tools/call"}`, `null`},
		"text":       {`hello`, `null`},
	} {
		p := c.post(test.body)
		if e := p.rpcError(t); p.status != http.StatusBadRequest || string(p.response(t).ID) != test.id || e.Message == "" {
			t.Errorf("%s: answered %d %s", name, p.status, p.body)
		}
	}
	if n := r.metric("mcphub_messages_unreadable_total", "hop", "downstream", "outcome", "told"); n != 5 {
		t.Errorf("%v are counted", n)
	}
}

func TestTooLongRequestNamesTheKeyToChange(t *testing.T) {
	r := start(t, setup{gateway: func(c *Config) { c.MaxRequestBytes = 1000 }})
	p := r.connect().post(`{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":"` + strings.Repeat("x", 1000) + `"}}`)
	if e := p.rpcError(t); p.status != http.StatusRequestEntityTooLarge || !strings.Contains(e.Message, "limits.maxRequestBytes") {
		t.Errorf("answered %d %s", p.status, p.body)
	}
}

// Otherwise the server, and with it a call, would wait for another response.
func TestResponseOfAClientThatCannotBeReadEndsTheRequestOfTheServer(t *testing.T) {
	one := stdio(t, "one")
	one.Isolation = upstream.PerSession
	c := start(t, setup{specs: []upstream.Spec{one}}).connect()
	s := c.open(http.MethodPost, request("1", "tools/call",
		`{"name":"one__request","arguments":{"method":"elicitation/create","params":{}}}`))
	if status := c.respond(s.message(), `"result":{"action":NaN}`); status != http.StatusBadRequest {
		t.Errorf("the response: %d", status)
	}
	if m := s.message(); string(m.ID) != "1" || !strings.Contains(string(m.Encode()), "is not valid JSON") {
		t.Errorf("the call: %s", m.Encode())
	}
}
