package upstream

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.41.0"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

// telemetry is what the connections of a Pool report to.
type telemetry struct {
	*metrics
	onlooker
	log        *slog.Logger
	tracer     trace.Tracer
	propagator propagation.TextMapPropagator // nil: tracing is off, contexts stay as the client sent them
}

func newTelemetry(cfg Config) *telemetry {
	t := &telemetry{metrics: newMetrics(cfg.Registerer), log: cfg.Logger, propagator: cfg.Propagator}
	if cfg.OnMessage != nil {
		t.onlooker = onlooker{cfg.Watched, cfg.OnMessage}
	}
	if t.log == nil {
		t.log = slog.New(slog.DiscardHandler)
	}
	var tp trace.TracerProvider = noop.NewTracerProvider()
	if cfg.TracerProvider != nil {
		tp = cfg.TracerProvider
	}
	t.tracer = tp.Tracer("github.com/mcphub-go/mcphub/pkg/upstream")
	return t
}

// operation is the span and the measurement of one call.
type operation struct {
	tel     *telemetry
	ctx     context.Context //nolint:containedctx // of the span, for the exemplar
	span    trace.Span
	start   time.Time
	conn    *Conn
	request Request
}

// startCall begins the CLIENT span of a call.
func (t *telemetry) startCall(ctx context.Context, c *Conn, id jsonrpc.ID, req Request) (context.Context, operation) {
	name := MethodLabel(req.Method)
	if req.Target != "" {
		name += " " + req.Target
	}
	ctx, span := t.tracer.Start(ctx, name, trace.WithSpanKind(trace.SpanKindClient))
	if span.IsRecording() {
		span.SetAttributes(semconv.McpMethodNameKey.String(req.Method), semconv.JSONRPCRequestID(string(id)),
			attribute.String("mcphub.backend", c.spec.Name))
		span.SetAttributes(targetAttributes(req)...)
		span.SetAttributes(peerAttributes(c.spec)...)
		if v := c.init.ProtocolVersion; v != "" {
			span.SetAttributes(semconv.McpProtocolVersion(v))
		}
		if req.attempt > 0 {
			span.SetAttributes(attribute.Int("mcphub.attempt", req.attempt))
		}
	}
	t.inFlight.Inc()
	return ctx, operation{tel: t, ctx: ctx, span: span, start: time.Now(), conn: c, request: req}
}

func (o operation) end(response jsonrpc.Message, err error) {
	o.tel.inFlight.Dec()
	kind, fault := ErrorType(response, err), FaultOf(response, err)
	o.tel.outcomes.WithLabelValues(o.conn.spec.Name, string(fault)).Inc()
	if o.span.IsRecording() {
		o.span.SetAttributes(attribute.String("mcphub.fault", string(fault)))
	}
	if kind != "" && o.span.IsRecording() {
		o.span.SetAttributes(semconv.ErrorTypeKey.String(kind))
		text := kind
		switch {
		case err != nil:
			text = err.Error()
		case response.Error != nil:
			e := refusal(response.Error)
			text = e.Message
			o.span.SetAttributes(semconv.RPCResponseStatusCode(strconv.Itoa(e.Code)))
		}
		o.span.SetStatus(codes.Error, text)
	}
	o.span.End()
	tool := ""
	if o.request.Method == "tools/call" {
		tool = o.request.Target
	}
	Observe(o.ctx, o.tel.duration.WithLabelValues(MethodLabel(o.request.Method), tool, BoundErrorType(kind),
		networkTransport(o.conn.spec), o.conn.init.ProtocolVersion, o.conn.spec.Name), time.Since(o.start))
}

// startUpkeep begins the INTERNAL span of what the hub does on its own with a
// server. It belongs to no client's trace.
func (t *telemetry) startUpkeep(ctx context.Context, name, server string) (context.Context, trace.Span) {
	return t.tracer.Start(ctx, name, trace.WithNewRoot(), trace.WithAttributes(attribute.String("mcphub.backend", server))) //nolint:spancheck // ended by the caller
}

// startNotify begins the CLIENT span of a notification.
func (t *telemetry) startNotify(ctx context.Context, c *Conn, method string) (context.Context, trace.Span) {
	ctx, span := t.tracer.Start(ctx, MethodLabel(method), trace.WithSpanKind(trace.SpanKindClient))
	if span.IsRecording() {
		span.SetAttributes(semconv.McpMethodNameKey.String(method), attribute.String("mcphub.backend", c.spec.Name))
		span.SetAttributes(peerAttributes(c.spec)...)
	}
	return ctx, span
}

