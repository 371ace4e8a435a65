package session

import (
	"maps"
	"time"
)

// snapshot is the state of all sessions at one moment.
type snapshot struct {
	active, dirty, idle, overdue, pending int
	oldest, oldestIdle, oldestDirty       time.Duration
	counts                                counts
}

// snapshot reads everything under one lock. The active sessions are counted,
// not kept as a sum: otherwise the conservation law could never fail.
func (m *Manager) snapshot(now time.Time) snapshot {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := snapshot{dirty: len(m.dirty), pending: len(m.pending), counts: m.counts}
	s.counts.closed = maps.Clone(m.counts.closed)
	grace := 2 * m.cfg.cleanupInterval()
	for _, e := range m.live {
		if !e.published {
			continue
		}
		s.active++
		s.oldest = max(s.oldest, now.Sub(time.UnixMilli(e.s.CreatedAt)))
		if deadline, _ := m.deadline(e); !deadline.IsZero() && now.After(deadline.Add(grace)) {
			s.overdue++
		}
		if e.inUse > 0 {
			continue
		}
		idle := now.Sub(e.s.lastAccess())
		s.oldestIdle = max(s.oldestIdle, idle)
		if idle > m.cfg.idleTimeout()/2 {
			s.idle++
		}
	}
	for _, since := range m.dirty {
		s.oldestDirty = max(s.oldestDirty, now.Sub(since))
	}
	// What is being written is not stored yet: a write that hangs must show.
	for id, since := range m.answers {
		s.oldestDirty = max(s.oldestDirty, now.Sub(since))
		if _, again := m.dirty[id]; !again {
			s.dirty++
		}
	}
	return s
}
