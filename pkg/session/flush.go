package session

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/mcphub-go/mcphub/pkg/persist"
)

// commit is the wait of one caller for the batch that writes ids.
type commit struct {
	ids  []string
	span trace.SpanContext // of the caller
	done chan struct{}
	err  error // set before done is closed
}

// commit returns when the current state of ids is on stable storage: the record of
// each live session, the removal of every other. It returns the error of the first
// id; other ids that failed stay marked. The caller that gets the token of the
// writer writes one batch for all callers that wait (group commit). If ctx ends
// before the batch was begun, nothing is written. After that an error is an
// ErrUnavailable.
func (m *Manager) commit(ctx context.Context, ids ...string) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	c := &commit{ids: ids, span: trace.SpanContextFromContext(ctx), done: make(chan struct{})}
	m.mu.Lock()
	m.commits = append(m.commits, c)
	m.mu.Unlock()
	select {
	case <-c.done:
		return c.err
	case m.writing <- struct{}{}:
		select {
		case <-c.done: // the batch that has just ended included c; other waiters write for themselves
		default:
			_ = m.writeBatch(ctx, false) // the error for this caller is in c.err
		}
		<-m.writing
		<-c.done
		return c.err
	case <-ctx.Done():
		m.mu.Lock()
		i := slices.Index(m.commits, c)
		if i >= 0 {
			m.commits = slices.Delete(m.commits, i, i+1)
		}
		m.mu.Unlock()
		if i >= 0 {
			return context.Cause(ctx)
		}
		<-c.done // the batch has begun: its outcome decides what is stored
		return c.err
	}
}

// Flush writes every changed session in one batch. Changes made during the write
// belong to the next batch, and sessions that could not be written stay dirty. If
// ctx ends before the batch was begun, nothing is written. A batch that has begun
// is limited by the deadline of ctx, but not by its cancellation.
func (m *Manager) Flush(ctx context.Context) error {
	if ctx.Err() != nil {
		return fmt.Errorf("flush: %w", context.Cause(ctx))
	}
	select {
	case m.writing <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("flush: the writer is busy: %w", context.Cause(ctx))
	}
	defer func() { <-m.writing }()
	return m.writeBatch(ctx, true)
}

// batch is one write to the store.
type batch struct {
	commits []*commit
	marks   map[string]time.Time // taken from Manager.dirty
	changes []persist.Change
	access  map[string]time.Time // last activity as written, by id
	created []*trace.SpanContext // spans of Create, of up to maxLinks of the sessions
}

// maxLinks limits the links of the span of a batch, which may contain thousands of
// sessions.
const maxLinks = 32

// links returns the links of the span of the batch: to the spans of the callers
// that wait for it, and to those in which its sessions were created. caller is the
// span of the caller that writes the batch, if there is one.
func (b *batch) links(caller trace.SpanContext) []trace.Link {
	var links []trace.Link
	add := func(to trace.SpanContext) {
		known := slices.ContainsFunc(links, func(l trace.Link) bool { return l.SpanContext.SpanID() == to.SpanID() })
		if to.IsSampled() && !known && len(links) < maxLinks {
			links = append(links, trace.Link{SpanContext: to})
		}
	}
	add(caller)
	for _, c := range b.commits {
		add(c.span)
	}
	for _, created := range b.created {
		add(*created)
	}
	return links
}

// takeBatch collects the waiting commits and, with all, every dirty session. The
// returned sessions are still to be encoded. A commit also takes the mark of its
// ids, because the same write serves both.
func (m *Manager) takeBatch(all bool) (b batch, sessions []Session) {
	reading := m.cfg.Clock.reader()
	b.marks, b.access = map[string]time.Time{}, map[string]time.Time{}
	m.mu.Lock()
	defer m.mu.Unlock()
	b.commits, m.commits = m.commits, nil
	if all {
		// Replace the set now instead of clearing it afterwards: a session that
		// changes during the write is marked in the new set and not lost.
		b.marks, m.dirty = m.dirty, make(map[string]time.Time)
	}
	seen := make(map[string]bool, len(b.commits)+len(b.marks))
	add := func(id string) {
		if seen[id] {
			return
		}
		seen[id] = true
		if since, ok := m.dirty[id]; ok {
			b.marks[id] = since
			delete(m.dirty, id)
		}
		if e := m.live[id]; e != nil {
			b.access[id] = e.seen
			s := e.s
			s.Clock = reading(e.born, e.seen, e.s.LastAccessedAt)
			sessions = append(sessions, s)
			if e.created != nil && len(b.created) < maxLinks {
				b.created = append(b.created, e.created)
			}
		} else {
			b.changes = append(b.changes, persist.Change{Key: id})
		}
	}
	for _, c := range b.commits {
		for _, id := range c.ids {
			add(id)
		}
	}
	for id := range b.marks {
		add(id)
	}
	m.flushing = b.marks
	return b, sessions
}

