package upstream

import (
	"cmp"
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.41.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
)

// callSpan is the span and the measurement of one call.
type callSpan struct {
	tel     *connTelemetry
	ctx     context.Context //nolint:containedctx // of the span, for the exemplar
	span    trace.Span
	start   time.Time
	request Request
}

// startCall begins the CLIENT span of a call. Modern says whether the request is one of the modern era.
func (c *connTelemetry) startCall(ctx context.Context, id jsonrpc.ID, req Request, modern bool) (context.Context, callSpan) {
	ctx, span := c.spans.Client(ctx, instrument.MethodLabel(req.Method), req.Target)
	if span.IsRecording() {
		attrs := make([]attribute.KeyValue, 0, 16)
		attrs = append(attrs, semconv.McpMethodNameKey.String(instrument.MethodLabel(req.Method)), semconv.JSONRPCRequestID(string(id)),
			attribute.String("mcphub.backend", c.server), instrument.FaultAttribute(instrument.FaultNone))
		attrs = appendTarget(attrs, req)
		attrs = append(attrs, c.asServer...)
		attrs = c.appendContext(attrs, cmp.Or(req.session, c.session), modern)
		if req.attempt > 0 {
			attrs = append(attrs, attribute.Int("mcphub.attempt", req.attempt))
		}
		span.SetAttributes(attrs...)
	}
	return ctx, callSpan{tel: c, ctx: ctx, span: span, start: time.Now(), request: req}
}

// end ends the span and measures the call.
func (s callSpan) end(response jsonrpc.Message, err error) {
	kind, fault := ErrorType(response, err), FaultOf(response, err)
	s.tel.own.outcomes[string(fault)].Inc()
	if fault != instrument.FaultNone && s.span.IsRecording() { // FaultNone was set at the start
		s.span.SetAttributes(instrument.FaultAttribute(fault))
	}
	if kind != "" && s.span.IsRecording() {
		s.span.SetAttributes(semconv.ErrorTypeKey.String(kind))
		text := kind
		switch {
		case err != nil:
			text = instrument.Redacted(err)
		case response.Error != nil:
			text = instrument.RedactedResponse(response)
			s.span.SetAttributes(semconv.RPCResponseStatusCode(kind))
		}
		s.span.SetStatus(codes.Error, text)
	}
	s.span.End()
	method := s.request.Method
	if log := s.tel.log; log.Enabled(s.ctx, instrument.LevelTrace) {
		log.Log(s.ctx, instrument.LevelTrace, "call of the server", "method", instrument.MethodLabel(method), "target", s.request.Target,
			"attempt", s.request.attempt, "fault", string(fault), "error_type", kind, "took", time.Since(s.start).String())
	}
	s.tel.own.calls.Observe(s.ctx, instrument.Operation{Method: method, Tool: s.request.Target, ErrorType: kind,
		Transport: s.tel.network, Version: s.tel.version()}, time.Since(s.start))
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

// startNotification begins the CLIENT span of a notification to the server.
func (c *connTelemetry) startNotification(ctx context.Context, method, session string, modern bool) (context.Context, trace.Span) {
	ctx, span := c.spans.Client(ctx, instrument.MethodLabel(method), "")
	if span.IsRecording() {
		attrs := make([]attribute.KeyValue, 0, 12)
		attrs = append(attrs, semconv.McpMethodNameKey.String(instrument.MethodLabel(method)), attribute.String("mcphub.backend", c.server))
		attrs = append(attrs, c.asServer...)
		span.SetAttributes(c.appendContext(attrs, session, modern)...)
	}
	return ctx, span
}

// endNotification ends the span of a notification to the server and measures it.
func (c *connTelemetry) endNotification(ctx context.Context, span trace.Span, method string, took time.Duration, err error) {
	if span.IsRecording() {
		span.SetAttributes(instrument.FaultAttribute(FaultOf(jsonrpc.Message{}, err)))
	}
	endSpan(span, err)
	c.own.calls.Observe(ctx, instrument.Operation{Method: method, ErrorType: ErrorType(jsonrpc.Message{}, err), Transport: c.network,
		Version: c.version()}, took)
}
