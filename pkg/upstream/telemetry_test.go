package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/instrument/instrumenttest"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/upstream/transport"
)

// traced is a server whose calls are recorded.
func traced(t testing.TB, spec Spec) (env, *tracetest.SpanRecorder) {
	t.Helper()
	spans := tracetest.NewSpanRecorder()
	return newEnv(t, spec, func(c *Config) {
		c.TracerProvider = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))
		c.Propagator = propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{})
	}), spans
}

// span finds the last span of that name.
func span(t testing.TB, spans *tracetest.SpanRecorder, name string) sdktrace.ReadOnlySpan {
	t.Helper()
	var found sdktrace.ReadOnlySpan
	for _, s := range spans.Ended() {
		if s.Name() == name {
			found = s
		}
	}
	if found == nil {
		t.Fatalf("there is no span %q", name)
	}
	return found
}

func attributes(s sdktrace.ReadOnlySpan) map[string]string {
	have := map[string]string{}
	for _, a := range s.Attributes() {
		have[string(a.Key)] = a.Value.Emit()
	}
	return have
}

func TestCallIsAClientSpan(t *testing.T) {
	t.Parallel()
	h := newHTTPScript(t)
	e, spans := traced(t, h.spec())
	c := e.connect(t, nil)
	ctx, parent := e.tel.tracer.Start(t.Context(), "server span")
	if _, err := c.Call(ctx, toolCall("echo", "")); err != nil {
		t.Fatal(err)
	}
	parent.End()
	s := span(t, spans, "tools/call echo")
	if s.SpanKind() != trace.SpanKindClient || s.Parent().SpanID() != parent.SpanContext().SpanID() || s.Status().Code != codes.Unset {
		t.Errorf("kind %v, parent %v, status %v", s.SpanKind(), s.Parent(), s.Status())
	}
	host, port, _ := strings.Cut(strings.TrimPrefix(h.URL, "http://"), ":")
	have := attributes(s)
	for key, want := range map[string]string{
		"mcp.method.name": "tools/call", "gen_ai.tool.name": "echo", "gen_ai.operation.name": "execute_tool",
		"mcp.protocol.version": "2025-11-25", "network.transport": "tcp", "network.protocol.name": "http",
		"server.address": host, "server.port": port, "mcphub.backend": "web",
	} {
		if have[key] != want {
			t.Errorf("%s = %q, want %q", key, have[key], want)
		}
	}
	sent, err := jsonrpc.Parse([]byte(h.sent("POST", "tools/call")[0].body))
	if err != nil || have["jsonrpc.request.id"] != string(sent.ID) {
		t.Errorf("jsonrpc.request.id = %q, want %s", have["jsonrpc.request.id"], sent.ID)
	}
	for key, v := range have {
		if strings.Contains(v, "secret-session") {
			t.Errorf("%s = %q has the session of the server", key, v)
		}
	}
}

func TestSpansOfOtherMethodsNameTheirTarget(t *testing.T) {
	t.Parallel()
	e, spans := traced(t, childSpec(t, "script"))
	c := e.connect(t, nil)
	for _, req := range []Request{
		{Method: "prompts/get", Target: "ask", Params: json.RawMessage(`{"name":"ask"}`)},
		{Method: "resources/read", Params: json.RawMessage(`{"uri":"file://user:secret@host/a?k=secret#secret"}`)},
		{Method: "vendor/secret-method", Params: json.RawMessage(`{}`)},
	} {
		if _, err := c.Call(t.Context(), req); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]attribute.KeyValue{
		"prompts/get ask": attribute.String("gen_ai.prompt.name", "ask"),
		"resources/read":  attribute.String("mcp.resource.uri", "file://host/a"),
		instrument.Other:  attribute.String("mcp.method.name", instrument.Other),
		"initialize":      attribute.String("network.transport", "pipe"),
	} {
		have := attributes(span(t, spans, name))
		if have[string(want.Key)] != want.Value.Emit() {
			t.Errorf("%s has %v, want %s=%s", name, have, want.Key, want.Value.Emit())
		}
		if _, ok := have["gen_ai.operation.name"]; ok {
			t.Errorf("%s has an operation name", name)
		}
	}
}

