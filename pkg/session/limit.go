package session

import (
	"fmt"
	"time"
)

// LimitPolicy says what Create does when a limit of sessions is reached.
type LimitPolicy string

// The policies.
const (
	Refuse LimitPolicy = "refuse" // Create fails with a LimitError
	Evict  LimitPolicy = "evict"  // the session idle for longest ends to make room; sessions in use stay
)

// LimitError is the error of Create when a limit of sessions is reached.
type LimitError struct {
	Scope string // global, client or memory
	Limit int    // sessions; of memory: bytes
}

// OfClient reports whether the limit is that of one client, not of the hub.
func (e *LimitError) OfClient() bool { return e.Scope == scopeClient }

func (e *LimitError) Error() string {
	if e.OfClient() {
		return fmt.Sprintf("the client has %d sessions already, which is the limit", e.Limit)
	}
	if e.Scope == scopeMemory {
		return fmt.Sprintf("the sessions of the hub take %d bytes, which is what they may take (limits.memory)", e.Limit)
	}
	return fmt.Sprintf("the hub has %d sessions already, which is the limit", e.Limit)
}

const (
	scopeGlobal  = "global"
	scopeClient  = "client"
	scopeMemory  = "memory"
	scopeDerived = "derived"
)

// client returns the key by which Config.MaxSessionsPerClient counts sessions:
// the principal, or for an anonymous client its address and name.
func (s Session) client() string {
	if s.Principal != "" {
		return "principal\x00" + s.Principal
	}
	return "anonymous\x00" + s.IP + "\x00" + s.ClientName
}

// put adds e to the live sessions. The caller holds mu.
func (m *Manager) put(e *entry) {
	m.live[e.id] = e
	if e.kind == Derived {
		m.derived.add(e)
		return
	}
	m.recordBytes += e.s.memory()
	m.clients[e.client]++
}

// drop removes e from the live sessions. The caller holds mu.
func (m *Manager) drop(e *entry) {
	delete(m.live, e.id)
	if e.kind == Derived {
		m.derived.remove(e)
		return
	}
	m.recordBytes -= e.s.memory()
	if m.restoring {
		m.dropped[e.s.ID] = true
	}
	if m.clients[e.client]--; m.clients[e.client] == 0 {
		delete(m.clients, e.client)
	}
}

// baseMemory is the memory of a session besides its texts: record, entry, events and maps, in bytes.
const baseMemory = 2 << 10

// memory returns an estimate of the memory of a session, in bytes.
func (s Session) memory() int64 {
	n := baseMemory + len(s.Capabilities)
	for _, text := range [...]string{s.ClientName, s.ClientVersion, s.Cwd, s.Project, s.UserAgent, s.IP, s.Principal} {
		n += len(text)
	}
	for name, value := range s.Metadata {
		n += len(name) + len(value)
	}
	for _, uri := range s.Subscriptions {
		n += len(uri)
	}
	for name, value := range s.unknown {
		n += len(name) + len(value)
	}
	return int64(n)
}

// HasRoom reports whether the record of a session may grow by so many bytes.
func (m *Manager) HasRoom(bytes int) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return !m.isFull(int64(bytes))
}

// isFull reports whether so many bytes more exceed MaxRecordBytes. The caller holds mu.
func (m *Manager) isFull(bytes int64) bool {
	return m.cfg.MaxRecordBytes > 0 && m.recordBytes+bytes > m.cfg.MaxRecordBytes
}

// admit checks the limits for one more session of the client, which takes so many bytes. With Evict it ends
// a session to make room and returns it; otherwise it fails with a *LimitError.
// The caller holds mu.
func (m *Manager) admit(client string, bytes int64) (evicted *entry, err error) {
	limit := &LimitError{Scope: scopeClient, Limit: m.cfg.MaxSessionsPerClient}
	candidates := func(e *entry) bool { return e.client == client }
	switch {
	case limit.Limit > 0 && m.clients[client] >= limit.Limit:
	case m.cfg.MaxSessions > 0 && len(m.live)-len(m.derived.byKey)+len(m.pending) >= m.cfg.MaxSessions:
		limit.Scope, limit.Limit = scopeGlobal, m.cfg.MaxSessions
		candidates = func(*entry) bool { return true }
	case m.isFull(bytes):
		limit.Scope, limit.Limit = scopeMemory, int(m.cfg.MaxRecordBytes)
		candidates = func(e *entry) bool { return e.s.memory() >= bytes } // the end of one session must be enough
	default:
		return nil, nil //nolint:nilnil // there is room
	}
	if m.cfg.AtLimit == Evict {
		if evicted = m.longestIdle(candidates); evicted != nil {
			m.end(evicted, Evicted)
			m.metrics.limited.WithLabelValues(limit.Scope, "evicted").Inc()
			return evicted, nil
		}
	}
	m.metrics.limited.WithLabelValues(limit.Scope, "refused").Inc()
	return nil, limit
}

// longestIdle returns the protocol session among the candidates that is not in
// use and whose last activity is oldest, or nil. The caller holds mu.
func (m *Manager) longestIdle(candidate func(*entry) bool) *entry {
	var oldest *entry
	for _, e := range m.live {
		if e.kind == Protocol && e.published && e.inUse == 0 && candidate(e) &&
			(oldest == nil || e.seen.Before(oldest.seen)) {
			oldest = e
		}
	}
	return oldest
}

// deadline returns when e expires without further activity, and the reason; the
// zero Time means never. The caller holds mu.
func (m *Manager) deadline(e *entry) (time.Time, Reason) {
	if e.inUse > 0 { // a request in progress and an open stream: neither idleness nor age ends it
		return time.Time{}, ""
	}
	idle := e.seen.Add(m.cfg.idleTimeout())
	if life := m.cfg.MaxLifetime; life > 0 {
		end := e.born.Add(life)
		if end.Before(e.seen) { // it was in use at its end, and is due only now
			end = e.seen
		}
		if end.Before(idle) {
			return end, MaxLifetime
		}
	}
	return idle, IdleTimeout
}

// expired reports whether the deadline of e has passed, and the reason to end it
// with. The caller holds mu.
func (m *Manager) expired(e *entry, now time.Time) (Reason, bool) {
	deadline, why := m.deadline(e)
	return why, !deadline.IsZero() && !now.Before(deadline)
}
