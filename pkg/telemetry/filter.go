package telemetry

import (
	"context"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
)

// filter is the handler of one subsystem. It passes on records that reach the level of the
// subsystem or belong to a chosen session (see SESSION_DEBUG), except those that repeat
// too often. It counts the records that it passes on.
type filter struct {
	subsystem string // "" for records without subsystem
	level     slog.Leveler
	chosen    prefixes // ids of the chosen sessions
	sessionOf func(context.Context) string
	limit     *limiter
	records   []prometheus.Counter // by index in levels
	next      slog.Handler

	matched  bool   // an attribute of the logger contains a chosen session
	upstream string // server in an attribute of the logger
}

func (f *filter) Enabled(_ context.Context, l slog.Level) bool {
	return l >= f.level.Level() || len(f.chosen) > 0 && l >= levelTrace
}

func (f *filter) Handle(ctx context.Context, r slog.Record) error {
	if r.Level < f.level.Level() && !f.matched && !f.isChosen(ctx, r) {
		return nil
	}
	if !f.limit.allow(f.subsystem, f.upstream, r) {
		return nil
	}
	f.records[levelIndex(r.Level)].Inc()
	return f.next.Handle(ctx, r)
}

// isChosen reports whether the record or its context belongs to a chosen session.
func (f *filter) isChosen(ctx context.Context, r slog.Record) bool {
	if len(f.chosen) == 0 {
		return false
	}
	id := attr(r, sessionKey)
	if id == "" && f.sessionOf != nil {
		id = f.sessionOf(ctx)
	}
	return f.chosen.has(id)
}

func (f *filter) WithAttrs(attrs []slog.Attr) slog.Handler {
	if len(attrs) == 0 {
		return f
	}
	f2 := *f
	f2.next = f.next.WithAttrs(attrs)
	for _, a := range attrs {
		switch a.Key {
		case sessionKey:
			f2.matched = f2.matched || f.chosen.has(a.Value.Resolve().String())
		case upstreamKey:
			f2.upstream = a.Value.Resolve().String()
		}
	}
	return &f2
}

func (f *filter) WithGroup(name string) slog.Handler {
	if name == "" {
		return f
	}
	f2 := *f
	f2.next = f.next.WithGroup(name)
	return &f2
}
