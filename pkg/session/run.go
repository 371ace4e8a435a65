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

// Run flushes, cleans up and loads restored sessions until ctx ends. It does
// not write a last time: Close does, when nothing changes any more.
func (m *Manager) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { m.flushLoop(ctx) })
	wg.Go(func() { m.cleanupLoop(ctx) })
	wg.Go(func() { m.loadAll(ctx) })
	wg.Wait()
	return nil
}

// Close closes the live half of every session and writes what is left to
// write. The sessions live on in the store; derived ones end. Call it after Run
// has returned.
//
// A request that is still being served may hold a lease, but gets no live half
// any more.
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

// maxBackoff bounds the wait between two attempts at a failing flush.
const maxBackoff = time.Minute

// flushLoop writes FlushInterval after the first mark. A failed write is tried
// again after a growing pause, whether anything is marked meanwhile or not. The
// pause does not outgrow FlushInterval: a record that cannot be written must
// not keep the others from being written in time.
func (m *Manager) flushLoop(ctx context.Context) {
	failures := 0
	heartbeat := time.NewTicker(m.cfg.flushInterval())
	defer heartbeat.Stop()
	for {
		wait := m.cfg.flushInterval()
		if failures == 0 {
			select {
			case <-m.marked:
			case <-heartbeat.C: // nothing to write is a success too
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
			return // Close tries again and tells
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

// Cleanup ends every session whose time is over, and returns how many. An error
// means that their removal from the store is still to be done; a later flush
// will.
func (m *Manager) Cleanup(ctx context.Context) (int, error) {
	ctx, span := m.tracer.Start(ctx, "mcphub.session.cleanup", trace.WithNewRoot())
	defer span.End()
	start := time.Now()
	var ended []*entry
	m.mu.Lock()
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
			// An open stream and a call in flight are activity. The stored copy
			// must tell, or a crash would make a session expire that was in use.
			m.touch(e, start)
		}
	}
	m.mu.Unlock()
	for _, e := range ended {
		m.closeEnded(ctx, e)
	}
	span.SetAttributes(attribute.Int("mcphub.session.count", len(ended)))
	tellReasons(span, ended)
	var err error
	if slices.ContainsFunc(ended, func(e *entry) bool { return e.kind == Protocol }) {
		if err = m.Flush(ctx); !m.anyDirty(ended) {
			err = nil // it was another session that could not be written
		}
	}
	m.metrics.cleanup.observe(start, err)
	if err != nil {
		return len(ended), failed(span, err)
	}
	return len(ended), nil
}

// tellReasons adds an event for each reason for which sessions have ended.
func tellReasons(span trace.Span, ended []*entry) {
	if !span.IsRecording() {
		return
	}
	count := map[Reason]int{}
	for _, e := range ended {
		count[e.ended]++ // which does not change any more
	}
	for _, why := range Reasons() {
		if n := count[why]; n > 0 {
			span.AddEvent("mcphub.session.expired", trace.WithAttributes(
				attribute.String("mcphub.session.end_reason", string(why)), attribute.Int("mcphub.session.count", n)))
		}
	}
}

func (m *Manager) anyDirty(entries []*entry) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.ContainsFunc(entries, func(e *entry) bool { return m.isDirty(e.s.ID) })
}

// Restore learns which sessions the store has. It reads their names only; the
// records are loaded when they are asked for, and by Run in the background.
// Until it has succeeded, a session that is not known is unavailable rather than
// not found; after that it does nothing.
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
	if m.restored { // by another call, and these names may be out of date
		m.mu.Unlock()
		return nil
	}
	for _, id := range names {
		// A dirty session that is not live has ended; the store is yet to be
		// told. A dropped one may have ended after its name was read.
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

// loaders bounds how many records are read at once in the background.
const loaders = 4

// loadAll loads what Restore found, so that sessions nobody asks for expire
// and are counted too.
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

// loadMany loads ids and returns those that are worth another try.
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

// load brings the stored session id to life. A record that is no session is
// set aside; one that cannot be read now stays pending.
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
			return m.reject(ctx, id, err) // no later try reads it
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
		// A time in the future, of a clock that was wrong, would keep it for ever.
		now := time.Now().UnixMilli()
		s.CreatedAt, s.LastAccessedAt = min(s.CreatedAt, now), min(s.LastAccessedAt, now)
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.pending, id)
		e := newEntry(s)
		e.published, e.stored = true, s.LastAccessedAt
		m.put(e)
		m.counts[Protocol].restored++
		m.note(id, EventRestored, "")
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

// reject takes a record out of the way that is not a session of ours.
func (m *Manager) reject(ctx context.Context, id string, why error) error {
	if _, newer := errors.AsType[newerError](why); newer {
		m.forget(id)
		m.metrics.quarantined.WithLabelValues("newer_schema").Inc()
		m.log.WarnContext(ctx, "stored session is not loaded", "session", id, "err", why)
		return nil
	}
	if err := m.store.SetAside(ctx, id, why.Error()); err != nil {
		return fmt.Errorf("%w: setting the damaged session %s aside: %w", ErrUnavailable, id, err)
	}
	m.forget(id)
	m.metrics.quarantined.WithLabelValues("damaged").Inc()
	m.log.WarnContext(ctx, "damaged session record was set aside", "session", id, "err", why)
	return nil
}

func (m *Manager) forget(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.pending, id)
}
