package instrument

import (
	"context"
	"log/slog"
	"strings"

	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// Spans begins spans of JSON-RPC messages. It makes their options once, and with
// tracing off it does nothing: no name, no context.
type Spans struct {
	tracer         trace.Tracer
	off            bool
	none           trace.Span
	client, server []trace.SpanStartOption
}

// NewSpans returns a Spans of tracer.
func NewSpans(tracer trace.Tracer) Spans {
	_, off := tracer.(noop.Tracer)
	return Spans{tracer: tracer, off: off, none: noop.Span{},
		client: []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindClient)},
		server: []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindServer)}}
}

// Client begins the span of a message that the hub sends. Target, which may be
// empty, is the tool or prompt.
func (s *Spans) Client(ctx context.Context, method, target string) (context.Context, trace.Span) {
	return s.start(ctx, method, target, s.client)
}

// Server begins the span of a message that the hub gets, which may have more
// options.
func (s *Spans) Server(ctx context.Context, method, target string, more ...trace.SpanStartOption) (context.Context, trace.Span) {
	options := s.server
	if len(more) > 0 {
		options = append(more, options...)
	}
	return s.start(ctx, method, target, options)
}

func (s *Spans) start(ctx context.Context, method, target string, options []trace.SpanStartOption) (context.Context, trace.Span) {
	if s.off {
		return ctx, s.none
	}
	if target != "" {
		method += " " + target
	}
	return s.tracer.Start(ctx, method, options...) //nolint:spancheck // ended by the caller
}

// LevelTrace is the log level below DEBUG: one record for each message.
const LevelTrace = slog.LevelDebug - 4

// AttributeText returns the first 256 bytes of a text that a peer has chosen, as valid UTF-8, for
// an attribute.
func AttributeText(s string) string {
	const limit = 256 // bytes
	if len(s) > limit {
		s = strings.ToValidUTF8(s[:limit], "")
	}
	return s
}
