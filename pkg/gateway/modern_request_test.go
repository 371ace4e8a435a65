package gateway

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/catalog"
	"github.com/mcphub-go/mcphub/pkg/session"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

const (
	modernMeta = `{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}`
	futureMeta = `{"_meta":{"io.modelcontextprotocol/protocolVersion":"2099-01-01","io.modelcontextprotocol/clientCapabilities":{}}}`
)

func TestEraOfARequestFollowsFromItsHeadersAndMeta(t *testing.T) {
	r := start(t, setup{})
	c := r.connect()
	const modern, legacy = "Mcp-Protocol-Version: 2026-07-28", "Mcp-Protocol-Version: 2025-11-25"
	session := "Mcp-Session-Id: " + c.token
	for _, x := range []struct {
		name    string
		params  string
		headers []string
		status  int
		code    int
	}{
		{"modern throughout", modernMeta, []string{modern, "Mcp-Method: tools/list"}, 200, 0},
		{"modern with an unknown session", modernMeta, []string{modern, "Mcp-Method: tools/list", "Mcp-Session-Id: x"}, 200, 0},
		{"modern with a session", modernMeta, []string{modern, "Mcp-Method: tools/list", session}, 200, 0},
		{"a modern header alone", `{}`, []string{modern, "Mcp-Method: tools/list"}, 400, -32602},
		{"a modern header with a session", `{}`, []string{modern, session}, 400, -32602},
		{"modern _meta alone", modernMeta, []string{"Mcp-Method: tools/list"}, 400, -32020},
		{"modern _meta with a legacy header", modernMeta, []string{legacy, session}, 200, 0},
		{"modern _meta with a session and no header", modernMeta, []string{session}, 200, 0},
		{"a legacy header without a session", modernMeta, []string{legacy}, 400, -32600},
		{"an invalid version", modernMeta, []string{"Mcp-Protocol-Version: v999.0.0"}, 400, -32020},
		{"an unknown version in both places", futureMeta, []string{"Mcp-Protocol-Version: 2099-01-01"}, 400, -32022},
		{"no version at all", `{}`, nil, 400, -32600},
	} {
		p := r.send(http.MethodPost, request(`"é"`, "tools/list", x.params), x.headers...)
		m := p.response(t)
		code := 0
		if m.Error != nil {
			code = p.rpcError(t).Code
		}
		if p.status != x.status || code != x.code || string(m.ID) != `"é"` {
			t.Errorf("%s: %d %s", x.name, p.status, p.body)
		}
		if p.header.Get("Mcp-Session-Id") != "" {
			t.Errorf("%s: the session is echoed", x.name)
		}
	}
	if p := c.call("1", "ping", `{}`); p.status != 200 {
		t.Errorf("the session was affected: %d %s", p.status, p.body)
	}
	r.conserved(0)
}

func TestModernGETAndDELETEAreNotAllowed(t *testing.T) {
	r := start(t, setup{})
	c := r.connect()
	for _, method := range []string{http.MethodGet, http.MethodDelete} {
		for _, headers := range [][]string{{}, {"Mcp-Session-Id: " + c.token}, {"Accept: application/json"}} {
			p := r.send(method, "", append(headers, "Mcp-Protocol-Version: 2026-07-28")...)
			if p.status != http.StatusMethodNotAllowed || p.header.Get("Allow") != http.MethodPost {
				t.Errorf("%s %v: %d %q", method, headers, p.status, p.header.Get("Allow"))
			}
		}
	}
	if _, err := r.sessions.Get(t.Context(), c.id); err != nil {
		t.Errorf("the session is gone: %v", err)
	}
}