func TestFailuresAreErrorsOfTheSpanAndOfTheMetric(t *testing.T) {
	t.Parallel()
	spec := childSpec(t, "script")
	e, spans := traced(t, spec)
	e.tools.set([]json.RawMessage{[]byte(`{"name":"rawError"}`), []byte(`{"name":"fail"}`), []byte(`{"name":"hold"}`)})
	c := e.connect(t, nil)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for i, test := range []struct {
		ctx                         context.Context
		tool, args                  string
		kind, label, status, errors string
	}{
		{t.Context(), "rawError", `{"text":"{\"code\":-32603,\"message\":\"boom\"}"}`, "-32603", "-32603", "error -32603", "-32603"},
		{t.Context(), "rawError", `{"text":"{\"code\":-32042,\"message\":\"mine\"}"}`, "-32042", "-32000", "error -32042", "-32042"},
		{t.Context(), "rawError", `{"text":"{\"code\":123456,\"message\":\"odd\"}"}`, "123456", instrument.Other, "error 123456", "123456"},
		{t.Context(), "fail", ``, "tool_error", "tool_error", "tool_error", ""},
		{cancelled, "hold", ``, "cancelled", "cancelled", `server "child" was told that the request is cancelled: context canceled`, ""},
	} {
		_, _ = c.Call(test.ctx, toolCall(test.tool, test.args))
		s := span(t, spans, "tools/call "+test.tool)
		have := attributes(s)
		if s.Status().Code != codes.Error || s.Status().Description != test.status || have["error.type"] != test.kind ||
			have["rpc.response.status_code"] != test.errors {
			t.Errorf("%s: status %v, attributes %v", test.kind, s.Status(), have)
		}
		if n := instrumenttest.Value(t, e.reg, "mcp_client_operation_duration_seconds", "error_type", test.label, "mcp_method_name", "tools/call",
			"gen_ai_tool_name", test.tool, "network_transport", "pipe", "mcp_protocol_version", "2025-11-25", "mcphub_backend", "child"); n != 1 {
			t.Errorf("%s: %v observations with error_type %s", test.kind, n, test.label)
		}
		if after := instrumenttest.Value(t, e.reg, "mcp_client_operation_duration_seconds", "mcp_method_name",
			"tools/call"); after != float64(i+1) {
			t.Errorf("%s: %v observations after %d calls", test.kind, after, i+1)
		}
	}
}

func TestErrorTypesOfCallsWithoutAResponse(t *testing.T) {
	t.Parallel()
	for err, want := range map[error]string{
		ErrDown: "unavailable", ErrTimeout: "timeout", ErrLost: "connection_lost", transport.ErrProtocol: "backend_protocol_error",
		transport.ErrSessionGone: "session_gone", ErrCancelled: "cancelled", transport.ErrConnectTimeout: "timeout",
		errors.New("x"): instrument.Other,
	} {
		if got := ErrorType(jsonrpc.Message{}, serverError("s", err)); got != want || instrument.ErrorTypeLabel(got) != want {
			t.Errorf("ErrorType(%v) = %q, want %q", err, got, want)
		}
	}
}

