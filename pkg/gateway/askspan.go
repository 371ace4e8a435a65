package gateway

import (
	"context"
	"errors"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.41.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

// startAsk begins the CLIENT span of a question to a client, and puts it into
// the question.
func (t *telemetry) startAsk(ctx context.Context, cs *clientSession, m *jsonrpc.Message) (context.Context, trace.Span) {
	ctx, span := t.spans.Client(ctx, instrument.MethodLabel(m.Method), "")
	if span.IsRecording() {
		span.SetAttributes(semconv.McpMethodNameKey.String(instrument.MethodLabel(m.Method)), semconv.JSONRPCRequestID(string(m.ID)),
			semconv.NetworkTransportTCP, semconv.NetworkProtocolName("http"),
			semconv.McpSessionID(cs.id), semconv.McpProtocolVersion(cs.opened.ProtocolVersion))
		if cs.opened.IP != "" { // of initialize; the port changes from request to request
			span.SetAttributes(semconv.ServerAddress(cs.opened.IP))
		}
	}
	m.Params = instrument.InjectMeta(ctx, t.propagator, m.Params) // with tracing off, what may go on was looked at where it came from
	return ctx, span
}

// endAsk ends what startAsk began at start, and measures it: the hub is the client
// there, and the label that names servers is empty. answered: err is the client's
// own answer, not the reason why there is none.
func (t *telemetry) endAsk(ctx context.Context, cs *clientSession, method string, start time.Time, answered bool, err error) {
	span, kind := trace.SpanFromContext(ctx), askError(ctx, answered, err)
	t.asked.Observe(ctx, instrument.Operation{Method: instrument.MethodLabel(method), ErrorType: instrument.ErrorTypeLabel(kind), Transport: "tcp",
		Version: instrument.VersionLabel(cs.opened.ProtocolVersion)}, "", time.Since(start))
	if span.IsRecording() {
		span.SetAttributes(instrument.FaultAttribute(upstream.FaultOfQuestion(ctx, err)))
		if answered && err != nil {
			span.SetAttributes(semconv.RPCResponseStatusCode(kind))
		}
		if err != nil {
			span.SetAttributes(semconv.ErrorTypeKey.String(kind))
			span.SetStatus(codes.Error, instrument.Redacted(err))
		}
	}
	span.End()
}

// askError is the error.type of a question; empty if it was answered with a result.
func askError(ctx context.Context, answered bool, err error) string {
	switch {
	case err == nil:
		return ""
	case answered:
		return strconv.Itoa(jsonrpc.AsError(err).Code)
	case ctx.Err() == nil:
		return "unavailable"
	case errors.Is(context.Cause(ctx), upstream.ErrTimeout), errors.Is(context.Cause(ctx), context.DeadlineExceeded):
		return "timeout"
	}
	return "cancelled"
}
