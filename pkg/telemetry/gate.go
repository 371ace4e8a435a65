package telemetry

import (
	"context"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
)

// gate lets the records of one subsystem through that reach its level or belong
// to a chosen session, holds back those that repeat too often, and counts what
// it lets through.
type gate struct {
	subsystem string // "" for what belongs to none
	level     slog.Leveler
	chosen    prefixes // of sessions whose records all go through; see SESSION_DEBUG
	sessionOf func(context.Context) string
	limit     *limiter
	records   []prometheus.Counter // by index in levels
	next      slog.Handler

	matched  bool   // an attribute of the logger names a chosen session
	upstream string // that an attribute of the logger names
}

func (g *gate) Enabled(_ context.Context, l slog.Level) bool {
	return l >= g.level.Level() || len(g.chosen) > 0 && l >= LevelTrace
}

func (g *gate) Handle(ctx context.Context, r slog.Record) error {
	if r.Level < g.level.Level() && !g.matched && !g.names(ctx, r) {
		return nil
	}
	if !g.limit.allow(g.subsystem, g.upstream, r) {
		return nil
	}
	g.records[levelIndex(r.Level)].Inc()
	return g.next.Handle(ctx, r)
}

// names reports whether the record or its context names a chosen session.
func (g *gate) names(ctx context.Context, r slog.Record) bool {
	if len(g.chosen) == 0 {
		return false
	}
	id := attr(r, sessionKey)
	if id == "" && g.sessionOf != nil {
		id = g.sessionOf(ctx)
	}
	return g.chosen.has(id)
}

func (g *gate) WithAttrs(attrs []slog.Attr) slog.Handler {
	if len(attrs) == 0 {
		return g
	}
	g2 := *g
	g2.next = g.next.WithAttrs(attrs)
	for _, a := range attrs {
		switch a.Key {
		case sessionKey:
			g2.matched = g2.matched || g.chosen.has(a.Value.Resolve().String())
		case upstreamKey:
			g2.upstream = a.Value.Resolve().String()
		}
	}
	return &g2
}

func (g *gate) WithGroup(name string) slog.Handler {
	if name == "" {
		return g
	}
	g2 := *g
	g2.next = g.next.WithGroup(name)
	return &g2
}
