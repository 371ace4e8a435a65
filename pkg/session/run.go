package session

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/mcphub-go/mcphub/pkg/persist"
)

// Run flushes changed sessions, ends expired ones and loads those that Restore
// found, until ctx ends. It does not flush at the end: Close does, when no more
// changes come.
func (m *Manager) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { m.flushLoop(ctx) })
	wg.Go(func() { m.cleanupLoop(ctx) })
	wg.Go(func() { m.loadAll(ctx) })
	wg.Wait()
	return nil
}

// Close closes the Live of every session and writes the remaining changes. The
// sessions stay in the store; derived ones end. Call it after Run has returned.
//
// A request that is still being served may hold a lease, but Lease.Live fails.
func (m *Manager) Close(ctx context.Context) error {
	m.mu.Lock()
	m.closed = true
	m.tails.end("", Shutdown)
	m.mu.Unlock()
	m.endDerived(ctx, Shutdown)
	for _, e := range m.entries(func(e *entry) bool { return e.live != nil }) {
		m.mu.Lock()
		live := e.live
		e.live = nil
		m.mu.Unlock()
		if live != nil {
			live.Close(Shutdown)
		}
	}
	if err := m.Flush(ctx); err != nil {
		return fmt.Errorf("the last flush: %w", err)
	}
	return nil
}

// maxBackoff is the longest pause between two attempts at a failing flush or load.
const maxBackoff = time.Minute

// flushLoop flushes FlushInterval after the first mark. It tries a failed flush
// again after a growing pause, even without a new mark. The pause is at most
// FlushInterval: one record that cannot be written must not delay the others.
func (m *Manager) flushLoop(ctx context.Context) {
	failures := 0
	heartbeat := time.NewTicker(m.cfg.flushInterval())
	defer heartbeat.Stop()
	for {
		wait := m.cfg.flushInterval()
		if failures == 0 {
			select {
			case <-m.marked:
			case <-heartbeat.C: // having nothing to write is a success too
				m.metrics.loopRan("flush", nil)
				continue
			case <-ctx.Done():
				return
			}
		} else {
			wait = min(maxBackoff, wait, time.Second<<min(failures-1, 6))
			wait -= rand.N(wait/4 + 1) //nolint:gosec // jitter
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
		err := m.Flush(ctx)
		if ctx.Err() != nil {
			return // Close tries again and reports the error
		}
		m.metrics.loopRan("flush", err)
		if err != nil {
			failures++
			m.log.ErrorContext(ctx, "sessions could not be flushed; trying again", "attempt", failures, "err", err)
			continue
		}
		failures = 0
	}
}

// cleanupLoop calls Cleanup every CleanupInterval.
func (m *Manager) cleanupLoop(ctx context.Context) {
	tick := time.NewTicker(m.cfg.cleanupInterval())
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			_, err := m.Cleanup(ctx)
			m.metrics.loopRan("cleanup", err)
			if err != nil {
				m.log.ErrorContext(ctx, "expired sessions could not be removed from the store; trying again", "err", err)
			}
		case <-ctx.Done():
			return
		}
	}
}

// Cleanup ends every expired session and returns their number. An error means that
// some are not removed from the store yet; a later flush tries again.
func (m *Manager) Cleanup(ctx context.Context) (int, error) {
	ctx, span := m.tracer.Start(ctx, "mcphub.session.cleanup", trace.WithNewRoot())
	defer span.End()
	start := time.Now()
	var ended []*entry
	m.mu.Lock()
	jump := m.watch.jumped(m.cfg.Clock, start)
	for _, e := range m.live {
		if !e.published {
			continue
		}
		if why, over := m.expired(e, start); over {
			deadline, _ := m.deadline(e)
			m.metrics.cleanedUp(why, start.Sub(deadline))
			m.end(e, why)
			ended = append(ended, e)
		} else if e.inUse > 0 {
			// An open stream and a request in progress are activity. The stored time
			// must follow, or a session in use would expire after a crash.
			m.touch(e, start)
		}
	}
	m.unlock()
	m.reportJump(ctx, jump)
	for _, e := range ended {
		m.closeEnded(ctx, e)
	}
	span.SetAttributes(attribute.Int("mcphub.session.count", len(ended)))
	addEndEvents(span, ended)
	var err error
	if slices.ContainsFunc(ended, func(e *entry) bool { return e.kind == Protocol }) {
		if err = m.Flush(ctx); !m.anyDirty(ended) {
			err = nil // only sessions that did not end here could not be written
		}
	}
	m.metrics.cleanup.observe(start, err)
	if err != nil {
		return len(ended), failed(span, err)
	}
	return len(ended), nil
}

