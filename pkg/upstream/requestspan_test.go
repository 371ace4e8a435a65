package upstream

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/baggage"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
	"github.com/mcphub-go/mcphub/pkg/instrument/instrumenttest"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

// requestsFirst is a server that sends a request of its own before it answers a request of that method.
func requestsFirst(method, question string) func(*httpScript) {
	return func(h *httpScript) {
		h.stateful = false
		h.onPost = func(w http.ResponseWriter, r *http.Request, m jsonrpc.Message) bool {
			if m.Method != method {
				return false
			}
			w.Header().Set("Content-Type", "text/event-stream")
			writeEvent(w, "", question)
			writeEvent(w, "", `{"jsonrpc":"2.0","id":`+string(m.ID)+`,`+h.handle(r.Context(), m, nil)+`}`)
			return true
		}
	}
}

// This is for the race detector: the handshake is not finished yet.
func TestServerRequestDuringTheHandshakeIsTraced(t *testing.T) {
	t.Parallel()
	h := newHTTPScript(t, requestsFirst("initialize", `{"jsonrpc":"2.0","id":"q","method":"roots/list"}`))
	e, spans := traced(t, h.spec())
	for range 20 {
		c := e.connect(t, &recorder{})
		if v := c.tel.version(); v != "2025-11-25" {
			t.Errorf("the version is %q", v)
		}
		c.close(true)
	}
	if have := attributes(span(t, spans, "notifications/initialized")); have["mcp.protocol.version"] != "2025-11-25" {
		t.Errorf("notifications/initialized has %v", have)
	}
	span(t, spans, "roots/list")
}

