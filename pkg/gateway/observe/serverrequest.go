package observe

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
	"github.com/mcphub-go/mcphub/pkg/session"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

// StartServerRequest begins the CLIENT span of a request to the client of session s, and puts its context into the
// _meta of the request. It returns a context with the span, which EndServerRequest ends.
func (t *Telemetry) StartServerRequest(ctx context.Context, s session.Session, m *jsonrpc.Message) context.Context {
	ctx, span := t.spans.Client(ctx, instrument.MethodLabel(m.Method), "")
	if span.IsRecording() {
		span.SetAttributes(semconv.McpMethodNameKey.String(instrument.MethodLabel(m.Method)), semconv.JSONRPCRequestID(string(m.ID)),
			semconv.NetworkTransportTCP, semconv.NetworkProtocolName("http"),
			semconv.McpSessionID(s.ID), semconv.McpProtocolVersion(s.ProtocolVersion))
		if s.IP != "" { // of initialize; the port changes from request to request
			span.SetAttributes(semconv.ServerAddress(s.IP))
		}
	}
	m.Params = instrument.InjectMeta(ctx, t.propagator, m.Params) // nil propagator: the connection to the server has checked them
	return ctx
}

// EndServerRequest ends the span that StartServerRequest began at start, and records the duration. The hub is the
// client of this operation, and the label of the server is empty. answered reports whether err is the error that the
// client answered with, not the reason why there is no answer.
func (t *Telemetry) EndServerRequest(ctx context.Context, s session.Session, method string, start time.Time, answered bool, err error) {
	span, kind := trace.SpanFromContext(ctx), serverRequestError(ctx, answered, err)
	t.requested.Observe(ctx, instrument.Operation{Method: instrument.MethodLabel(method),
		ErrorType: instrument.ErrorTypeLabel(kind), Transport: "tcp",
		Version: instrument.VersionLabel(s.ProtocolVersion)}, "", time.Since(start))
	if span.IsRecording() {
		span.SetAttributes(instrument.FaultAttribute(upstream.FaultOfServerRequest(ctx, err)))
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

// serverRequestError returns the error.type of a request to a client; an empty string for a result.
func serverRequestError(ctx context.Context, answered bool, err error) string {
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