func TestRefusedModernRequestCreatesNothingAndIsCounted(t *testing.T) {
	st := newStub(t)
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one"), st.spec("two", "")}})
	meta := func(members string) string { return `{"name":"one__echo","_meta":{` + members + `}}` }
	const version, caps = `"io.modelcontextprotocol/protocolVersion":"2026-07-28"`, `"io.modelcontextprotocol/clientCapabilities":{}`
	good := meta(version + "," + caps)
	call := []string{"Mcp-Protocol-Version: 2026-07-28", "Mcp-Method: tools/call", "Mcp-Name: one__echo"}
	bare := func(method string) []string {
		return []string{"Mcp-Protocol-Version: 2026-07-28", "Mcp-Method: " + method}
	}
	refused := 0.0
	for _, x := range []struct {
		name, method, params string
		headers              []string
		status, code         int
		message              string
	}{
		{"no params", "tools/call", `{}`, call, 400, -32602, "protocolVersion"},
		{"no version in _meta", "tools/call", meta(caps), call, 400, -32602, "protocolVersion"},
		{"no capabilities in _meta", "tools/call", meta(version), call, 400, -32602, "clientCapabilities"},
		{"invalid capabilities", "tools/call", meta(version + `,"io.modelcontextprotocol/clientCapabilities":[]`), call, 400, -32602,
			"clientCapabilities"},
		{"invalid clientInfo", "tools/call", meta(version + "," + caps + `,"io.modelcontextprotocol/clientInfo":"x"`), call, 400, -32602,
			"clientInfo"},
		{"capabilities beyond the limit", "tools/call",
			meta(version + `,"io.modelcontextprotocol/clientCapabilities":{"x":"` + strings.Repeat("x", maxCapabilities) +
				`"}`), call, 400, -32602, "bytes"},
		{"an unknown log level", "tools/call", meta(version + "," + caps + `,"io.modelcontextprotocol/logLevel":"loud"`), call, 400,
			-32602, "log level"},
		{"an invalid _meta", "tools/call", `{"name":"one__echo","_meta":7}`, call, 400, -32602, "_meta"},
		{"another version in _meta", "tools/call", meta(`"io.modelcontextprotocol/protocolVersion":"2025-11-25",` + caps), call, 400,
			-32020, "differ"},
		{"an unknown version", "tools/list", futureMeta, []string{"Mcp-Protocol-Version: 2099-01-01"}, 400, -32022, "2026-07-28"},
		{"an unknown version with half a _meta", "tools/list", `{"_meta":{"io.modelcontextprotocol/protocolVersion":"2099-01-01"}}`,
			[]string{"Mcp-Protocol-Version: 2099-01-01"}, 400, -32022, "2026-07-28"},
		{"an unknown version without _meta", "tools/list", `{}`, []string{"Mcp-Protocol-Version: 2099-01-01"}, 400, -32022, "2026-07-28"},
		{"two versions", "tools/call", good, append([]string{"Mcp-Protocol-Version: 2025-11-25"}, call...), 400, -32600, "more than one"},
		{"two modern versions", "tools/call", good, append([]string{"Mcp-Protocol-Version: 2026-07-28"}, call...), 400, -32020,
			"more than one"},
		{"two methods", "tools/call", good, append([]string{"Mcp-Method: tools/call"}, call...), 400, -32020, "more than one"},
		{"no method", "tools/call", good, []string{call[0], call[2]}, 400, -32020, "Mcp-Method"},
		{"another method", "tools/call", good, []string{call[0], call[2], "Mcp-Method: Tools/Call"}, 400, -32020, "Mcp-Method"},
		{"no name", "tools/call", good, call[:2], 400, -32020, "Mcp-Name"},
		{"another name", "tools/call", good, append(slices.Clone(call[:2]), "Mcp-Name: one__weird"), 400, -32020, "Mcp-Name"},
		{"a name that is not base64", "tools/call", good, append(slices.Clone(call[:2]), "Mcp-Name: =?base64?!!?="), 400, -32020, "base64"},
		{"a param that differs", "tools/call", strings.Replace(good, `one__echo"`, `two__there","arguments":{"region":"eu"}`, 1),
			append(slices.Clone(call[:2]), "Mcp-Name: two__there", "Mcp-Param-Region: us"), 400, -32020, "Mcp-Param-Region"},
		{"a param that is missing", "tools/call", strings.Replace(good, `one__echo"`, `two__there","arguments":{"region":"eu"}`, 1),
			append(slices.Clone(call[:2]), "Mcp-Name: two__there"), 400, -32020, "Mcp-Param-Region"},
		{"initialize", "initialize", modernMeta, bare("initialize"), 404, -32601, "initialize"},
		{"ping", "ping", modernMeta, bare("ping"), 404, -32601, "ping"},
		{"logging/setLevel", "logging/setLevel", modernMeta, bare("logging/setLevel"), 404, -32601, "setLevel"},
		{"resources/subscribe", "resources/subscribe", modernMeta, bare("resources/subscribe"), 404, -32601, "subscribe"},
		{"resources/unsubscribe", "resources/unsubscribe", modernMeta, bare("resources/unsubscribe"), 404, -32601, "unsubscribe"},
		{"an unknown method", "no/such", modernMeta, bare("no/such"), 404, -32601, "no/such"},
		{"a listen without a filter", "subscriptions/listen", modernMeta, bare("subscriptions/listen"), 400, -32602, "notifications"},
	} {
		store := r.stored()
		p := r.send(http.MethodPost, request(`"r"`, x.method, x.params), x.headers...)
		e := p.rpcError(t)
		if p.status != x.status || e.Code != x.code || !strings.Contains(e.Message, x.message) {
			t.Errorf("%s: %d %s", x.name, p.status, p.body)
		}
		if string(p.response(t).ID) != `"r"` {
			t.Errorf("%s: the id is not echoed: %s", x.name, p.body)
		}
		if x.code == -32022 && !strings.Contains(string(e.Data), `"requested":"2099-01-01"`) {
			t.Errorf("%s: data %s", x.name, e.Data)
		}
		if got := r.stored(); !slices.Equal(got, store) {
			t.Errorf("%s: stored %v", x.name, got)
		}
		refused++
	}
	if got := r.metric("mcphub_messages_total", "hop", "downstream", "direction", "in", "kind", "request"); got != refused {
		t.Errorf("%v requests came in, want %v", got, refused)
	}
	if got := r.metric("mcphub_messages_total", "hop", "downstream", "direction", "out", "kind", "error"); got != refused {
		t.Errorf("%v errors went out, want %v", got, refused)
	}
	r.conserved(0)
	ended := 0.0
	for _, s := range r.spans.Ended() {
		if s.SpanKind().String() == "server" {
			ended++
		}
	}
	// the era of the request with two versions is unknown
	if started := len(r.spans.Started()); started != len(r.spans.Ended()) || ended != refused-1 {
		t.Errorf("%d spans were started, %d ended, %v of them served", started, len(r.spans.Ended()), ended)
	}
}

