package session

import (
	"context"
	"errors"
	"strings"
	"time"
)

// ErrDerived is returned for a change of a derived session: it has no stored state.
var ErrDerived = errors.New("the session is derived from requests and cannot be changed")

// DerivedRequest is a request of a derived session while it is served. Its start and end
// count as activity, and until its end the session does not become idle.
type DerivedRequest struct {
	m  *Manager
	id string
	e  *entry // guarded by Manager.mu; nil: no session, or released
}

// ID returns the public id of the derived session of the request. It is "" if the
// request is counted under no session.
func (w *DerivedRequest) ID() string { return w.id }

// Release ends the request. Further calls do nothing.
func (w *DerivedRequest) Release() {
	if w.m == nil {
		return
	}
	m := w.m
	m.mu.Lock()
	defer m.mu.Unlock()
	e := w.e
	if e == nil {
		return
	}
	w.e = nil
	e.inUse--
	if e.ended != "" {
		return
	}
	m.touch(e, time.Now())
	if e.inUse == 0 {
		m.derived.appendIdle(e)
	}
}

// AcquireDerived records the start of a request that carries no session id, and counts it
// under the derived session with the same principal, client name, client version
// and root directory (Cwd), all taken from s. It creates the session if there is
// none. The other fields of the session (project, address, user agent, protocol
// version) are those of its first request. Long fields are cut.
//
// A derived session is for display and metrics only: nothing depends on it. It is
// never stored, no token opens it, and it cannot be changed. It ends like other
// sessions do, and also with Close. There are at most Config.MaxDerived of them,
// not included in MaxSessions; at the limit the one idle for longest is evicted.
//
// Derive does not fail and does not wait for the store. If all derived sessions
// are in use, and after Close, it returns a DerivedRequest without an ID. The caller must
// release it in each case.
func (m *Manager) AcquireDerived(ctx context.Context, s Session) *DerivedRequest {
	s = derivedFrom(s)
	key, now := keyOf(s), time.Now()
	var ended *entry // at most one session ends: the expired one of this key, or an evicted one
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return &DerivedRequest{}
	}
	e := m.derived.byKey[key]
	if e != nil {
		if why, over := m.expired(e, now); over {
			m.end(e, why)
			e, ended = nil, e
		}
	}
	created := e == nil
	if created {
		if ended == nil {
			ended = m.makeRoom()
		}
		if len(m.derived.byKey) >= m.cfg.maxDerived() {
			m.mu.Unlock()
			return &DerivedRequest{}
		}
		e = m.derive(s, now)
	} else {
		m.touch(e, now)
	}
	m.derived.startUse(e)
	w := &DerivedRequest{m: m, id: e.s.ID, e: e}
	m.mu.Unlock()
	if ended != nil {
		m.closeEnded(ctx, ended)
	}
	if created {
		// Not at level info: clients decide how many derived sessions there are.
		m.log.DebugContext(ctx, "session derived", "session", w.id, "client", s.ClientName, "client_version", s.ClientVersion,
			"protocol", s.ProtocolVersion)
	}
	return w
}

// makeRoom ends the derived session that is idle for longest if the limit is
// reached. The caller holds mu, and calls closeEnded for the evicted session.
func (m *Manager) makeRoom() (evicted *entry) {
	if len(m.derived.byKey) < m.cfg.maxDerived() {
		return nil
	}
	evicted = m.derived.idleLongest
	if evicted == nil {
		m.metrics.limited.WithLabelValues(scopeDerived, "refused").Inc()
		return nil
	}
	m.end(evicted, Evicted)
	m.metrics.limited.WithLabelValues(scopeDerived, "evicted").Inc()
	return evicted
}

// derive creates a derived session from s. The caller holds mu.
func (m *Manager) derive(s Session, now time.Time) *entry {
	// The strings may be parts of the whole request, which must not stay in memory
	// for as long as the session.
	for _, field := range []*string{
		&s.ClientName, &s.ClientVersion, &s.ProtocolVersion, &s.Cwd, &s.Project, &s.UserAgent, &s.IP, &s.Principal,
	} {
		*field = strings.Clone(*field)
	}
	s.ID, _ = newToken()
	s.CreatedAt = m.cfg.Clock.wall(now)
	s.LastAccessedAt = s.CreatedAt
	e := newEntry(s, now, now)
	e.published = true
	m.put(e)
	m.derived.appendIdle(e)
	m.counts[Derived].created++
	m.note(s.ID, EventCreated, s.ClientName)
	return e
}

// endDerived ends every derived session.
func (m *Manager) endDerived(ctx context.Context, why Reason) {
	for _, e := range m.entries(func(e *entry) bool { return e.kind == Derived }) {
		m.mu.Lock()
		ok := m.end(e, why)
		m.mu.Unlock()
		if ok {
			m.closeEnded(ctx, e)
		}
	}
}

// Limits of the fields of a derived session, in bytes. The principal has no limit,
// because the hub itself has authenticated it.
const (
	maxDerivedField = 256
	maxDerivedCwd   = 4096
)

// derivedFrom returns the derived session that s describes, with limited fields and
// without the id and the times of a new session.
func derivedFrom(s Session) Session {
	field := func(text string) string { return clip(text, maxDerivedField) }
	return Session{Kind: Derived, State: Ready, Principal: s.Principal,
		ClientName: field(s.ClientName), ClientVersion: field(s.ClientVersion), ProtocolVersion: field(s.ProtocolVersion),
		Cwd: clip(s.Cwd, maxDerivedCwd), Project: field(s.Project), UserAgent: field(s.UserAgent), IP: field(s.IP)}
}

// derivedKey identifies a derived session: its requests have these fields in common.
type derivedKey struct{ principal, client, version, cwd string }

func keyOf(s Session) derivedKey {
	return derivedKey{s.Principal, s.ClientName, s.ClientVersion, s.Cwd}
}

// derivedSessions are the live derived sessions. Those not in use form a linked
// list, so that an eviction takes constant time: clients decide how many there are.
type derivedSessions struct {
	byKey                     map[derivedKey]*entry
	idleLongest, idleShortest *entry // the ends of the list
}

func (d *derivedSessions) add(e *entry) { d.byKey[keyOf(e.s)] = e }

func (d *derivedSessions) remove(e *entry) {
	delete(d.byKey, keyOf(e.s))
	if e.inUse == 0 {
		d.removeIdle(e)
	}
}

// startUse counts the start of a request.
func (d *derivedSessions) startUse(e *entry) {
	if e.inUse == 0 {
		d.removeIdle(e)
	}
	e.inUse++
	e.uses++
}

// appendIdle adds e to the list as the session idle for the shortest time. e is not
// in use and not in the list.
func (d *derivedSessions) appendIdle(e *entry) {
	e.prev, e.next = d.idleShortest, nil
	if d.idleShortest != nil {
		d.idleShortest.next = e
	} else {
		d.idleLongest = e
	}
	d.idleShortest = e
}

// removeIdle removes e from the list.
func (d *derivedSessions) removeIdle(e *entry) {
	if e.prev != nil {
		e.prev.next = e.next
	} else {
		d.idleLongest = e.next
	}
	if e.next != nil {
		e.next.prev = e.prev
	} else {
		d.idleShortest = e.prev
	}
	e.prev, e.next = nil, nil
}
