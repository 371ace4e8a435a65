package session

import (
	"context"
	"slices"
	"strings"
	"time"
)

// Info is a session with its state in this process. If the wall clock was set, its
// times are in terms of the new time.
type Info struct {
	Session
	ExpiresAt time.Time // without further activity; zero: never
	InFlight  int       // requests and streams in progress
	Requests  int64     // requests and streams since the start of the process
	Dirty     bool      // its stored copy is out of date
}

// All returns every loaded session, ordered by id, and the number of stored
// sessions that are not loaded yet.
func (m *Manager) All() (sessions []Info, restoring int) {
	sessions, _, restoring = m.List("", 0)
	return sessions, restoring
}

// listChunk is the number of sessions that List copies under the lock at a time,
// because requests wait for that lock.
const listChunk = 500

// List returns up to limit loaded sessions with ids greater than after, ordered
// by id; limit 0 means all. It also returns the number of all loaded sessions and
// the number of stored ones that are not loaded yet. If kinds are given, only
// sessions of those kinds are returned and counted.
func (m *Manager) List(after string, limit int, kinds ...Kind) (page []Info, count, restoring int) {
	wanted := func(kind Kind) bool { return len(kinds) == 0 || slices.Contains(kinds, kind) }
	m.mu.Lock()
	entries := make([]*entry, 0, len(m.live))
	for _, e := range m.live {
		if e.published && wanted(e.kind) {
			entries = append(entries, e)
		}
	}
	count = len(entries)
	if wanted(Protocol) {
		restoring = len(m.pending)
	}
	m.mu.Unlock()
	entries = slices.DeleteFunc(entries, func(e *entry) bool { return e.id <= after })
	slices.SortFunc(entries, func(a, b *entry) int { return strings.Compare(a.id, b.id) })
	if limit > 0 {
		entries = entries[:min(len(entries), limit)]
	}
	page = make([]Info, 0, len(entries))
	for chunk := range slices.Chunk(entries, listChunk) {
		m.mu.Lock()
		for _, e := range chunk {
			if e.ended == "" {
				page = append(page, m.info(e))
			}
		}
		m.mu.Unlock()
	}
	return page, count, restoring
}

// Info returns the session id with its state in this process.
func (m *Manager) Info(ctx context.Context, id string) (Info, error) {
	e, err := m.lookup(ctx, id)
	if err != nil {
		return Info{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if e.ended != "" {
		return Info{}, ErrNotFound
	}
	return m.info(e), nil
}

// info returns the Info of e. The caller holds mu.
func (m *Manager) info(e *entry) Info {
	i := Info{Session: e.s, InFlight: e.inUse, Requests: e.uses, Dirty: m.isDirty(e.s.ID)}
	i.CreatedAt, i.LastAccessedAt = m.cfg.Clock.shown(e.born, e.s.CreatedAt), m.cfg.Clock.shown(e.seen, e.s.LastAccessedAt)
	if ends, _ := m.deadline(e); !ends.IsZero() {
		i.ExpiresAt = time.UnixMilli(i.LastAccessedAt).Add(ends.Sub(e.seen))
	}
	return i
}
