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

// commit is one caller's wait for the batch that writes ids.
type commit struct {
	ids  []string
	span trace.SpanContext // that waits for it
	done chan struct{}
	err  error // set before done is closed
}

// commit returns when what is true of ids now is on stable storage: the record
// of each, or its absence. The error is that of the first; what else failed is
// marked. Whoever finds the writer's token free writes the batch for all who
// wait. If ctx ends before the batch was begun, nothing is written; once it was,
// an error is ErrUnavailable.
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
		case <-c.done: // by the batch that has just ended; the others look after themselves
		default:
			_ = m.writeBatch(ctx, false) // c.err tells
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
		<-c.done // the batch is under way: only its outcome tells what is stored
		return c.err
	}
}

// Flush writes every changed session in one batch. Changes made meanwhile are
// kept for the next one, and those that could not be written stay marked. If
// ctx ends before the batch was begun, nothing is written; of a batch under way
// only the deadline of ctx is heeded.
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

// batch is what one write takes from the Manager.
type batch struct {
	commits []*commit
	marks   map[string]time.Time // the marks it answers
	changes []persist.Change
	access  map[string]int64     // LastAccessedAt as written
	created []*trace.SpanContext // spans of Create, of some of the sessions
}

// maxLinks bounds the links of the span of a batch, which may be of thousands of
// sessions.
const maxLinks = 32

// links are those of the span of the batch: to the spans that wait for it, and
// to those in which its sessions were created. caller is the span, if there is
// one, of whoever writes it.
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

// take collects what waits for the writer. The records are encoded as they
// are now; a commit takes the mark of its id along, because the same write
// answers both.
func (m *Manager) take(all bool) (b batch, sessions []Session) {
	b.marks, b.access = map[string]time.Time{}, map[string]int64{}
	m.mu.Lock()
	defer m.mu.Unlock()
	b.commits, m.commits = m.commits, nil
	if all {
		// Swap the set rather than clearing it afterwards: a session that
		// changes while we write is marked in the new set and not forgotten.
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
			sessions = append(sessions, e.s)
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
	m.answers = b.marks
	return b, sessions
}

// writeBatch writes what waits: the commits, and with all every marked
// session. The caller holds the writer's token.
func (m *Manager) writeBatch(ctx context.Context, all bool) error {
	b, sessions := m.take(all)
	if len(b.changes)+len(sessions) == 0 {
		if all {
			m.metrics.flushes.WithLabelValues("skipped").Inc()
		}
		return nil
	}
	start, count := time.Now(), len(b.changes)+len(sessions)
	// The batch serves many callers: it neither ends with one of them, nor hangs
	// below one's span, nor belongs to one's session.
	timeout := m.cfg.writeTimeout()
	if deadline, ok := ctx.Deadline(); ok && all { // a shutdown has a budget
		timeout = min(timeout, time.Until(deadline))
	}
	links := b.links(trace.SpanContextFromContext(ctx))
	ctx = WithID(trace.ContextWithSpanContext(context.WithoutCancel(ctx), trace.SpanContext{}), "")
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	ctx, span := m.tracer.Start(ctx, "mcphub.session.flush", trace.WithNewRoot(), trace.WithLinks(links...), trace.WithAttributes(
		attribute.Int("mcphub.session.count", count),
		attribute.Int("mcphub.session.durable_count", len(b.commits))))
	defer span.End()

	failures := map[string]error{}
	bytes := 0
	for _, s := range sessions {
		value, err := encode(s)
		if err != nil { // metadata that is no JSON; Update's caller put it there
			failures[s.ID] = err
			continue
		}
		bytes += len(value)
		b.access[s.ID] = s.LastAccessedAt
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
	m.settle(b, failures)
	m.metrics.flushed(start, bytes, failures)
	if len(failures) == 0 {
		m.log.DebugContext(ctx, "sessions flushed", "count", len(b.changes), "durable", len(b.commits), "bytes", bytes,
			"took", time.Since(start).String())
		return nil
	}
	err = fmt.Errorf("flush: %d of %d sessions could not be written: %w", len(failures), count, anyOf(failures))
	return failed(span, err)
}

// apply is the store's Apply, but it returns when ctx ends, even if the store
// hangs in a system call. What the store may still write then counts as failed
// and is written again.
func (m *Manager) apply(ctx context.Context, changes []persist.Change) error {
	done := make(chan error, 1)
	go func() { done <- m.store.Apply(ctx, changes) }() // ends with the store's call; Stores let one write at a time
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

// settle tells the waiting callers how their write went and marks again what
// was not written.
func (m *Manager) settle(b batch, failures map[string]error) {
	m.mu.Lock()
	m.answers = nil
	for id, since := range b.marks {
		if failures[id] != nil {
			m.mark(id)
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
	m.mu.Unlock()
	for _, c := range b.commits {
		if err := failures[c.ids[0]]; err != nil {
			c.err = fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		close(c.done)
	}
}

func anyOf(failures map[string]error) error {
	for id, err := range failures {
		return fmt.Errorf("session %s: %w", id, err)
	}
	return nil
}