// The server's spans must be children of the hub's CLIENT span.
func TestServerGetsTheContextOfTheClientSpan(t *testing.T) {
	t.Parallel()
	h := newHTTPScript(t)
	e, spans := traced(t, h.spec())
	c := e.connect(t, nil)
	callers := `{"name":"echo","arguments":{},"_meta":{"x":1.0,"traceparent":"00-11111111111111111111111111111111-2222222222222222-01",` +
		`"tracestate":"a=b","baggage":"user=ada"}}`
	if _, err := c.Call(t.Context(), Request{Method: "tools/call", Target: "echo", Params: json.RawMessage(callers)}); err != nil {
		t.Fatal(err)
	}
	sc := span(t, spans, "tools/call echo").SpanContext()
	want := "00-" + sc.TraceID().String() + "-" + sc.SpanID().String() + "-01"
	r := h.sent("POST", "tools/call")[0]
	m, err := jsonrpc.Parse([]byte(r.body))
	if err != nil {
		t.Fatal(err)
	}
	if got := string(field(t, m.Params, "_meta")); got != `{"x":1.0,"traceparent":"`+want+`"}` {
		t.Errorf("_meta = %s, want traceparent %s and nothing of the caller's", got, want)
	}
	if got := r.header.Get("Traceparent"); got != want {
		t.Errorf("the header is %s, want %s", got, want)
	}

	if _, err := c.Call(t.Context(), Request{Method: "ping"}); err != nil {
		t.Fatal(err)
	}
	sc = span(t, spans, "ping").SpanContext()
	if body := h.sent("POST", `"ping"`)[0].body; !strings.Contains(body,
		`"params":{"_meta":{"traceparent":"00-`+sc.TraceID().String()+"-"+sc.SpanID().String()+`-01"}}`) {
		t.Errorf("a request without params is sent as %s", body)
	}
}

func TestTraceContextsOfClientsAreForwardedWithoutAPropagator(t *testing.T) {
	t.Parallel()
	h := newHTTPScript(t)
	e := newEnv(t, h.spec(), func(c *Config) {
		c.TracerProvider = sdktrace.NewTracerProvider()
		c.Baggage = []string{"user"}
	})
	c := e.connect(t, nil)
	params := `{"name":"echo", "_meta":{"traceparent":"00-11111111111111111111111111111111-2222222222222222-01","baggage":"user=ada"}}`
	if _, err := c.Call(t.Context(), Request{Method: "tools/call", Params: json.RawMessage(params)}); err != nil {
		t.Fatal(err)
	}
	r := h.sent("POST", "tools/call")[0]
	if !strings.Contains(r.body, `"params":`+params) {
		t.Errorf("the server got %s", r.body)
	}
	if got := r.header.Get("Traceparent"); got != "" {
		t.Errorf("the header is %q", got)
	}
}

func TestCancellationIsPartOfTheTraceOfItsCall(t *testing.T) {
	t.Parallel()
	h := newHTTPScript(t)
	e, spans := traced(t, h.spec())
	c := e.connect(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := c.Call(ctx, toolCall("hold", ""))
		done <- err
	}()
	hubtest.Eventually(t, "the call is under way", func() bool { return h.dispatched(`"hold"`) == 1 })
	cancel()
	_ = wait(t, "the call returns", done)
	hubtest.Eventually(t, "the server gets the cancellation", func() bool { return h.dispatched("notifications/cancelled") == 1 })
	hubtest.Eventually(t, "the notification has its span", func() bool {
		return slices.ContainsFunc(spans.Ended(), func(s sdktrace.ReadOnlySpan) bool { return s.Name() == "notifications/cancelled" })
	})
	sc := span(t, spans, "notifications/cancelled").SpanContext()
	if parent := span(t, spans, "notifications/cancelled").Parent(); parent.SpanID() != span(t, spans,
		"tools/call hold").SpanContext().SpanID() {
		t.Errorf("the parent is %v", parent)
	}
	if body := h.sent("POST", "notifications/cancelled")[0].body; !strings.Contains(body, sc.TraceID().String()+"-"+sc.SpanID().String()) {
		t.Errorf("the cancellation is sent as %s", body)
	}
}

func TestMethodLabelsAreBounded(t *testing.T) {
	t.Parallel()
	e := newEnv(t, newHTTPScript(t).spec())
	c := e.connect(t, nil)
	for _, method := range []string{"vendor/a", "vendor/b", "tools/call/", "TOOLS/CALL"} {
		if _, err := c.Call(t.Context(), Request{Method: method}); err != nil {
			t.Fatal(err)
		}
	}
	if n := instrumenttest.Value(t, e.reg, "mcp_client_operation_duration_seconds", "mcp_method_name", instrument.Other); n != 4 {
		t.Errorf("%v calls are labelled %s", n, instrument.Other)
	}
	if instrument.MethodLabel("tools/call") != "tools/call" || instrument.MethodLabel("") != instrument.Other {
		t.Error("MethodLabel is wrong")
	}
}
