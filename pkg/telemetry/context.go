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

// contextHandler adds attributes from the context to each record: the ids of the span, and
// the session, unless the record or its logger has that attribute.
type contextHandler struct {
	sessionOf func(context.Context) string
	spans     bool // add the ids of the span
	named     bool // the logger has the attribute session

	// The attributes belong to the top level of a record, but a handler with open groups
	// can add attributes only inside of its groups. So we keep root, the handler before its
	// first group, and scope, the later calls of WithGroup and WithAttrs. Applying scope to
	// root gives next.
	next  slog.Handler
	root  slog.Handler
	scope []func(slog.Handler) slog.Handler
}

func newContextHandler(next slog.Handler, sessionOf func(context.Context) string, spans bool) *contextHandler {
	return &contextHandler{sessionOf: sessionOf, spans: spans, next: next, root: next}
}

// Enabled implements [slog.Handler]. The filters before this handler check the level.
func (h *contextHandler) Enabled(context.Context, slog.Level) bool { return true }

func (h *contextHandler) Handle(ctx context.Context, r slog.Record) error {
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

// session returns the session to add, "" for none.
func (h *contextHandler) session(ctx context.Context, r slog.Record) string {
	if h.sessionOf == nil || h.named {
		return ""
	}
	id := h.sessionOf(ctx)
	if id == "" || attr(r, sessionKey) != "" {
		return ""
	}
	return id
}

// attr returns the value of an attribute of the record, without those of its logger.
func attr(r slog.Record, key string) (value string) {
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == key {
			value = a.Value.Resolve().String()
		}
		return a.Key != key
	})
	return value
}

func (h *contextHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
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

func (h *contextHandler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	return h.with(func(next slog.Handler) slog.Handler { return next.WithGroup(name) })
}

// with returns a copy of h whose scope ends with open.
func (h *contextHandler) with(open func(slog.Handler) slog.Handler) *contextHandler {
	h2 := *h
	h2.next = open(h.next)
	h2.scope = append(slices.Clip(h.scope), open)
	return &h2
}

// tee passes each record to two handlers. It ignores their levels, because the filters
// before it have checked the level.
type tee [2]slog.Handler

func (b tee) Enabled(context.Context, slog.Level) bool { return true }

func (b tee) Handle(ctx context.Context, r slog.Record) error {
	return errors.Join(b[0].Handle(ctx, r), b[1].Handle(ctx, r))
}

func (b tee) WithAttrs(attrs []slog.Attr) slog.Handler {
	return tee{b[0].WithAttrs(attrs), b[1].WithAttrs(attrs)}
}

func (b tee) WithGroup(name string) slog.Handler {
	return tee{b[0].WithGroup(name), b[1].WithGroup(name)}
}
