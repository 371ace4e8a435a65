package session

import (
	"cmp"
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// Config configures a Manager. The zero value works.
type Config struct {
	IdleTimeout     time.Duration // end sessions without activity for this long; default 30m
	CleanupInterval time.Duration // interval of the search for expired sessions; default 60s
	FlushInterval   time.Duration // delay from the first change to the write; default 5s
	TouchThrottle   time.Duration // ignore a touch that follows the last one sooner; default 100ms
	WriteTimeout    time.Duration // longest wait for the store; default 10s
	MaxLifetime     time.Duration // end a session that is not in use at this age; default (and negative): never

	MaxSessions          int         // includes stored sessions that are not loaded yet; 0: no limit
	MaxSessionsPerClient int         // 0: no limit
	MaxRecordBytes       int64       // estimated memory of all sessions that are loaded, derived ones not included; 0: no limit
	AtLimit              LimitPolicy // default Refuse
	MaxDerived           int         // derived sessions, not included above; default 10,000, negative: none

	// Open creates the Live of a session when it is first needed; nil: sessions
	// have none. It is called without a lock, and never twice at a time for one
	// session. Its ctx is not cancelled with that of the caller, because other
	// callers may wait for the result: Open must limit its own duration.
	Open func(ctx context.Context, s Session) (Live, error)

	Clock          Clock                 // see MachineClock
	Logger         *slog.Logger          // default: discard
	TracerProvider trace.TracerProvider  // default: no-op
	Registerer     prometheus.Registerer // default: metrics are not exported
}

// Live is the running half of a session: its streams and its bindings to
// upstream servers. The Manager owns it: it opens it, and closes it once.
type Live interface {
	// Close stops everything that runs for the session. With reason Shutdown the
	// session continues after a restart, so its upstream sessions must be kept.
	// Close returns after it has requested the stop; it need not wait for the end.
	Close(reason Reason)
}

// touchStored returns how far lastAccessedAt may be ahead of its stored copy
// before a touch alone causes a write. It is a small part of the idle timeout, so
// that a session in use does not expire after a crash.
func (c Config) touchStored() time.Duration { return min(time.Minute, c.idleTimeout()/4) }

func (c Config) idleTimeout() time.Duration     { return cmp.Or(c.IdleTimeout, 30*time.Minute) }
func (c Config) cleanupInterval() time.Duration { return cmp.Or(c.CleanupInterval, time.Minute) }
func (c Config) flushInterval() time.Duration   { return cmp.Or(c.FlushInterval, 5*time.Second) }
func (c Config) touchThrottle() time.Duration   { return cmp.Or(c.TouchThrottle, 100*time.Millisecond) }
func (c Config) maxDerived() int                { return cmp.Or(c.MaxDerived, 10_000) }
func (c Config) writeTimeout() time.Duration    { return cmp.Or(c.WriteTimeout, 10*time.Second) }

func (c Config) logger() *slog.Logger { return cmp.Or(c.Logger, slog.New(slog.DiscardHandler)) }

func (c Config) tracer() trace.Tracer {
	var tp trace.TracerProvider = noop.NewTracerProvider()
	if c.TracerProvider != nil {
		tp = c.TracerProvider
	}
	return tp.Tracer("github.com/mcphub-go/mcphub/pkg/session")
}
