package session

import (
	"context"
	"errors"
	"strings"
	"time"
)

// ErrDerived is reported for a change to a derived session: nothing is kept of
// it that could be changed.
var ErrDerived = errors.New("the session is derived from requests and cannot be changed")

// Work is a request of a derived session while it is served. Its start and its
// end are activity, and until its end the session does not go idle.
type Work struct {
	m  *Manager
	id string
	e  *entry // guarded by Manager.mu; nil: none, or released
}

// ID returns the public id of the session that the request was counted for, ""
// if there was no room for one.
func (w *Work) ID() string { return w.id }

// Release ends the request. It may be called more than once.
func (w *Work) Release() {
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
		m.derived.rest(e)
	}
}

// Derive counts the start of a request that came without a session, and finds
// or makes the session that people see it under: that of the same principal,
// client name, client version and declared root, which are taken from s. What
// else is shown of a session (project, address, user agent, protocol version)
// is what its first request said; fields that are long are clipped.
//
// A derived session steers nothing. It is never stored, no token opens it, and
// it cannot be changed; it ends like others, and also with Close. There are
// Config.MaxDerived of them at most, beyond those of MaxSessions: where there is no room for
// one more, the one idle longest is evicted. Derive does not fail and does not
// wait for the store: where all are in use, and after Close, it returns a Work
// without an ID. The caller releases it in any case.
func (m *Manager) Derive(ctx context.Context, s Session) *Work {
	s = seen(s)
	key, now := keyOf(s), time.Now()
	var ended *entry // it gives its place to a new one: there is never a second
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return &Work{}
	}
	e := m.derived.by[key]
	if e != nil {
		if why, over := m.expired(e, now); over {
			m.end(e, why)
			e, ended = nil, e
		}
	}
	made := e == nil
	if made {
		if ended == nil {
			ended = m.makeRoom()
		}
		if len(m.derived.by) >= m.cfg.maxDerived() {
			m.mu.Unlock()
			return &Work{}
		}
		e = m.derive(s, now)
	} else {
		m.touch(e, now)
	}
	m.derived.use(e)
	w := &Work{m: m, id: e.s.ID, e: e}
	m.mu.Unlock()
	if ended != nil {
		m.closeEnded(ctx, ended)
	}
	if made {
		// Not at level info: whoever sends requests chooses how many there are.
		m.log.DebugContext(ctx, "session derived", "session", w.id, "client", s.ClientName, "client_version", s.ClientVersion,
			"protocol", s.ProtocolVersion)
	}
	return w
}

// makeRoom ends the derived session that is idle longest if there are as many
// as there may be. The caller holds mu and calls closeEnded for it.
func (m *Manager) makeRoom() (evicted *entry) {
	if len(m.derived.by) < m.cfg.maxDerived() {
		return nil
	}
	evicted = m.derived.first
	if evicted == nil {
		m.metrics.limited.WithLabelValues(scopeDerived, "refused").Inc()
		return nil
	}
	m.end(evicted, Evicted)
	m.metrics.limited.WithLabelValues(scopeDerived, "evicted").Inc()
	return evicted
}

// derive makes a derived session from s. The caller holds mu.
func (m *Manager) derive(s Session, now time.Time) *entry {
	// What s has may be part of a whole request, which must not live as long.
	for _, field := range []*string{&s.ClientName, &s.ClientVersion, &s.ProtocolVersion, &s.Cwd, &s.Project, &s.UserAgent, &s.IP, &s.Principal} {
		*field = strings.Clone(*field)
	}
	s.ID, _ = newToken()
	s.CreatedAt, s.LastAccessedAt = now.UnixMilli(), now.UnixMilli()
	e := newEntry(s)
	e.published = true
	m.put(e)
	m.derived.rest(e)
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

// Bounds of what is kept of a request, in bytes. The principal has none: the
// hub vouches for it.
const (
	maxSeen     = 256
	maxSeenPath = 4096
)

// seen returns the derived session that s describes, without what a new one gets.
func seen(s Session) Session {
	return Session{Kind: Derived, State: Ready, Principal: s.Principal,
		ClientName: clip(s.ClientName, maxSeen), ClientVersion: clip(s.ClientVersion, maxSeen),
		ProtocolVersion: clip(s.ProtocolVersion, maxSeen), Cwd: clip(s.Cwd, maxSeenPath), Project: clip(s.Project, maxSeen),
		UserAgent: clip(s.UserAgent, maxSeen), IP: clip(s.IP, maxSeen)}
}

// workKey is what requests of one derived session have in common.
type workKey struct{ principal, client, version, cwd string }

func keyOf(s Session) workKey { return workKey{s.Principal, s.ClientName, s.ClientVersion, s.Cwd} }

// derived are the live derived sessions. Those that nobody uses are in a list,
// so that the one to evict is found at once: strangers decide how often.
type derived struct {
	by          map[workKey]*entry
	first, last *entry // idle longest, idle shortest
}

func (d *derived) add(e *entry) { d.by[keyOf(e.s)] = e }

func (d *derived) remove(e *entry) {
	delete(d.by, keyOf(e.s))
	if e.inUse == 0 {
		d.unlist(e)
	}
}

// use counts a request that starts.
func (d *derived) use(e *entry) {
	if e.inUse == 0 {
		d.unlist(e)
	}
	e.inUse++
	e.uses++
}

// rest puts e, which nobody uses and which is not listed, at the end of the list.
func (d *derived) rest(e *entry) {
	e.before, e.after = d.last, nil
	if d.last != nil {
		d.last.after = e
	} else {
		d.first = e
	}
	d.last = e
}

func (d *derived) unlist(e *entry) {
	if e.before != nil {
		e.before.after = e.after
	} else {
		d.first = e.after
	}
	if e.after != nil {
		e.after.before = e.before
	} else {
		d.last = e.before
	}
	e.before, e.after = nil, nil
}