func TestModernEndpointTakesOneRequestAndNothingElse(t *testing.T) {
	r := start(t, setup{})
	const modern = "Mcp-Protocol-Version: 2026-07-28"
	for body, status := range map[string]int{
		`[` + request("1", "tools/list", modernMeta) + `]`: 400,
		`[]`:                                   400,
		`{"jsonrpc":"2.0","id":1,"result":{}}`: 400,
		`{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":""}}`:      400,
		`{"jsonrpc":"2.0","method":"notifications/cancelled"}`:          202,
		`{"jsonrpc":"2.0","method":"notifications/x","params":{"a":1}}`: 202,
	} {
		if p := r.send(http.MethodPost, body, modern); p.status != status || (status == 202 && p.body != "") {
			t.Errorf("%s: %d %s", body, p.status, p.body)
		}
	}
	if got := r.dropped("unsupported"); got != 2 {
		t.Errorf("%v notifications were dropped", got)
	}
	if got := r.metric("mcphub_messages_total", "hop", "downstream", "direction", "in"); got != 2 {
		t.Errorf("%v messages came in", got)
	}
	if got := r.metric("mcphub_unmatched_responses_total", "hop", "downstream"); got != 2 {
		t.Errorf("%v unmatched responses came in", got)
	}
	r.conserved(0)
}

