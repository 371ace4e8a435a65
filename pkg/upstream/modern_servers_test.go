package upstream

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

// client is a legacy client that answers server requests.
var client = Identity{ClientInfo: json.RawMessage(`{"name":"client","version":"1"}`),
	Capabilities: json.RawMessage(`{"elicitation":{},"roots":{"listChanged":true},"tasks":{}}`)}

func accepting() *recorder {
	return &recorder{answer: func(context.Context, jsonrpc.Message) (json.RawMessage, error) {
		return json.RawMessage(`{"action":"accept","content":{}}`), nil
	}}
}

func asLegacy(t testing.TB, e env, sink Sink) *Conn {
	t.Helper()
	c, err := e.openFor(t.Context(), sink, client, ServerSession{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.close(true) })
	return c
}

// ask calls a tool on behalf of sink and returns the text of its result.
func ask(t testing.TB, c caller, sink Sink, name string) string {
	t.Helper()
	req := toolCall(name, "")
	req.Sink = sink
	m, err := c.Call(t.Context(), req)
	if err != nil || m.Error != nil {
		t.Fatalf("%s: %s, %v", name, m.Error, err)
	}
	var result struct{ Content []struct{ Text string } }
	if err := json.Unmarshal(m.Result, &result); err != nil || len(result.Content) != 1 {
		t.Fatalf("%s answered %s", name, m.Result)
	}
	return result.Content[0].Text
}

func TestRealServersAreSpokenToInTheModernVersion(t *testing.T) {
	t.Parallel()
	everyModern(t, func(t *testing.T, spec Spec) {
		c := asLegacy(t, newEnv(t, spec), &recorder{})
		if init := c.Initialized(); !isModern(c) || !init.dual || !strings.Contains(string(init.ServerInfo), `"name":"`) {
			t.Fatalf("the server is known as %+v", init)
		}
		if b := c.serverSession(); b != (ServerSession{}) {
			t.Errorf("there is a session: %+v", b)
		}
		inv, err := readInventory(t.Context(), c)
		if err != nil || len(inv.Tools) != 6 || len(inv.Resources) != 1 {
			t.Errorf("it lists %v, %v", inv, err)
		}
		m, err := c.Call(t.Context(), Request{Method: "ping"})
		if err != nil || string(m.Result) != `{}` {
			t.Errorf("ping: %s, %v", m.Encode(), err)
		}
	})
}

func TestRealModernServersSendRequestsToALegacyClient(t *testing.T) {
	t.Parallel()
	everyModern(t, func(t *testing.T, spec Spec) {
		c := asLegacy(t, newEnv(t, spec), &recorder{})
		for name, want := range map[string]struct{ text, requests string }{
			"confirm": {`accept with "state <1>"`, "sure?"},
			"form":    {`accept with "two"`, "first second"},
		} {
			sink := accepting()
			if got := ask(t, c, sink, name); got != want.text {
				t.Errorf("%s: %q, want %q", name, got, want.text)
			}
			var requests []string
			for _, q := range sink.serverRequests() {
				message, _ := jsonrpc.StringField(q.Params, "message")
				requests = append(requests, message)
				if q.Method != "elicitation/create" {
					t.Errorf("%s asked %s", name, q.Method)
				}
			}
			if got := strings.Join(requests, " "); got != want.requests {
				t.Errorf("%s asked %q, want %q", name, got, want.requests)
			}
		}
	})
}

func TestRealModernServersReportChangesToALegacyClient(t *testing.T) {
	t.Parallel()
	everyModern(t, func(t *testing.T, spec Spec) {
		sink := &recorder{}
		c := asLegacy(t, newEnv(t, spec), sink)
		c.dialect().awaitListening(t.Context())
		has := func(method string) func() bool {
			return func() bool {
				for _, m := range sink.notifications() {
					if strings.Contains(string(m.Params), "subscriptionId") {
						t.Errorf("%s has the id of the hub's subscription: %s", m.Method, m.Params)
					}
					if m.Method == method {
						return true
					}
				}
				return false
			}
		}
		subscribe(t, c, "res://a")
		if spec.URL == "" || !strings.Contains(string(c.Initialized().ServerInfo), "mcp-go") { // which tells nothing of updates by HTTP
			ask(t, c, nil, "touch")
			hubtest.Eventually(t, "the update is reported", has("notifications/resources/updated"))
		}
		ask(t, c, nil, "grow")
		hubtest.Eventually(t, "the list change is reported", has("notifications/tools/list_changed"))
		m, err := c.Call(t.Context(), Request{Method: "resources/unsubscribe", Params: json.RawMessage(`{"uri":"res://a"}`)})
		if err != nil || string(m.Result) != `{}` {
			t.Errorf("unsubscribe: %s, %v", m.Encode(), err)
		}
	})
}

func subscribe(t testing.TB, c caller, uri string) {
	t.Helper()
	m, err := c.Call(t.Context(), Request{Method: "resources/subscribe", Params: json.RawMessage(`{"uri":"` + uri + `"}`)})
	if err != nil || string(m.Result) != `{}` {
		t.Fatalf("subscribe: %s, %v", m.Encode(), err)
	}
}

func TestRealModernServersReportProgressToALegacyClient(t *testing.T) {
	t.Parallel()
	everyModern(t, func(t *testing.T, spec Spec) {
		c := asLegacy(t, newEnv(t, spec), &recorder{})
		sink := &recorder{}
		req := Request{Method: "tools/call", Target: "greet", Sink: sink,
			Params: json.RawMessage(`{"name":"greet","arguments":{},"_meta":{"progressToken":"mine"}}`)}
		hubtest.Eventually(t, "progress is reported", func() bool { // mcp-go loses some of it
			if m, err := c.Call(t.Context(), req); err != nil || m.Error != nil {
				t.Fatalf("%s, %v", m.Encode(), err)
			}
			n := sink.notifications()
			return len(n) > 0 && string(field(t, n[0].Params, "progressToken")) == `"mine"`
		})
	})
}

func TestResultsForLegacyClientsHaveNothingOfTheModernEra(t *testing.T) {
	t.Parallel()
	everyModern(t, func(t *testing.T, spec Spec) {
		c := asLegacy(t, newEnv(t, spec), &recorder{})
		for _, req := range []Request{toolCall("greet", ""), {Method: "tools/list"}, {Method: "resources/list"},
			{Method: "resources/read", Params: json.RawMessage(`{"uri":"res://a"}`)}} {
			m, err := c.Call(t.Context(), req)
			if err != nil || m.Error != nil {
				t.Fatalf("%s: %s, %v", req.Method, m.Encode(), err)
			}
			for _, member := range []string{"resultType", "ttlMs", "cacheScope"} {
				if got := field(t, m.Result, member); got != nil {
					t.Errorf("%s: %s is %s", req.Method, member, got)
				}
			}
		}
		m, err := c.Call(t.Context(), Request{Method: "resources/read", Params: json.RawMessage(`{"uri":"res://absent"}`)})
		e := jsonrpc.ParseError(m.Error)
		if err != nil || (e.Data != nil && e.Code != -32002) || (e.Data == nil && e.Code != jsonrpc.CodeInvalidParams) {
			t.Errorf("a resource that is not there: %s, %v", m.Encode(), err)
		}
	})
}
