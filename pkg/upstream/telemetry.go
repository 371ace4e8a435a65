package upstream

import (
	"cmp"
	"context"
	"log/slog"
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

	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
)

// telemetry is what the connections of a Pool report to.
type telemetry struct {
	*metrics
	instrument.Tap
	log        *slog.Logger
	tracer     trace.Tracer
	propagator propagation.TextMapPropagator // nil: tracing is off, see CheckedContext
	spans      instrument.Spans
	baggage    []string // keys that go on
}

func newTelemetry(cfg Config) *telemetry {
	t := &telemetry{metrics: newMetrics(cfg.Registerer, cfg.ToolLabels), log: cfg.Logger, propagator: cfg.Propagator, baggage: cfg.Baggage}
	if cfg.OnMessage != nil {
		t.Tap = instrument.NewTap(cfg.Watched, cfg.OnMessage)
	}
	if t.log == nil {
		t.log = slog.New(slog.DiscardHandler)
	}
	var tp trace.TracerProvider = noop.NewTracerProvider()
	if cfg.TracerProvider != nil {
		tp = cfg.TracerProvider
	}
	t.tracer = tp.Tracer("github.com/mcphub-go/mcphub/pkg/upstream")
	t.spans = instrument.NewSpans(t.tracer)
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
	ctx, span := t.spans.Client(ctx, instrument.MethodLabel(req.Method), req.Target)
	if span.IsRecording() {
		attrs := make([]attribute.KeyValue, 0, 16)
		attrs = append(attrs, semconv.McpMethodNameKey.String(instrument.MethodLabel(req.Method)), semconv.JSONRPCRequestID(string(id)),
			attribute.String("mcphub.backend", c.spec.Name), instrument.FaultAttribute(instrument.FaultNone))
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

func (o operation) end(response jsonrpc.Message, err error) {
	kind, fault := ErrorType(response, err), FaultOf(response, err)
	o.conn.own.outcomes[string(fault)].Inc()
	if fault != instrument.FaultNone && o.span.IsRecording() { // else it stands there from the start
		o.span.SetAttributes(instrument.FaultAttribute(fault))
	}
	if kind != "" && o.span.IsRecording() {
		o.span.SetAttributes(semconv.ErrorTypeKey.String(kind))
		text := kind
		switch {
		case err != nil:
			text = instrument.Redacted(err)
		case response.Error != nil:
			text = instrument.RedactedResponse(response)
			o.span.SetAttributes(semconv.RPCResponseStatusCode(kind))
		}
		o.span.SetStatus(codes.Error, text)
	}
	o.span.End()
	if log := o.conn.log; log.Enabled(o.ctx, instrument.LevelTrace) {
		log.Log(o.ctx, instrument.LevelTrace, "call of the server", "method", instrument.MethodLabel(o.request.Method), "target", o.request.Target, "attempt", o.request.attempt,
			"fault", string(fault), "error_type", kind, "took", time.Since(o.start).String())
	}
	o.conn.own.calls.Observe(o.ctx, instrument.Operation{Method: o.request.Method, Tool: o.request.Target, ErrorType: kind,
		Transport: networkTransport(o.conn.spec), Version: o.conn.version()}, time.Since(o.start))
}

// startUpkeep begins the INTERNAL span of what the hub does on its own with a
// server. It belongs to no client's trace.
func (t *telemetry) startUpkeep(ctx context.Context, name, server string) (context.Context, trace.Span) {
	return t.tracer.Start(ctx, name, trace.WithNewRoot(), trace.WithAttributes(attribute.String("mcphub.backend", server))) //nolint:spancheck // ended by the caller
}

// startNotify begins the CLIENT span of a notification.
func (t *telemetry) startNotify(ctx context.Context, c *Conn, method, session string) (context.Context, trace.Span) {
	ctx, span := t.spans.Client(ctx, instrument.MethodLabel(method), "")
	if span.IsRecording() {
		attrs := make([]attribute.KeyValue, 0, 12)
		attrs = append(attrs, semconv.McpMethodNameKey.String(instrument.MethodLabel(method)), attribute.String("mcphub.backend", c.spec.Name))
		attrs = append(attrs, c.peer...)
		span.SetAttributes(c.appendPart(attrs, session, c.modern())...)
	}
	return ctx, span
}

// endNotify ends the span of a notification.
func endNotify(span trace.Span, err error) {
	if span.IsRecording() {
		span.SetAttributes(instrument.FaultAttribute(FaultOf(jsonrpc.Message{}, err)))
	}
	endSpan(span, ErrorType(jsonrpc.Message{}, err), err)
}

// endSpan ends a span that is no operation. kind is empty for a success.
func endSpan(span trace.Span, kind string, err error) {
	if kind != "" && span.IsRecording() {
		span.SetAttributes(semconv.ErrorTypeKey.String(kind))
		span.SetStatus(codes.Error, instrument.Redacted(err))
	}
	span.End()
}

func appendTarget(attrs []attribute.KeyValue, req Request) []attribute.KeyValue {
	switch req.Method {
	case protocol.MethodToolsCall:
		return append(attrs, semconv.GenAIToolName(req.Target), semconv.GenAIOperationNameExecuteTool)
	case protocol.MethodPromptsGet:
		return append(attrs, semconv.GenAIPromptName(req.Target))
	case protocol.MethodResourcesRead, protocol.MethodResourcesSubscribe, protocol.MethodResourcesUnsubscribe:
		if uri, ok := jsonrpc.StringField(req.Params, "uri"); ok {
			return append(attrs, semconv.McpResourceURI(instrument.AttributeText(instrument.RedactedURI(uri))))
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

func (t *telemetry) injectHeader(ctx context.Context, h http.Header) {
	if t.propagator != nil {
		t.propagator.Inject(ctx, instrument.HeaderCarrier(h))
	}
}
