package session

import (
	"fmt"
	"time"
)

// AtLimit says what happens to a client that wants one session too many.
type AtLimit string

// The policies.
const (
	Refuse AtLimit = "refuse" // it gets a LimitError
	Evict  AtLimit = "evict"  // the idlest session nobody uses ends for it
)

// LimitError is the refusal to create a session beyond a limit.
type LimitError struct {
	Scope string // global or client
	Limit int    // sessions
}

func (e *LimitError) Error() string {
	if e.Scope == scopeClient {
		return fmt.Sprintf("the client has %d sessions already, which is the limit", e.Limit)
	}
	return fmt.Sprintf("the hub has %d sessions already, which is the limit", e.Limit)
}

const (
	scopeGlobal  = "global"
	scopeClient  = "client"
	scopeDerived = "derived"
)

// client names whoever shares Config.MaxSessionsPerClient: the principal, or
// of anonymous clients those of the same address and name.
func (s Session) client() string {
	if s.Principal != "" {
		return "principal\x00" + s.Principal
	}
	return "anonymous\x00" + s.IP + "\x00" + s.ClientName
}

// put adds a live entry. The caller holds mu.
func (m *Manager) put(e *entry) {
	m.live[e.id] = e
	if e.kind == Derived {
		m.derived.add(e)
		return
	}
	m.clients[e.client]++
}

// drop takes a live entry away. The caller holds mu.
func (m *Manager) drop(e *entry) {
	delete(m.live, e.id)
	if e.kind == Derived {
		m.derived.remove(e)
		return
	}
	if m.restoring {
		m.dropped[e.s.ID] = true
	}
	if m.clients[e.client]--; m.clients[e.client] == 0 {
		delete(m.clients, e.client)
	}
}

// admit makes room for one session more of that client, or refuses it. It
// returns the session that was ended for it, if any. The caller holds mu.
func (m *Manager) admit(client string) (evicted *entry, err error) {
	limit := &LimitError{Scope: scopeClient, Limit: m.cfg.MaxSessionsPerClient}
	candidates := func(e *entry) bool { return e.client == client }
	switch {
	case limit.Limit > 0 && m.clients[client] >= limit.Limit:
	case m.cfg.MaxSessions > 0 && len(m.live)-len(m.derived.by)+len(m.pending) >= m.cfg.MaxSessions:
		limit.Scope, limit.Limit = scopeGlobal, m.cfg.MaxSessions
		candidates = func(*entry) bool { return true }
	default:
		return nil, nil //nolint:nilnil // there is room
	}
	if m.cfg.AtLimit == Evict {
		if evicted = m.idlest(candidates); evicted != nil {
			m.end(evicted, Evicted)
			m.metrics.limited.WithLabelValues(limit.Scope, "evicted").Inc()
			return evicted, nil
		}
	}
	m.metrics.limited.WithLabelValues(limit.Scope, "refused").Inc()
	return nil, limit
}

// idlest returns the candidate, no derived session, that nobody uses and that was silent longest,
// or nil. The caller holds mu.
func (m *Manager) idlest(candidate func(*entry) bool) *entry {
	var idlest *entry
	for _, e := range m.live {
		if e.kind == Protocol && e.published && e.inUse == 0 && candidate(e) && (idlest == nil || e.s.LastAccessedAt < idlest.s.LastAccessedAt) {
			idlest = e
		}
	}
	return idlest
}

// deadline is when e expires if nothing happens, and why; the zero Time if it
// does not. The caller holds mu.
func (m *Manager) deadline(e *entry) (time.Time, Reason) {
	idle, why := e.s.lastAccess().Add(m.cfg.idleTimeout()), IdleTimeout
	if e.inUse > 0 { // a request under way and an open stream are activity
		idle, why = time.Time{}, ""
	}
	if life := m.cfg.maxLifetime(); life > 0 {
		if end := time.UnixMilli(e.s.CreatedAt).Add(life); idle.IsZero() || end.Before(idle) {
			return end, MaxLifetime
		}
	}
	return idle, why
}

// expired reports whether the time of e is over, and why. The caller holds mu.
func (m *Manager) expired(e *entry, now time.Time) (Reason, bool) {
	deadline, why := m.deadline(e)
	return why, !deadline.IsZero() && !now.Before(deadline)
}