// writeBatch writes the waiting commits and, with all, every dirty session. The
// caller holds the token of the writer.
func (m *Manager) writeBatch(ctx context.Context, all bool) error {
	b, sessions := m.takeBatch(all)
	if len(b.changes)+len(sessions) == 0 {
		if all {
			m.metrics.flushes.WithLabelValues("skipped").Inc()
		}
		return nil
	}
	start, count := time.Now(), len(b.changes)+len(sessions)
	// The batch serves many callers: it must not be cancelled with one of them, and
	// its span and its log records must not belong to the trace or session of one.
	timeout := m.cfg.writeTimeout()
	if deadline, ok := ctx.Deadline(); ok && all { // the time for a shutdown is limited
		timeout = min(timeout, time.Until(deadline))
	}
	links := b.links(trace.SpanContextFromContext(ctx))
	ctx = WithID(trace.ContextWithSpanContext(context.WithoutCancel(ctx), trace.SpanContext{}), "")
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	ctx, span := m.tracer.Start(ctx, "mcphub.session.flush", trace.WithNewRoot(), trace.WithLinks(links...),
		trace.WithAttributes(
			attribute.Int("mcphub.session.count", count),
			attribute.Int("mcphub.session.durable_count", len(b.commits))))
	defer span.End()

	failures := map[string]error{}
	bytes := 0
	for _, s := range sessions {
		value, err := encode(s)
		if err != nil { // a caller of Update has set metadata that is not JSON
			failures[s.ID] = err
			continue
		}
		bytes += len(value)
		b.changes = append(b.changes, persist.Change{Key: s.ID, Value: value})
	}
	err := m.apply(ctx, b.changes)
	if partial, ok := errors.AsType[*persist.BatchError](err); ok {
		maps.Copy(failures, partial.Failed)
	} else if err != nil {
		for _, c := range b.changes {
			failures[c.Key] = err
		}
	}
	m.finishBatch(b, failures)
	m.metrics.flushed(start, bytes, failures)
	m.logWritten(ctx, b, failures)
	if len(failures) == 0 {
		m.log.DebugContext(ctx, "sessions flushed", "count", len(b.changes), "durable", len(b.commits), "bytes", bytes,
			"took", time.Since(start).String())
		return nil
	}
	err = fmt.Errorf("flush: %d of %d sessions could not be written: %w", len(failures), count, anyError(failures))
	return failed(span, err)
}

// apply calls Apply of the store, but returns when ctx ends, even if the store
// hangs in a system call. The changes then count as failed and are written again.
func (m *Manager) apply(ctx context.Context, changes []persist.Change) error {
	done := make(chan error, 1)
	go func() { done <- m.store.Apply(ctx, changes) }() // ends when the store returns; a Store allows one write at a time
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-done:
		return err
	default:
		return fmt.Errorf("the store did not answer in time: %w", context.Cause(ctx))
	}
}

// finishBatch marks the sessions again that were not written and releases the
// callers that wait for the batch.
func (m *Manager) finishBatch(b batch, failures map[string]error) {
	m.mu.Lock()
	m.flushing = nil
	for id, since := range b.marks {
		if failures[id] != nil {
			m.mark(id, "its write failed")
			m.dirty[id] = since
		}
	}
	for id, err := range failures {
		if e := m.live[id]; e != nil && e.published && !e.failing {
			e.failing = true
			m.note(id, EventFlushFailed, err.Error())
		}
	}
	for id, access := range b.access {
		if e := m.live[id]; e != nil && failures[id] == nil {
			e.stored, e.failing = access, false
		}
	}
	m.unlock()
	for _, c := range b.commits {
		if err := failures[c.ids[0]]; err != nil {
			c.err = fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		close(c.done)
	}
}

// anyError returns one of the failures, nil if there are none.
func anyError(failures map[string]error) error {
	for id, err := range failures {
		return fmt.Errorf("session %s: %w", id, err)
	}
	return nil
}