// startAsk begins the SERVER span of a request that a server sends. Its parent
// is what the server says, or the call that it belongs to.
func (t *telemetry) startAsk(ctx context.Context, c *Conn, of trace.SpanContext, m jsonrpc.Message) (context.Context, trace.Span) {
	if of.IsValid() {
		ctx = trace.ContextWithSpanContext(ctx, of)
	}
	if t.propagator != nil {
		ctx = ExtractMeta(ctx, t.propagator, m.Params)
	}
	ctx, span := t.tracer.Start(ctx, MethodLabel(m.Method), trace.WithSpanKind(trace.SpanKindServer))
	if span.IsRecording() {
		span.SetAttributes(semconv.McpMethodNameKey.String(m.Method), semconv.JSONRPCRequestID(string(m.ID)),
			attribute.String("mcphub.backend", c.spec.Name))
	}
	return ctx, span
}

// ExtractMeta returns ctx with the trace context of params._meta, if there is a
// valid one (SEP-414).
func ExtractMeta(ctx context.Context, p propagation.TextMapPropagator, params json.RawMessage) context.Context {
	fields, err := jsonrpc.Fields(params, "_meta")
	if err != nil || fields[0] == nil {
		return ctx
	}
	carrier := propagation.MapCarrier{}
	for _, key := range []string{"traceparent", "tracestate", "baggage"} {
		if v, ok := jsonrpc.StringField(fields[0], key); ok {
			carrier.Set(key, v)
		}
	}
	if carrier["traceparent"] == "" {
		return ctx
	}
	if remote := p.Extract(ctx, carrier); trace.SpanContextFromContext(remote).IsRemote() {
		return remote
	}
	return ctx
}

// endSpan ends a span that is no operation. kind is empty for a success.
func endSpan(span trace.Span, kind string, err error) {
	if kind != "" && span.IsRecording() {
		span.SetAttributes(semconv.ErrorTypeKey.String(kind))
		span.SetStatus(codes.Error, err.Error())
	}
	span.End()
}

func targetAttributes(req Request) []attribute.KeyValue {
	switch req.Method {
	case "tools/call":
		return []attribute.KeyValue{semconv.GenAIToolName(req.Target), semconv.GenAIOperationNameExecuteTool}
	case "prompts/get":
		return []attribute.KeyValue{semconv.GenAIPromptName(req.Target)}
	case "resources/read", "resources/subscribe", "resources/unsubscribe":
		if uri, ok := jsonrpc.StringField(req.Params, "uri"); ok {
			return []attribute.KeyValue{semconv.McpResourceURI(uri)}
		}
	}
	return nil
}

func peerAttributes(s Spec) []attribute.KeyValue {
	if s.URL == "" {
		return []attribute.KeyValue{semconv.NetworkTransportPipe}
	}
	attrs := []attribute.KeyValue{semconv.NetworkTransportTCP, semconv.NetworkProtocolName("http")}
	if u, err := url.Parse(s.URL); err == nil {
		attrs = append(attrs, semconv.ServerAddress(u.Hostname()))
		if port, err := strconv.Atoi(u.Port()); err == nil {
			attrs = append(attrs, semconv.ServerPort(port))
		}
	}
	return attrs
}

func networkTransport(s Spec) string {
	if s.URL == "" {
		return "pipe"
	}
	return "tcp"
}

// ErrorType classifies the outcome of a call for the attribute error.type, see
// the semantic conventions for MCP. It is empty for a success.
func ErrorType(response jsonrpc.Message, err error) string {
	switch _, isNet := errors.AsType[net.Error](err); {
	case err == nil && response.Error != nil:
		return strconv.Itoa(jsonrpc.ParseError(response.Error).Code)
	case err == nil && isToolError(response.Result):
		return "tool_error"
	case err == nil:
		return ""
	case errors.Is(err, ErrTimeout), errors.Is(err, errConnectTimeout):
		return "timeout"
	case errors.Is(err, ErrCancelled):
		return "cancelled"
	case errors.Is(err, ErrSessionGone):
		return "session_gone"
	case errors.Is(err, ErrDown):
		return "unavailable"
	case errors.Is(err, ErrLost), isNet:
		return "connection_lost"
	case errors.Is(err, ErrProtocol):
		return "backend_protocol_error"
	}
	return Other
}

// isToolError reports whether result has isError: true. Results are long, so
// they are parsed only if the word occurs.
func isToolError(result json.RawMessage) bool {
	if !bytes.Contains(result, []byte(`"isError"`)) {
		return false
	}
	fields, err := jsonrpc.Fields(result, "isError")
	return err == nil && string(fields[0]) == "true"
}

// BoundErrorType keeps the label of an error code from growing: servers choose
// codes freely.
func BoundErrorType(kind string) string {
	code, err := strconv.Atoi(kind)
	switch {
	case err != nil, -32700 <= code && code <= -32600:
		return kind
	case -32099 <= code && code <= -32000:
		return "-32000"
	}
	return Other
}

func (t *telemetry) injectHeader(ctx context.Context, h http.Header) {
	if t.propagator != nil {
		t.propagator.Inject(ctx, propagation.HeaderCarrier(h))
	}
}