func TestBaggageOfAServerGoesToNoClientUnlessAllowed(t *testing.T) {
	t.Parallel()
	h := newHTTPScript(t, requestsFirst("tools/call", `{"jsonrpc":"2.0","id":"q","method":"roots/list","params":{"_meta":{`+
		`"traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01","baggage":"user=alice,tier=gold"}}}`))
	e, _ := traced(t, h.spec())
	e.tel.baggage = []string{"tier"}
	got := make(chan baggage.Baggage, 1)
	req := toolCall("echo", "")
	req.Sink = &recorder{answer: func(ctx context.Context, _ jsonrpc.Message) (json.RawMessage, error) {
		got <- baggage.FromContext(ctx)
		return json.RawMessage(`{"roots":[]}`), nil
	}}
	if _, err := e.connect(t, nil).Call(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	if b := wait(t, "the client is asked", got); b.String() != "tier=gold" {
		t.Errorf("the client would get the baggage %q, want tier=gold", b)
	}
}

func TestCancelledServerRequestIsTheServersFault(t *testing.T) {
	t.Parallel()
	h := newHTTPScript(t, requestsFirst("tools/call", `{"jsonrpc":"2.0","id":"q","method":"roots/list"}`))
	e, spans := traced(t, h.spec())
	c := e.connect(t, nil)
	asked := make(chan struct{})
	req := toolCall("echo", "")
	req.Sink = &recorder{answer: func(ctx context.Context, _ jsonrpc.Message) (json.RawMessage, error) {
		close(asked)
		<-ctx.Done()
		return nil, jsonrpc.Errorf(jsonrpc.CodeInternal, "the client did not answer: %v", context.Cause(ctx))
	}}
	if _, err := c.Call(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	wait(t, "the client is asked", asked)
	receive(c, jsonrpc.Message{Method: "notifications/cancelled", Params: json.RawMessage(`{"requestId":"q"}`)})
	hubtest.Eventually(t, "the request ends", func() bool {
		return instrumenttest.Value(t, e.reg, "mcphub_requests_cancelled_total", "direction", "in", "reason", "withdrawn") == 1
	})
	if have := attributes(span(t, spans, "roots/list")); have["mcphub.fault"] != "backend" || have["error.type"] != "cancelled" {
		t.Errorf("the span has %v, want the fault backend", have)
	}
}

func TestParamsThatCannotBeSentAreTheCallersFault(t *testing.T) {
	t.Parallel()
	e, spans := traced(t, newHTTPScript(t).spec())
	c := e.connect(t, nil)
	_, err := c.Call(t.Context(), Request{Method: "tools/call", Target: "echo", Params: json.RawMessage(`{"name":"echo","_meta":5}`)})
	if jsonrpc.AsError(err).Code != jsonrpc.CodeInvalidParams {
		t.Fatalf("got %v", err)
	}
	have := attributes(span(t, spans, "tools/call echo"))
	if have["mcphub.fault"] != "client" || have["error.type"] != "-32602" || have["rpc.response.status_code"] != "" {
		t.Errorf("the span has %v", have)
	}
	if n := instrumenttest.Value(t, e.reg, "mcphub_backend_operations_total", "fault", "backend"); n != 0 {
		t.Errorf("%v operations failed by the server's doing, which was not asked", n)
	}
}

// serverContext is the trace context that a server may put into _meta of any message.
const serverContext = `"_meta":{"traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01","baggage":"user=alice,tier=gold"}`

func TestNotificationOfAServerKeepsNoBaggageUnlessAllowed(t *testing.T) {
	t.Parallel()
	for name, tracing := range map[string]bool{"on": true, "off": false} {
		h := newHTTPScript(t, requestsFirst("tools/call",
			`{"jsonrpc":"2.0","method":"notifications/message","params":{"data":"x",`+serverContext+`}}`))
		e := newEnv(t, h.spec())
		if tracing {
			e, _ = traced(t, h.spec())
		}
		e.tel.baggage = []string{"tier"}
		sink := &recorder{}
		req := toolCall("echo", "")
		req.Sink = sink
		if _, err := e.connect(t, nil).Call(t.Context(), req); err != nil {
			t.Fatal(err)
		}
		want := strings.Replace(`{"data":"x",`+serverContext+`}`, "user=alice,", "", 1)
		if told := sink.notifications(); len(told) != 1 || string(told[0].Params) != want {
			t.Errorf("tracing %s: the client was told %s, want %s", name, told, want)
		}
	}
}

// For a request inside of a result there is no other span of the hub to continue.
func TestServerRequestCarriesTheSpanInWhichItIsForwarded(t *testing.T) {
	t.Parallel()
	h := newHTTPScript(t, requestsFirst("tools/call",
		`{"jsonrpc":"2.0","id":"q","method":"elicitation/create","params":{"message":"m",`+serverContext+`}}`))
	e, spans := traced(t, h.spec())
	got := make(chan json.RawMessage, 1)
	req := toolCall("echo", "")
	req.Sink = &recorder{answer: func(_ context.Context, m jsonrpc.Message) (json.RawMessage, error) {
		got <- m.Params
		return json.RawMessage(`{"action":"decline"}`), nil
	}}
	if _, err := e.connect(t, nil).Call(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	params := wait(t, "the client is asked", got)
	hubtest.Eventually(t, "the span ends", func() bool { return len(spans.Ended()) >= 4 })
	id := span(t, spans, "elicitation/create").SpanContext().SpanID().String()
	if !strings.Contains(string(params), id) || strings.Contains(string(params), "b7ad6b7169203331") ||
		strings.Contains(string(params), "alice") {
		t.Errorf("the client is asked %s, want the span %s", params, id)
	}
}

// A server must not use an id twice; but if it does, the last request is the one that it cancels.
func TestServerRequestWithAnIDInUseCanBeCancelled(t *testing.T) {
	t.Parallel()
	e := newEnv(t, newHTTPScript(t).spec())
	first := make(chan struct{})
	c := e.connect(t, &recorder{answer: func(ctx context.Context, m jsonrpc.Message) (json.RawMessage, error) {
		if string(m.Params) == `{"n":1}` {
			<-first
			return json.RawMessage(`{}`), nil
		}
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}})
	for _, n := range []string{"1", "2"} {
		receive(c, jsonrpc.Message{ID: `"q"`, Method: "roots/list", Params: json.RawMessage(`{"n":` + n + `}`)})
	}
	close(first)
	hubtest.Eventually(t, "the first is answered", func() bool {
		c.background.mu.Lock()
		defer c.background.mu.Unlock()
		return c.requests.waiting.used == 1
	})
	receive(c, jsonrpc.Message{Method: "notifications/cancelled", Params: json.RawMessage(`{"requestId":"q"}`)})
	hubtest.Eventually(t, "the second ends", func() bool {
		return instrumenttest.Value(t, e.reg, "mcphub_requests_in_flight", "direction", "in") == 0
	})
	if n := instrumenttest.Value(t, e.reg, "mcphub_requests_cancelled_total", "direction", "in", "reason", "withdrawn"); n != 1 {
		t.Errorf("%v requests were withdrawn, want 1", n)
	}
}
