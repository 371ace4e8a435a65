package upstream

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
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
	propagator propagation.TextMapPropagator // nil: tracing is off, see CheckedContext
	spans      Spans
	baggage    []string // keys that go on
}

func newTelemetry(cfg Config) *telemetry {
	t := &telemetry{metrics: newMetrics(cfg.Registerer, cfg.ToolLabels), log: cfg.Logger, propagator: cfg.Propagator, baggage: cfg.Baggage}
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
	t.spans = NewSpans(t.tracer)
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
	ctx, span := t.spans.Client(ctx, MethodLabel(req.Method), req.Target)
	if span.IsRecording() {
		attrs := make([]attribute.KeyValue, 0, 16)
		attrs = append(attrs, semconv.McpMethodNameKey.String(MethodLabel(req.Method)), semconv.JSONRPCRequestID(string(id)),
			attribute.String("mcphub.backend", c.spec.Name), FaultAttribute(FaultNone))
		attrs = appendTarget(attrs, req)
		attrs = append(attrs, c.peer...)
		attrs = c.appendPart(attrs, cmp.Or(req.session, c.session), req.stamped || c.modern())
		if req.attempt > 0 {
			attrs = append(attrs, attribute.Int("mcphub.attempt", req.attempt))
		}
		span.SetAttributes(attrs...)
	}
	return ctx, operation{tel: t, ctx: ctx, span: span, start: time.Now(), conn: c, request: req}
}

// levelTrace is below DEBUG: a record for each call.
const levelTrace = slog.LevelDebug - 4

func (o operation) end(response jsonrpc.Message, err error) {
	kind, fault := ErrorType(response, err), FaultOf(response, err)
	o.conn.own.outcomes[string(fault)].Inc()
	if fault != FaultNone && o.span.IsRecording() { // else it stands there from the start
		o.span.SetAttributes(FaultAttribute(fault))
	}
	if kind != "" && o.span.IsRecording() {
		o.span.SetAttributes(semconv.ErrorTypeKey.String(kind))
		text := kind
		switch {
		case err != nil:
			text = Discreet(err)
		case response.Error != nil:
			text = DiscreetResponse(response)
			o.span.SetAttributes(semconv.RPCResponseStatusCode(kind))
		}
		o.span.SetStatus(codes.Error, text)
	}
	o.span.End()
	if log := o.conn.log; log.Enabled(o.ctx, levelTrace) {
		log.Log(o.ctx, levelTrace, "call of the server", "method", MethodLabel(o.request.Method), "target", o.request.Target, "attempt", o.request.attempt,
			"fault", string(fault), "error_type", kind, "took", time.Since(o.start).String())
	}
	o.conn.own.calls.Observe(o.ctx, Operation{Method: o.request.Method, Tool: o.request.Target, ErrorType: kind,
		Transport: networkTransport(o.conn.spec), Version: o.conn.version()}, time.Since(o.start))
}

// startUpkeep begins the INTERNAL span of what the hub does on its own with a
// server. It belongs to no client's trace.
func (t *telemetry) startUpkeep(ctx context.Context, name, server string) (context.Context, trace.Span) {
	return t.tracer.Start(ctx, name, trace.WithNewRoot(), trace.WithAttributes(attribute.String("mcphub.backend", server))) //nolint:spancheck // ended by the caller
}

// startNotify begins the CLIENT span of a notification.
func (t *telemetry) startNotify(ctx context.Context, c *Conn, method, session string) (context.Context, trace.Span) {
	ctx, span := t.spans.Client(ctx, MethodLabel(method), "")
	if span.IsRecording() {
		attrs := make([]attribute.KeyValue, 0, 12)
		attrs = append(attrs, semconv.McpMethodNameKey.String(MethodLabel(method)), attribute.String("mcphub.backend", c.spec.Name))
		attrs = append(attrs, c.peer...)
		span.SetAttributes(c.appendPart(attrs, session, c.modern())...)
	}
	return ctx, span
}

// ExtractMeta returns ctx with the trace context of params._meta, if there is a
// valid one (SEP-414).
func ExtractMeta(ctx context.Context, p propagation.TextMapPropagator, params json.RawMessage) context.Context {
	meta, err := jsonrpc.Field(params, "_meta")
	if err != nil || meta == nil {
		return ctx
	}
	if remote := p.Extract(ctx, metaReader(meta)); trace.SpanContextFromContext(remote).IsRemote() {
		return remote
	}
	return ctx
}

// endNotify ends the span of a notification.
func endNotify(span trace.Span, err error) {
	if span.IsRecording() {
		span.SetAttributes(FaultAttribute(FaultOf(jsonrpc.Message{}, err)))
	}
	endSpan(span, ErrorType(jsonrpc.Message{}, err), err)
}

// endSpan ends a span that is no operation. kind is empty for a success.
func endSpan(span trace.Span, kind string, err error) {
	if kind != "" && span.IsRecording() {
		span.SetAttributes(semconv.ErrorTypeKey.String(kind))
		span.SetStatus(codes.Error, Discreet(err))
	}
	span.End()
}

func appendTarget(attrs []attribute.KeyValue, req Request) []attribute.KeyValue {
	switch req.Method {
	case "tools/call":
		return append(attrs, semconv.GenAIToolName(req.Target), semconv.GenAIOperationNameExecuteTool)
	case "prompts/get":
		return append(attrs, semconv.GenAIPromptName(req.Target))
	case "resources/read", "resources/subscribe", "resources/unsubscribe":
		if uri, ok := jsonrpc.StringField(req.Params, "uri"); ok {
			return append(attrs, semconv.McpResourceURI(clipText(DiscreetURI(uri))))
		}
	}
	return attrs
}

// peerAttributes are what all spans of calls to a server have in common.
func peerAttributes(s Spec) []attribute.KeyValue {
	attrs := transportAttributes(s)
	if u, err := url.Parse(s.URL); err == nil && s.URL != "" {
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
	if refusal, ok := errors.AsType[*jsonrpc.Error](err); ok { // of the hub itself
		return strconv.Itoa(refusal.Code)
	}
	return Other
}

// isToolError reports whether result has isError: true. Results are long, so
// they are parsed only if the word occurs.
func isToolError(result json.RawMessage) bool {
	if !bytes.Contains(result, []byte(`"isError"`)) {
		return false
	}
	is, err := jsonrpc.Field(result, "isError")
	return err == nil && string(is) == "true"
}

// BoundErrorType keeps the label of an error code from growing: servers choose
// codes freely. Those that JSON-RPC defines stay, those of its range for servers
// become -32000, all others Other.
func BoundErrorType(kind string) string {
	if kind == "" {
		return "" // most are, and the error of Atoi would be an allocation
	}
	code, err := strconv.Atoi(kind)
	switch {
	case err != nil, code == jsonrpc.CodeParse, -32603 <= code && code <= -32600: // which JSON-RPC defines
		return kind
	case -32099 <= code && code <= -32000:
		return "-32000"
	}
	return Other
}

func (t *telemetry) injectHeader(ctx context.Context, h http.Header) {
	if t.propagator != nil {
		t.propagator.Inject(ctx, HeaderCarrier(h))
	}
}

// clipText bounds a text that strangers have chosen, for an attribute.
func clipText(s string) string {
	const limit = 256 // bytes
	if len(s) > limit {
		s = strings.ToValidUTF8(s[:limit], "")
	}
	return s
}
