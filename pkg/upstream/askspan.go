package upstream

import (
	"context"
	"errors"
	"net/url"
	"strconv"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.41.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
)

// askedFor is the call that a question of a server belongs to: its context,
// with its span, and the public id of the session it is made for. Both may be unknown.
type askedFor struct {
	ctx     context.Context //nolint:containedctx // nil: there is no call
	session string
}

// startAsk begins the SERVER span of a request that a server sends. Its parent
// is what the server says, or the call that it belongs to.
func (t *telemetry) startAsk(ctx context.Context, c *Conn, of askedFor, m jsonrpc.Message) (context.Context, trace.Span) {
	if of.ctx != nil {
		ctx = trace.ContextWithSpanContext(ctx, trace.SpanContextFromContext(of.ctx))
	}
	if t.propagator != nil {
		ctx = instrument.WithAllowedBaggage(instrument.ExtractMeta(ctx, t.propagator, m.Params), t.baggage)
	}
	ctx, span := t.spans.Server(ctx, instrument.MethodLabel(m.Method), "")
	if span.IsRecording() {
		attrs := append(askerAttributes(c.spec), semconv.McpMethodNameKey.String(instrument.MethodLabel(m.Method)), semconv.JSONRPCRequestID(instrument.AttributeText(string(m.ID))),
			attribute.String("mcphub.backend", c.spec.Name))
		span.SetAttributes(c.appendPart(attrs, of.session, false)...)
	}
	return ctx, span
}

// endAsk ends the span of a question of a server. A question that the server
// should not have asked is no error of the hub, whose span this is.
func endAsk(ctx context.Context, span trace.Span, err error) {
	if span.IsRecording() {
		span.SetAttributes(instrument.FaultAttribute(FaultOfQuestion(ctx, err)))
	}
	if err != nil && span.IsRecording() {
		e := jsonrpc.AsError(err)
		kind := strconv.Itoa(e.Code)
		if errors.Is(context.Cause(ctx), errWithdrawn) {
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

// appendPart says in which protocol version the server is spoken to and, if that is
// none without sessions, which session of a client it is spoken to for.
func (c *Conn) appendPart(attrs []attribute.KeyValue, session string, modern bool) []attribute.KeyValue {
	if modern {
		return append(attrs, semconv.McpProtocolVersion(protocol.ModernVersion))
	}
	if v := c.version(); v != "" {
		attrs = append(attrs, semconv.McpProtocolVersion(v))
	}
	if session != "" {
		attrs = append(attrs, semconv.McpSessionID(session))
	}
	return attrs
}

// askerAttributes are peerAttributes for a span in which the server is the one
// that asks, and so the client.
func askerAttributes(s Spec) []attribute.KeyValue {
	attrs := transportAttributes(s)
	if u, err := url.Parse(s.URL); err == nil && s.URL != "" {
		attrs = append(attrs, semconv.ClientAddress(u.Hostname()))
		if port, err := strconv.Atoi(u.Port()); err == nil {
			attrs = append(attrs, semconv.ClientPort(port))
		}
	}
	return attrs
}

func transportAttributes(s Spec) []attribute.KeyValue {
	if s.URL == "" {
		return []attribute.KeyValue{semconv.NetworkTransportPipe}
	}
	return []attribute.KeyValue{semconv.NetworkTransportTCP, semconv.NetworkProtocolName("http")}
}

// answeredBy notes the version of HTTP that the server has answered in.
func answeredBy(ctx context.Context, major, minor int) {
	if span := trace.SpanFromContext(ctx); span.IsRecording() {
		version := strconv.Itoa(major)
		if major == 1 {
			version += "." + strconv.Itoa(minor)
		}
		span.SetAttributes(semconv.NetworkProtocolVersion(version))
	}
}
