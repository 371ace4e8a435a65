package session

import (
	"maps"
	"time"
)

// snapshot is the state of all sessions at one moment.
type snapshot map[Kind]*census

// census is the state of the sessions of one kind.
type census struct {
	active, dirty, idle, overdue, pending int
	oldest, oldestIdle, oldestDirty       time.Duration
	counts                                counts
}

// snapshot reads everything under one lock. The active sessions are counted,
// not kept as a sum: otherwise the conservation law could never fail.
func (m *Manager) snapshot(now time.Time) snapshot {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := snapshot{}
	for kind, c := range m.counts {
		all[kind] = &census{counts: counts{created: c.created, restored: c.restored, closed: maps.Clone(c.closed)}}
	}
	for _, e := range m.live {
		if e.published {
			m.census(all[e.kind], e, now)
		}
	}
	m.unwritten(all[Protocol], now)
	return all
}

// census counts e. The caller holds mu.
func (m *Manager) census(c *census, e *entry, now time.Time) {
	c.active++
	c.oldest = max(c.oldest, now.Sub(time.UnixMilli(e.s.CreatedAt)))
	grace := 2 * m.cfg.cleanupInterval()
	if deadline, _ := m.deadline(e); !deadline.IsZero() && now.After(deadline.Add(grace)) {
		c.overdue++
	}
	if e.inUse > 0 {
		return
	}
	idle := now.Sub(e.s.lastAccess())
	c.oldestIdle = max(c.oldestIdle, idle)
	if idle > m.cfg.idleTimeout()/2 {
		c.idle++
	}
}

// unwritten counts what is stored and what is still to be: sessions of the one
// kind that is. The caller holds mu.
func (m *Manager) unwritten(c *census, now time.Time) {
	c.dirty, c.pending = len(m.dirty), len(m.pending)
	for _, since := range m.dirty {
		c.oldestDirty = max(c.oldestDirty, now.Sub(since))
	}
	// What is being written is not stored yet: a write that hangs must show.
	for id, since := range m.answers {
		c.oldestDirty = max(c.oldestDirty, now.Sub(since))
		if _, again := m.dirty[id]; !again {
			c.dirty++
		}
	}
}