// reportJump says that the wall clock was set; 0: it was not.
func (m *Manager) reportJump(ctx context.Context, by time.Duration) {
	if by == 0 {
		return
	}
	m.metrics.clockJumped(by)
	m.log.WarnContext(ctx, "the wall clock of the machine was set; no session ends because of it", "by", by.String())
}

// addEndEvents adds an event to span for each reason with the number of sessions.
func addEndEvents(span trace.Span, ended []*entry) {
	if !span.IsRecording() {
		return
	}
	count := map[Reason]int{}
	for _, e := range ended {
		count[e.ended]++ // not written any more, so mu is not needed
	}
	for _, why := range Reasons() {
		if n := count[why]; n > 0 {
			span.AddEvent("mcphub.session.expired", trace.WithAttributes(
				attribute.String("mcphub.session.end_reason", string(why)), attribute.Int("mcphub.session.count", n)))
		}
	}
}

// anyDirty reports whether the stored copy of one of the entries is out of date.
func (m *Manager) anyDirty(entries []*entry) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.ContainsFunc(entries, func(e *entry) bool { return m.isDirty(e.s.ID) })
}

// Restore reads the ids of the stored sessions. The records are loaded later: each
// when it is first used, the others by Run in the background. Until Restore has
// succeeded, an unknown session fails with ErrUnavailable instead of ErrNotFound.
// After that, further calls do nothing.
func (m *Manager) Restore(ctx context.Context) error {
	ctx, span := m.tracer.Start(ctx, "mcphub.session.restore", trace.WithNewRoot())
	defer span.End()
	m.mu.Lock()
	done := m.restored
	m.restoring = !done
	m.mu.Unlock()
	if done {
		return nil
	}
	var names []string
	for id, err := range m.store.Keys(ctx) {
		if err != nil {
			return failed(span, fmt.Errorf("restoring sessions: %w", err))
		}
		names = append(names, id)
	}
	m.mu.Lock()
	if m.restored { // another call was faster, and these names may be out of date
		m.mu.Unlock()
		return nil
	}
	for _, id := range names {
		// A dirty session that is not live has ended, but its record is not removed
		// yet. A dropped one may have ended after its name was read.
		if m.live[id] == nil && !m.isDirty(id) && !m.dropped[id] {
			m.pending[id] = true
		}
	}
	m.restored, m.restoring, m.dropped = true, false, nil
	m.mu.Unlock()
	span.SetAttributes(attribute.Int("mcphub.session.count", len(names)))
	if len(names) > 0 {
		m.log.InfoContext(ctx, "sessions found", "count", len(names))
	}
	return nil
}

// loaders is the number of records that are read at a time in the background.
const loaders = 4

