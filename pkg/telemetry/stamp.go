package telemetry

import (
	"context"
	"errors"
	"log/slog"
	"slices"

	"go.opentelemetry.io/otel/trace"
)

const (
	sessionKey  = "session"
	upstreamKey = "upstream"
)

// stamp adds to each record what its context says of it: the session, unless
// the record or its logger names one, and the ids of the span.
type stamp struct {
	sessionOf func(context.Context) string
	spans     bool // add the ids of the span
	named     bool // an attribute of the logger names a session

	// All this belongs at the top, which a handler with open groups cannot reach
	// any more. So we keep root, the handler before its first group, and scope,
	// which makes next out of root: after each change next == scope(root).
	next  slog.Handler
	root  slog.Handler
	scope []func(slog.Handler) slog.Handler
}

func newStamp(next slog.Handler, sessionOf func(context.Context) string, spans bool) *stamp {
	return &stamp{sessionOf: sessionOf, spans: spans, next: next, root: next}
}

// Enabled implements [slog.Handler]. The gates above decide.
func (h *stamp) Enabled(context.Context, slog.Level) bool { return true }

func (h *stamp) Handle(ctx context.Context, r slog.Record) error {
	var found [3]slog.Attr
	n := 0
	if h.spans {
		if span := trace.SpanContextFromContext(ctx); span.IsValid() {
			found[0] = slog.String("trace_id", span.TraceID().String())
			found[1] = slog.String("span_id", span.SpanID().String())
			n = 2
		}
	}
	if id := h.session(ctx, r); id != "" {
		found[n] = slog.String(sessionKey, id)
		n++
	}
	if n == 0 {
		return h.next.Handle(ctx, r)
	}
	if len(h.scope) == 0 {
		r = r.Clone()
		r.AddAttrs(found[:n]...)
		return h.next.Handle(ctx, r)
	}
	next := h.root.WithAttrs(slices.Clone(found[:n]))
	for _, open := range h.scope {
		next = open(next)
	}
	return next.Handle(ctx, r)
}

// session is the session to add, "" for none.
func (h *stamp) session(ctx context.Context, r slog.Record) string {
	if h.sessionOf == nil || h.named {
		return ""
	}
	id := h.sessionOf(ctx)
	if id == "" || attr(r, sessionKey) != "" {
		return ""
	}
	return id
}

// attr is the value of an attribute of the record itself.
func attr(r slog.Record, key string) (value string) {
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == key {
			value = a.Value.Resolve().String()
		}
		return a.Key != key
	})
	return value
}

func (h *stamp) WithAttrs(attrs []slog.Attr) slog.Handler {
	if len(attrs) == 0 {
		return h
	}
	named := h.named || slices.ContainsFunc(attrs, func(a slog.Attr) bool { return a.Key == sessionKey })
	add := func(next slog.Handler) slog.Handler { return next.WithAttrs(attrs) }
	if len(h.scope) > 0 {
		h2 := h.with(add)
		h2.named = named
		return h2
	}
	h2 := *h
	h2.named = named
	h2.root = add(h.root)
	h2.next = h2.root
	return &h2
}

func (h *stamp) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	return h.with(func(next slog.Handler) slog.Handler { return next.WithGroup(name) })
}

func (h *stamp) with(open func(slog.Handler) slog.Handler) *stamp {
	h2 := *h
	h2.next = open(h.next)
	h2.scope = append(slices.Clip(h.scope), open)
	return &h2
}

// both writes each record twice, whatever the levels of the handlers are: the
// gates above have decided.
type both [2]slog.Handler

func (b both) Enabled(context.Context, slog.Level) bool { return true }

func (b both) Handle(ctx context.Context, r slog.Record) error {
	return errors.Join(b[0].Handle(ctx, r), b[1].Handle(ctx, r))
}

func (b both) WithAttrs(attrs []slog.Attr) slog.Handler {
	return both{b[0].WithAttrs(attrs), b[1].WithAttrs(attrs)}
}

func (b both) WithGroup(name string) slog.Handler {
	return both{b[0].WithGroup(name), b[1].WithGroup(name)}
}
