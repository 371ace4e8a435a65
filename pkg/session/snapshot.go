package session

import (
	"maps"
	"time"
)

// snapshot is the state of all sessions at one moment.
type snapshot map[Kind]*kindStats

// kindStats describes the sessions of one kind.
type kindStats struct {
	active, dirty, idle, overdue, pending int
	oldest, oldestIdle, oldestDirty       time.Duration
	counts                                counts
}

// snapshot reads everything under one lock. It counts the active sessions instead
// of computing created + restored - closed, because then the invariant that the
// metrics are checked against could never fail.
func (m *Manager) snapshot(now time.Time) snapshot {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := snapshot{}
	for kind, c := range m.counts {
		all[kind] = &kindStats{counts: counts{created: c.created, restored: c.restored, closed: maps.Clone(c.closed)}}
	}
	for _, e := range m.live {
		if e.published {
			m.addTo(all[e.kind], e, now)
		}
	}
	m.addUnstored(all[Protocol], now)
	return all
}

// addTo adds e to s. The caller holds mu.
func (m *Manager) addTo(s *kindStats, e *entry, now time.Time) {
	s.active++
	s.oldest = max(s.oldest, now.Sub(e.born))
	grace := 2 * m.cfg.cleanupInterval()
	if deadline, _ := m.deadline(e); !deadline.IsZero() && now.After(deadline.Add(grace)) {
		s.overdue++
	}
	if e.inUse > 0 {
		return
	}
	idle := now.Sub(e.seen)
	s.oldestIdle = max(s.oldestIdle, idle)
	if idle > m.cfg.idleTimeout()/2 {
		s.idle++
	}
}

// addUnstored adds to s the sessions that are dirty and those that are not loaded
// yet; both are of the stored kind. The caller holds mu.
func (m *Manager) addUnstored(s *kindStats, now time.Time) {
	s.dirty, s.pending = len(m.dirty), len(m.pending)
	for _, since := range m.dirty {
		s.oldestDirty = max(s.oldestDirty, now.Sub(since))
	}
	// A session that is being written counts as dirty: a write that hangs must be
	// visible in the metrics.
	for id, since := range m.flushing {
		s.oldestDirty = max(s.oldestDirty, now.Sub(since))
		if _, again := m.dirty[id]; !again {
			s.dirty++
		}
	}
}
