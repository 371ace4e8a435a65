package upstream

import (
	"context"
	"errors"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.41.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

// startServerRequest begins the SERVER span of a request that the server sends. Its parent is the span in the request's
// _meta, or else that of the call that the request belongs to.
func (c *connTelemetry) startServerRequest(ctx context.Context, of origin, m jsonrpc.Message) (context.Context, trace.Span) {
	if of.ctx != nil {
		ctx = trace.ContextWithSpanContext(ctx, trace.SpanContextFromContext(of.ctx))
	}
	if c.propagator != nil {
		ctx = instrument.WithAllowedBaggage(instrument.ExtractMeta(ctx, c.propagator, m.Params), c.baggage)
	}
	method := instrument.MethodLabel(m.Method)
	ctx, span := c.spans.Server(ctx, method, "")
	if span.IsRecording() {
		attrs := append([]attribute.KeyValue(nil), c.asClient...)
		attrs = append(attrs, semconv.McpMethodNameKey.String(method),
			semconv.JSONRPCRequestID(instrument.AttributeText(string(m.ID))), attribute.String("mcphub.backend", c.server))
		span.SetAttributes(c.appendContext(attrs, of.session, false)...)
	}
	return ctx, span
}

// endServerRequest ends the span of a server request. A request that the server should not have sent is no error of
// the hub, whose span this is.
func endServerRequest(ctx context.Context, span trace.Span, err error) {
	if span.IsRecording() {
		span.SetAttributes(instrument.FaultAttribute(FaultOfServerRequest(ctx, err)))
	}
	if err != nil && span.IsRecording() {
		e := jsonrpc.AsError(err)
		kind := strconv.Itoa(e.Code)
		if errors.Is(context.Cause(ctx), errRequestCancelled) {
			kind = "cancelled" // and there is no response
		} else {
			span.SetAttributes(semconv.RPCResponseStatusCode(kind))
		}
		if kind == "cancelled" || !instrument.IsCallerFault(e.Code) {
			span.SetAttributes(semconv.ErrorTypeKey.String(kind))
			span.SetStatus(codes.Error, instrument.Redacted(e))
		}
	}
	span.End()
}

// observeReceived measures a request or notification of the server.
func (c *connTelemetry) observeReceived(ctx context.Context, method, errorType string, took time.Duration) {
	c.received.Observe(ctx, instrument.Operation{Method: instrument.MethodLabel(method), ErrorType: errorType,
		Transport: c.network, Version: c.version()}, "", took)
}
