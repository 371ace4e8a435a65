package telemetry

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/lmittmann/tint"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
)

// LevelTrace is below DEBUG.
const LevelTrace = slog.Level(-8)

const levelNotice = slog.Level(2) // between INFO and WARN

// levels are the named levels, lowest first.
var levels = [...]struct {
	level slog.Level
	name  string
}{
	{LevelTrace, "trace"},
	{slog.LevelDebug, "debug"},
	{slog.LevelInfo, "info"},
	{levelNotice, "notice"},
	{slog.LevelWarn, "warn"},
	{slog.LevelError, "error"},
}

// ParseLevel returns the level called s, in upper or lower case.
func ParseLevel(s string) (slog.Level, error) {
	for _, l := range levels {
		if strings.EqualFold(s, l.name) {
			return l.level, nil
		}
	}
	return 0, fmt.Errorf("log level %q: want trace, debug, info, notice, warn or error", s)
}

// levelIndex returns the index in levels of the highest one that l reaches, and
// that of the lowest level for what is below all of them.
func levelIndex(l slog.Level) int {
	i := len(levels) - 1
	for i > 0 && levels[i].level > l {
		i--
	}
	return i
}

// newFormat returns the handler that writes records. It has no level: the
// handlers above it decide.
func newFormat(format string, stderr *lockedWriter, env environ) (slog.Handler, error) {
	terminal := stderr.isTerminal()
	if format == "" || format == "auto" {
		format = "json"
		if terminal {
			format = "tint"
		}
	}
	switch format {
	case "tint":
		return newTint(stderr, !terminal || env.get("NO_COLOR") != ""), nil
	case "json":
		return newJSON(stderr), nil
	}
	return nil, fmt.Errorf("log format %q: want auto, tint or json", format)
}

func newJSON(stderr *lockedWriter) slog.Handler {
	return slog.NewJSONHandler(stderr, &slog.HandlerOptions{
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			switch {
			case len(groups) > 0:
			case a.Key == slog.TimeKey && a.Value.Kind() == slog.KindTime:
				return slog.String(a.Key, a.Value.Time().Format("2006-01-02T15:04:05.000Z07:00"))
			case isLevel(a, LevelTrace):
				return slog.String(a.Key, "TRACE")
			case isLevel(a, levelNotice):
				return slog.String(a.Key, "NOTICE")
			}
			return a
		},
	})
}

func newTint(stderr *lockedWriter, noColor bool) slog.Handler {
	const gray, cyan = 8, 14
	return tint.NewTextHandler(stderr, &tint.Options{
		NoColor: noColor,
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			switch {
			case len(groups) > 0:
			case isLevel(a, LevelTrace):
				return tint.Attr(gray, slog.String(a.Key, "TRACE"))
			case isLevel(a, levelNotice):
				return tint.Attr(cyan, slog.String(a.Key, "NOTICE"))
			}
			return a
		},
	})
}

func isLevel(a slog.Attr, l slog.Level) bool {
	if a.Key != slog.LevelKey || a.Value.Kind() != slog.KindAny {
		return false
	}
	got, ok := a.Value.Any().(slog.Level)
	return ok && got == l
}

// handler lets records of its level and above through, counts them, and adds the
// ids of the span that the context is in.
type handler struct {
	level   slog.Level
	records []prometheus.Counter // by index in levels

	// The ids belong at the top, which a handler with open groups cannot reach
	// any more. So we keep root, the handler before its first group, and scope,
	// which makes next out of root: after each change next == scope(root).
	next  slog.Handler
	root  slog.Handler
	scope []func(slog.Handler) slog.Handler
}

func newHandler(format slog.Handler, level slog.Level, records []prometheus.Counter) *handler {
	return &handler{level: level, records: records, next: format, root: format}
}

func (h *handler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.level }

func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	h.records[levelIndex(r.Level)].Inc()
	span := trace.SpanContextFromContext(ctx)
	if !span.IsValid() {
		return h.next.Handle(ctx, r)
	}
	traceID := slog.String("trace_id", span.TraceID().String())
	spanID := slog.String("span_id", span.SpanID().String())
	if len(h.scope) == 0 {
		r = r.Clone()
		r.AddAttrs(traceID, spanID)
		return h.next.Handle(ctx, r)
	}
	next := h.root.WithAttrs([]slog.Attr{traceID, spanID})
	for _, open := range h.scope {
		next = open(next)
	}
	return next.Handle(ctx, r)
}

func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	if len(attrs) == 0 {
		return h
	}
	add := func(next slog.Handler) slog.Handler { return next.WithAttrs(attrs) }
	if len(h.scope) > 0 {
		return h.with(add)
	}
	h2 := *h
	h2.root = add(h.root)
	h2.next = h2.root
	return &h2
}

func (h *handler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	return h.with(func(next slog.Handler) slog.Handler { return next.WithGroup(name) })
}

func (h *handler) with(open func(slog.Handler) slog.Handler) *handler {
	h2 := *h
	h2.next = open(h.next)
	h2.scope = append(slices.Clip(h.scope), open)
	return &h2
}