func TestDiscoveryNamesTheCapabilitiesOfTheHub(t *testing.T) {
	for name, s := range map[string]setup{
		"prefixed":    {naming: catalog.Prefix},
		"bare":        {naming: catalog.Bare},
		"transparent": {naming: catalog.Bare, gateway: func(c *Config) { c.Transparent = true }},
		"isolated":    {naming: catalog.Bare, gateway: func(c *Config) { c.Transparent = true }},
	} {
		t.Run(name, func(t *testing.T) {
			one := stdio(t, "one")
			if name == "isolated" {
				one.Isolation = upstream.PerSession
			}
			s.specs = []upstream.Spec{one}
			r := start(t, s)
			p := r.modern(`{}`).call(`"d"`, "server/discover", `{}`)
			var d struct {
				ResultType        string
				SupportedVersions []string
				Capabilities      map[string]json.RawMessage
				Instructions      string
				TTL               *int `json:"ttlMs"`
				CacheScope        string
				Meta              map[string]struct{ Name, Version string } `json:"_meta"`
			}
			if err := json.Unmarshal(p.response(t).Result, &d); err != nil || p.status != 200 {
				t.Fatalf("%d %s: %v", p.status, p.body, err)
			}
			if d.ResultType != "complete" || d.TTL == nil || d.CacheScope != "private" ||
				!strings.Contains(d.Instructions, "Be kind to one.") {
				t.Errorf("discovered %s", p.body)
			}
			if d.Meta["io.modelcontextprotocol/serverInfo"].Name != "mcphub" {
				t.Errorf("_meta %v", d.Meta)
			}
			for _, want := range []string{"tools", "prompts", "resources", "logging", "completions"} {
				if d.Capabilities[want] == nil {
					t.Errorf("no %s in %s", want, p.body)
				}
			}
			if d.Capabilities["tasks"] != nil || (d.Capabilities["experimental"] != nil) == (s.gateway == nil) {
				t.Errorf("capabilities %v", d.Capabilities)
			}
			refused := r.send(http.MethodPost, request("1", "tools/list", futureMeta), "Mcp-Protocol-Version: 2099-01-01").rpcError(t)
			var data struct{ Supported []string }
			if err := json.Unmarshal(refused.Data, &data); err != nil || len(data.Supported) == 0 {
				t.Errorf("data %s: %v", refused.Data, err)
			}
			for _, v := range data.Supported {
				if !slices.Contains(d.SupportedVersions, v) {
					t.Errorf("%s is supported, but is not in the result of server/discover: %v", v, d.SupportedVersions)
				}
			}
		})
	}
}

func TestModernRequestsAreShownAsADerivedSession(t *testing.T) {
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one")}})
	c := r.modern(`{}`, "X-Mcp-Cwd: /src").with(`,"io.modelcontextprotocol/clientInfo":{"name":"ann","version":"3"}`)
	for i := range 3 {
		if p := c.tool(fmt.Sprint(i), "one__echo", `{}`); p.status != 200 || p.header.Get("Mcp-Session-Id") != "" {
			t.Errorf("%d %v", p.status, p.header)
		}
	}
	all, _ := r.sessions.All()
	if len(all) != 1 || all[0].Kind != session.Derived || all[0].ClientName != "ann" || all[0].ClientVersion != "3" ||
		all[0].Cwd != "/src" || all[0].ProtocolVersion != "2026-07-28" {
		t.Errorf("sessions: %+v", all)
	}
	if stored := r.stored(); len(stored) != 0 {
		t.Errorf("stored %v", stored)
	}
	for _, s := range r.spans.Ended() {
		for _, a := range s.Attributes() {
			if a.Key == "mcp.session.id" {
				t.Errorf("the span %q has %v", s.Name(), a)
			}
		}
	}
}
