package instrument

import (
	"context"
	"strings"

	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// Spans begins the spans of JSON-RPC messages. It creates their options once. With tracing off it allocates nothing: it
// makes neither a span name nor a context.
type Spans struct {
	tracer         trace.Tracer
	off            bool       // tracer is a no-op tracer
	noop           trace.Span // the span of all messages if off
	client, server []trace.SpanStartOption
}

// NewSpans returns a Spans that uses tracer.
func NewSpans(tracer trace.Tracer) Spans {
	_, off := tracer.(noop.Tracer)
	return Spans{tracer: tracer, off: off, noop: noop.Span{},
		client: []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindClient)},
		server: []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindServer)}}
}

// Client begins the span of a message that the hub sends. target is the tool or prompt and may be empty.
func (s *Spans) Client(ctx context.Context, method, target string) (context.Context, trace.Span) {
	return s.start(ctx, method, target, s.client)
}

// Server begins the span of a message that the hub receives. target is the tool or prompt and may be empty.
func (s *Spans) Server(
	ctx context.Context, method, target string, more ...trace.SpanStartOption,
) (context.Context, trace.Span) {
	options := s.server
	if len(more) > 0 {
		options = append(more, options...)
	}
	return s.start(ctx, method, target, options)
}

func (s *Spans) start(
	ctx context.Context, method, target string, options []trace.SpanStartOption,
) (context.Context, trace.Span) {
	if s.off {
		return ctx, s.noop
	}
	if target != "" {
		method += " " + target
	}
	return s.tracer.Start(ctx, method, options...) //nolint:spancheck // ended by the caller
}

const maxAttribute = 256 // bytes of a span attribute that a peer has chosen

// AttributeText returns the first maxAttribute bytes of a text that a peer has chosen, as valid UTF-8, for a span
// attribute. Invalid bytes are removed.
func AttributeText(s string) string {
	return strings.ToValidUTF8(s[:min(len(s), maxAttribute)], "")
}
