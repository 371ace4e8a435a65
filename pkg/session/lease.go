package session

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// levelTrace is below DEBUG: a record for each message.
const levelTrace = slog.LevelDebug - 4

// Lease holds a session while a request or a stream is served: a leased
// session does not expire. Its start and its end are activity.
type Lease struct {
	m       *Manager
	e       *entry
	release sync.Once
}

// Acquire leases the session that token opens to principal. Every refusal is
// ErrNotFound and nothing is created, or ErrUnavailable.
func (m *Manager) Acquire(ctx context.Context, token, principal string) (*Lease, error) {
	id, verifier, ok := splitToken(token)
	if !ok {
		m.metrics.refused("malformed")
		return nil, ErrNotFound
	}
	e, err := m.lookup(ctx, id)
	if err != nil {
		if err == ErrNotFound { //nolint:errorlint // lookup returns it unwrapped
			m.metrics.refused("unknown")
		}
		return nil, err
	}
	now := time.Now()
	m.mu.Lock()
	switch {
	case e.ended != "" || e.kind == Derived: // nothing opens a derived session, least of all its bare id
		m.mu.Unlock()
		m.metrics.refused("unknown")
		return nil, ErrNotFound
	case !verify(e.s.TokenHash, verifier):
		m.mu.Unlock()
		m.metrics.refused("verifier")
		m.log.WarnContext(ctx, "session refused: wrong verifier", "session", id)
		return nil, ErrNotFound
	case e.s.Principal != principal:
		m.mu.Unlock()
		m.metrics.refused("principal")
		m.log.WarnContext(ctx, "session refused: it belongs to another principal", "session", id)
		return nil, ErrNotFound
	}
	if why, over := m.expired(e, now); over {
		m.end(e, why)
		m.mu.Unlock()
		m.metrics.refused("expired")
		m.closeEnded(ctx, e)
		return nil, ErrNotFound
	}
	e.inUse++
	e.uses++
	m.touch(e, now)
	inUse := e.inUse
	ends, _ := m.deadline(e)
	m.mu.Unlock()
	if m.log.Enabled(ctx, levelTrace) {
		m.log.Log(ctx, levelTrace, "session in use", "session", id, "in_flight", inUse, "expires", expiry(ends))
	}
	return &Lease{m: m, e: e}, nil
}

// expiry writes a deadline for the log.
func expiry(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.UTC().Format(time.RFC3339)
}

// Session returns the session as it is now.
func (l *Lease) Session() Session {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	return l.e.s
}

// Live returns the live half of the session and opens it if need be; of
// several callers one opens. It fails with ErrNotFound once the session has
// ended and with ErrUnavailable once the Manager has been closed.
func (l *Lease) Live(ctx context.Context) (Live, error) {
	m, e := l.m, l.e
	m.mu.Lock()
	live, ended, s := e.live, e.ended, e.s
	m.mu.Unlock()
	switch {
	case ended != "":
		return nil, ErrNotFound
	case live != nil || m.cfg.Open == nil:
		return live, nil
	}
	err := m.opening.do(ctx, s.ID, func(ctx context.Context) error {
		m.mu.Lock()
		needless := e.live != nil || e.ended != "" || m.closed
		m.mu.Unlock()
		if needless {
			return nil
		}
		live, err := m.cfg.Open(ctx, s)
		if err != nil {
			return fmt.Errorf("opening session %s: %w", s.ID, err)
		}
		m.mu.Lock()
		why := e.ended
		if why == "" && m.closed {
			why = Shutdown
		}
		if why == "" {
			e.live = live
		}
		m.mu.Unlock()
		if why != "" { // while it was being opened
			live.Close(why)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case e.live != nil:
		return e.live, nil
	case e.ended != "":
		return nil, ErrNotFound
	}
	return nil, fmt.Errorf("%w: the session manager is closed", ErrUnavailable)
}

// Release gives the session back. It may be called more than once.
func (l *Lease) Release() {
	l.release.Do(func() {
		l.m.mu.Lock()
		defer l.m.mu.Unlock()
		l.e.inUse--
		if l.e.ended == "" {
			l.m.touch(l.e, time.Now())
		}
	})
}