// loadAll loads the sessions that Restore found, so that also those without
// requests are counted and expire.
func (m *Manager) loadAll(ctx context.Context) {
	m.mu.Lock()
	ids := make([]string, 0, len(m.pending))
	for id := range m.pending {
		ids = append(ids, id)
	}
	m.mu.Unlock()
	for pause := time.Second; len(ids) > 0 && ctx.Err() == nil; pause = min(2*pause, maxBackoff) {
		if ids = m.loadMany(ctx, ids); len(ids) == 0 {
			return
		}
		m.log.WarnContext(ctx, "some stored sessions could not be read; trying again", "count", len(ids))
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

// loadMany loads ids and returns those to try again: their records could not be
// read.
func (m *Manager) loadMany(ctx context.Context, ids []string) (again []string) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	queue := make(chan string)
	for range loaders {
		wg.Go(func() {
			for id := range queue {
				if _, err := m.load(ctx, id); errors.Is(err, ErrUnavailable) {
					mu.Lock()
					again = append(again, id)
					mu.Unlock()
				}
			}
		})
	}
	for _, id := range ids {
		select {
		case queue <- id:
			continue
		case <-ctx.Done():
		}
		break
	}
	close(queue)
	wg.Wait()
	return again
}

// load makes the stored session id live. A record that is not a valid session is
// moved to the quarantine of the store; one that cannot be read now stays pending.
func (m *Manager) load(ctx context.Context, id string) (*entry, error) {
	err := m.loading.do(ctx, id, func(ctx context.Context) error {
		m.mu.Lock()
		pending := m.pending[id]
		m.mu.Unlock()
		if !pending {
			return nil
		}
		ctx, cancel := context.WithTimeout(ctx, m.cfg.writeTimeout())
		defer cancel()
		value, ok, err := m.store.Get(ctx, id)
		if errors.Is(err, persist.ErrTooLarge) {
			return m.reject(ctx, id, err) // trying again would not help
		} else if err != nil {
			return fmt.Errorf("%w: session %s: %w", ErrUnavailable, id, err)
		}
		if !ok {
			m.forget(id)
			return nil
		}
		s, err := decode(id, value)
		if err != nil {
			return m.reject(ctx, id, err)
		}
		now := time.Now()
		wall := m.cfg.Clock.wall(now)
		idle, age := m.cfg.Clock.measure(s, wall)
		seen := now.Add(-idle)
		s.CreatedAt, s.LastAccessedAt = min(s.CreatedAt, wall), min(s.LastAccessedAt, wall)
		s.Clock = nil // each write has its own
		m.mu.Lock()
		delete(m.pending, id)
		e := newEntry(s, seen.Add(-age), seen)
		e.published = true
		m.put(e)
		m.counts[Protocol].restored++
		m.note(id, EventRestored, "")
		m.mu.Unlock()
		m.log.DebugContext(ctx, "session restored", "session", id, "client", s.ClientName, "protocol", s.ProtocolVersion,
			"idle", idle.Round(time.Second).String(), "upstreams", len(s.Upstreams), "subscriptions", len(s.Subscriptions))
		return nil
	})
	if err != nil {
		if !errors.Is(err, ErrUnavailable) { // the caller's ctx ended first
			err = fmt.Errorf("%w: session %s: %w", ErrUnavailable, id, err)
		}
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if e := m.live[id]; e != nil {
		return e, nil
	}
	return nil, ErrNotFound
}

// reject handles a record that cannot be loaded: one of a newer schema stays where
// it is, any other is moved to the quarantine. Neither is pending after that.
func (m *Manager) reject(ctx context.Context, id string, why error) error {
	if _, newer := errors.AsType[newerError](why); newer {
		m.forget(id)
		m.metrics.quarantined.WithLabelValues("newer_schema").Inc()
		m.log.WarnContext(ctx, "stored session is not loaded", "session", id, "err", why)
		return nil
	}
	if err := m.store.SetAside(ctx, id, why.Error()); err != nil {
		return fmt.Errorf("%w: moving the damaged session %s to the quarantine: %w", ErrUnavailable, id, err)
	}
	m.forget(id)
	m.metrics.quarantined.WithLabelValues("damaged").Inc()
	m.log.WarnContext(ctx, "damaged session record was set aside", "session", id, "err", why)
	return nil
}

// forget removes id from the pending sessions.
func (m *Manager) forget(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.pending, id)
}
