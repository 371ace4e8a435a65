package session

import (
	"context"
	"slices"
	"strings"
	"time"
)

// Info is a session with what is known of it only while it runs.
type Info struct {
	Session
	ExpiresAt time.Time // if nothing happens until then; the zero Time if it does not
	InFlight  int       // requests and streams that hold it
	Requests  int64     // requests and streams it ever had in this process
	Dirty     bool      // its stored copy is stale
}

// All returns every loaded session, ordered by id, and how many stored ones
// are still to be loaded.
func (m *Manager) All() (sessions []Info, restoring int) {
	sessions, _, restoring = m.List("", 0)
	return sessions, restoring
}

// copied is how many sessions are copied with the lock held: requests wait.
const copied = 500

// List returns up to limit loaded sessions whose ids come after the given one,
// ordered by id; without a limit, 0, all of them. It also returns how many
// loaded ones there are and how many stored ones are still to be loaded. If
// kinds are given, it speaks of those only.
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
	for some := range slices.Chunk(entries, copied) {
		m.mu.Lock()
		for _, e := range some {
			if e.ended == "" {
				page = append(page, m.info(e))
			}
		}
		m.mu.Unlock()
	}
	return page, count, restoring
}

// Info returns the session id as All would.
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

func (m *Manager) info(e *entry) Info {
	i := Info{Session: e.s, InFlight: e.inUse, Requests: e.uses, Dirty: m.isDirty(e.s.ID)}
	i.ExpiresAt, _ = m.deadline(e)
	return i
}
