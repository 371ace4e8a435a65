package session

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// levelTrace is the level below DEBUG, for one record per message.
const levelTrace = slog.LevelDebug - 4

// Lease keeps a session in use while a request or a stream is served: a leased
// session does not become idle. Acquire and Release count as activity.
type Lease struct {
	m       *Manager
	e       *entry
	release sync.Once
}

// Acquire returns a lease of the session that belongs to token and principal. It
// never creates a session. It fails with ErrNotFound, whatever the reason for the
// refusal is, or with ErrUnavailable.
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
	case e.ended != "" || e.kind == Derived: // a derived session has no token, and its id alone must not open it
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
		m.unlock()
		m.metrics.refused("expired")
		m.closeEnded(ctx, e)
		return nil, ErrNotFound
	}
	e.inUse++
	e.uses++
	m.touch(e, now)
	m.unlock()
	return &Lease{m: m, e: e}, nil
}

// Session returns the current state of the session.
func (l *Lease) Session() Session {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	return l.e.s
}

// Live returns the Live of the session and opens it if necessary; of concurrent
// callers one opens it and the others wait. It fails with ErrNotFound if the
// session has ended and with ErrUnavailable if the Manager has been closed.
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
		unneeded := e.live != nil || e.ended != "" || m.closed
		m.mu.Unlock()
		if unneeded {
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
		if why != "" { // the session ended while its Live was being opened
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

// Release ends the lease. Further calls do nothing.
func (l *Lease) Release() {
	l.release.Do(func() {
		l.m.mu.Lock()
		defer l.m.unlock()
		l.e.inUse--
		if l.e.ended == "" {
			l.m.touch(l.e, time.Now())
		}
	})
}
