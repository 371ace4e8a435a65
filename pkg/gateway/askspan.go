package gateway

import (
	"context"
	"errors"
	"strconv"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.41.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

// startAsk begins the CLIENT span of a question to a client, and puts it into
// the question.
func (t *telemetry) startAsk(ctx context.Context, cs *clientSession, m *jsonrpc.Message) (context.Context, trace.Span) {
	ctx, span := t.tracer.Start(ctx, upstream.MethodLabel(m.Method), trace.WithSpanKind(trace.SpanKindClient))
	if span.IsRecording() {
		span.SetAttributes(semconv.McpMethodNameKey.String(clip(m.Method)), semconv.JSONRPCRequestID(string(m.ID)),
			semconv.NetworkTransportTCP, semconv.NetworkProtocolName("http"),
			semconv.McpSessionID(cs.id), semconv.McpProtocolVersion(cs.opened.ProtocolVersion))
		if cs.opened.IP != "" { // of initialize; the port changes from request to request
			span.SetAttributes(semconv.ServerAddress(cs.opened.IP))
		}
	}
	if t.propagator == nil {
		m.Params = upstream.CheckedContext(m.Params, t.baggage)
	} else {
		m.Params = upstream.InjectMeta(ctx, t.propagator, m.Params)
	}
	return ctx, span
}

// endAsk ends the span of a question. answered: err is the client's own answer,
// not the reason why there is none.
func (t *telemetry) endAsk(ctx context.Context, span trace.Span, answered bool, err error) {
	if span.IsRecording() {
		span.SetAttributes(attribute.String("mcphub.fault", string(upstream.FaultOfQuestion(err))))
	}
	if err != nil && span.IsRecording() {
		e := jsonrpc.AsError(err)
		kind := strconv.Itoa(e.Code)
		switch {
		case answered:
			span.SetAttributes(semconv.RPCResponseStatusCode(kind))
		case ctx.Err() == nil:
			kind = "unavailable"
		case errors.Is(context.Cause(ctx), upstream.ErrTimeout), errors.Is(context.Cause(ctx), context.DeadlineExceeded):
			kind = "timeout"
		default:
			kind = "cancelled"
		}
		span.SetAttributes(semconv.ErrorTypeKey.String(kind))
		span.SetStatus(codes.Error, clip(e.Message))
	}
	span.End()
}
