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

// Config is what a Manager needs to know. The zero value works.
type Config struct {
	IdleTimeout     time.Duration // end sessions unseen for this long; default 30m
	CleanupInterval time.Duration // look for them this often; default 60s
	FlushInterval   time.Duration // write a change this long after the first mark; default 5s
	TouchThrottle   time.Duration // ignore a touch this soon after the last; default 100ms
	WriteTimeout    time.Duration // longest wait for the store; default 10s
	MaxLifetime     time.Duration // end every session after this long; default 24h, negative: never

	MaxSessions          int     // stored ones that are not loaded yet included; 0: no limit
	MaxSessionsPerClient int     // 0: no limit
	AtLimit              AtLimit // default Refuse
	MaxDerived           int     // derived sessions, which count for none of the above; default 10,000, negative: there are none

	// Open starts the live half of a session when it is first needed; nil:
	// sessions have none. It is called once per session at a time, without any
	// lock held. Others may wait for what it opens, so its ctx does not end with
	// the caller's: it must bound itself.
	Open func(ctx context.Context, s Session) (Live, error)

	Logger         *slog.Logger          // default: discard
	TracerProvider trace.TracerProvider  // default: no-op
	Registerer     prometheus.Registerer // default: metrics are not exported
}

// Live is the running half of a session: its streams and upstream bindings.
// The Manager owns it: it opens it and closes it, once.
type Live interface {
	// Close ends everything that runs for the session. With reason Shutdown
	// the session itself lives on, and what it holds upstream must too. Close
	// returns when what runs has been told to stop.
	Close(reason Reason)
}

// touchStored is how far lastAccessedAt may run ahead of its stored copy
// before a mere touch is worth a write: a small part of what would make the
// session expire.
func (c Config) touchStored() time.Duration { return min(time.Minute, c.idleTimeout()/4) }

func (c Config) idleTimeout() time.Duration     { return cmp.Or(c.IdleTimeout, 30*time.Minute) }
func (c Config) cleanupInterval() time.Duration { return cmp.Or(c.CleanupInterval, time.Minute) }
func (c Config) flushInterval() time.Duration   { return cmp.Or(c.FlushInterval, 5*time.Second) }
func (c Config) touchThrottle() time.Duration   { return cmp.Or(c.TouchThrottle, 100*time.Millisecond) }
func (c Config) maxLifetime() time.Duration     { return cmp.Or(c.MaxLifetime, 24*time.Hour) }
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
