package spans

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
)

// How the hub handles the contexts that clients send: W3C Trace Context and Baggage.

// sentContext is the context that a client sends.
type sentContext struct {
	name         string
	meta, header map[string]string
}

// contexts returns all kinds of contexts. caller is the parent that _meta names,
// header the one that the HTTP header names.
func contexts(caller, header tracedCase) []sentContext {
	one := func(key, value string) map[string]string { return map[string]string{key: value} }
	parent := caller.traceparent()
	return []sentContext{
		{"in _meta and in the header", one("traceparent", parent), one("Traceparent", header.traceparent())},
		{"in the header", nil, one("Traceparent", header.traceparent())},
		{"the same in both", one("traceparent", parent), one("Traceparent", parent)},
		{"none", nil, nil},
		{"junk in _meta, one in the header", one("traceparent", "junk"), one("Traceparent", header.traceparent())},
		{"one in _meta, junk in the header", one("traceparent", parent), one("Traceparent", "00-junk")},
		{"junk in both", one("traceparent", strings.ToUpper(parent)), one("Traceparent", strings.Replace(parent, "00-", "ff-", 1))},
		{"tracestate", map[string]string{"traceparent": parent, "tracestate": "a=b,c=d"}, nil},
		{"bad tracestate", map[string]string{"traceparent": parent, "tracestate": "= ,"}, nil},
		{"baggage", map[string]string{"traceparent": parent, "baggage": "user=ada,tenant=7"}, nil},
		{"oversize baggage", map[string]string{"traceparent": parent, "baggage": "tenant=" + strings.Repeat("x", 9000)}, nil},
		{"bad baggage", map[string]string{"traceparent": parent, "baggage": "tenant"}, nil},
		{"baggage in the header", nil, map[string]string{"Traceparent": header.traceparent(), "Baggage": "user=ada,tenant=7"}},
	}
}

// sendMessage sends a message with a context.
func sendMessage(t *testing.T, c *hubtest.LegacyClient, id, method string, params map[string]any, x sentContext) {
	t.Helper()
	if x.meta != nil {
		params["_meta"] = x.meta
	}
	body, err := json.Marshal(params)
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.URL,
		strings.NewReader(fmt.Sprintf(`{"jsonrpc":"2.0",%s"method":%q,"params":%s}`, id, method, body)))
	if err != nil {
		t.Fatal(err)
	}
	for key, value := range map[string]string{"Content-Type": "application/json", "Accept": "application/json, text/event-stream",
		"Mcp-Session-Id": c.Token, "Mcp-Protocol-Version": c.Version} {
		r.Header.Set(key, value)
	}
	for key, value := range x.header {
		r.Header.Set(key, value)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if body, err := io.ReadAll(response.Body); err != nil || response.StatusCode/100 != 2 {
		t.Errorf("%s: %d %s %v", x.name, response.StatusCode, body, err)
	}
}

// sendAll sends a request and a notification with each context to a server to which
// the session has its own connection, and returns what the server received.
func sendAll(t *testing.T, hub *hubtest.Hub, all []sentContext, server *received) (c *hubtest.LegacyClient, got []string) {
	t.Helper()
	c = hubtest.Connect(t, hub.URL())
	c.Request("tools/call", `{"name":"web__era"}`) // this opens the connection
	for _, x := range all {
		before := len(server.all(t))
		sendMessage(t, c, `"id":1,`, "tools/call", map[string]any{"name": "web__era"}, x)
		sendMessage(t, c, "", "notifications/roots/list_changed", map[string]any{}, x)
		messages := server.all(t)[before:]
		text := "# " + x.name + "\n"
		for _, m := range messages {
			text += m.method
			for _, key := range []string{"traceparent", "tracestate", "baggage"} {
				if m.meta[key] != nil {
					text += fmt.Sprintf(" %s=%s", key, m.meta[key])
				}
				if value := m.header.Get(key); value != "" {
					text += fmt.Sprintf(" %s:%s", strings.ToUpper(key), value)
				}
			}
			text += "\n"
		}
		got = append(got, text)
	}
	return c, got
}

func TestWhatBecomesOfTheContextsOfClients(t *testing.T) {
	for _, parent := range []string{"remote", "link", "ignore"} {
		t.Run(parent, func(t *testing.T) {
			r := newTraced(t)
			config := "tracing: {baggage: [tenant]}\nnaming: prefix\nmcpServers:\n" + r.recordedWeb("web", "", false)
			hub := hubtest.StartHub(t, hubtest.Options{Config: config, Args: []string{"--trace-parent", parent}})
			hub.AwaitServers(1)
			caller, header := r.begin("", ""), r.begin("", "")
			r.names[header.spanID] = "the header"
			_, got := sendAll(t, hub, contexts(caller, header), r.servers[0])
			r.finish("", hub)

			spans := r.collector.Spans()
			f := newForest(spans, r.names)
			f.parents = true
			served := r.collector.Find(func(s *hubtest.Span) bool {
				return s.IsServer() && (s.Name == "tools/call web__era" || s.Name == "notifications/roots/list_changed")
			})[1:] // the first call opened the connection
			if len(served) != 2*len(got) {
				t.Fatalf("%d spans for %d messages", len(served), 2*len(got))
			}
			var b strings.Builder
			for i, text := range got {
				for _, s := range served[2*i : 2*i+2] {
					if s.Name == "tools/call web__era" && len(f.children[id(s.SpanId)]) != 1 {
						t.Errorf("%s has no CLIENT span", s.Name)
					}
					f.write(&b, bare(s), "")
					for _, c := range f.children[id(s.SpanId)] {
						text = strings.ReplaceAll(text, "00-"+id(c.TraceId)+"-"+id(c.SpanId)+"-01", "<the CLIENT span>")
						if id(c.TraceId) != id(s.TraceId) {
							t.Errorf("%s is of another trace", c.Name)
						}
					}
				}
				b.WriteString("the server got\n" + text[strings.Index(text, "\n")+1:] + "\n")
				heading := text[:strings.Index(text, "\n")+1]
				compared := heading + b.String()
				b.Reset()
				got[i] = compared
			}
			compareTrees(t, "context_"+parent, strings.Join(got, ""))
		})
	}
}

// bare returns the span without attributes and, for the forest, without children.
func bare(s *hubtest.Span) *hubtest.Span {
	return &hubtest.Span{Service: s.Service, Scope: s.Scope, Span: &tracepb.Span{SpanId: []byte("childless"),
		Name: s.Name, Kind: s.Kind, TraceId: s.TraceId, ParentSpanId: s.ParentSpanId, TraceState: s.TraceState,
		Links: s.Links, Status: s.Status}}
}

func TestWithoutTracingValidContextsGoThroughAndOthersDoNot(t *testing.T) {
	r := newTraced(t)
	t.Setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "")
	config := "tracing: {baggage: [tenant]}\nnaming: prefix\nmcpServers:\n" + r.recordedWeb("web", "", false)
	hub := hubtest.StartHub(t, hubtest.Options{Config: config})
	hub.AwaitServers(1)
	caller, header := r.begin("", ""), r.begin("", "")
	_, got := sendAll(t, hub, contexts(caller, header), r.servers[0])
	text := strings.ReplaceAll(strings.Join(got, "\n"), caller.traceparent(), "<the caller>")
	compareTrees(t, "context_off", text)
	if n := len(r.collector.Spans()); n > 0 {
		t.Errorf("%d spans without tracing", n)
	}
}
