package session

import (
	"bytes"
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"
)

// markReason is the reason why a session became dirty, for the log.
type markReason struct{ id, why string }

// noteMark remembers a mark for the log, if that wants it. Records are not written under mu, because the log may be slow:
// unlock writes them. The caller holds mu.
func (m *Manager) noteMark(id, why string) {
	if m.debugs() {
		m.marks = append(m.marks, markReason{id, why})
	}
}

// debugs reports whether the log wants records at DEBUG.
func (m *Manager) debugs() bool { return m.log.Enabled(context.Background(), slog.LevelDebug) }

// unlock releases mu and writes the records about what became dirty since the last call.
func (m *Manager) unlock() {
	marks := m.marks
	m.marks = nil
	m.mu.Unlock()
	for _, mark := range marks {
		m.log.Debug("session became dirty", "session", mark.id, "why", mark.why)
	}
}

// whyChanged returns the names of the fields in which two states of a session differ, as its record has them, or nothing
// if the log does not want it. It shows no values, which can be secrets.
func (m *Manager) whyChanged(before, after Session) string {
	if !m.debugs() {
		return ""
	}
	var names []string
	for name, same := range map[string]bool{
		"cwd":           before.Cwd == after.Cwd,
		"project":       before.Project == after.Project,
		"metadata":      maps.EqualFunc(before.Metadata, after.Metadata, bytesEqual),
		"state":         before.State == after.State,
		"logLevel":      before.LogLevel == after.LogLevel,
		"subscriptions": slices.Equal(before.Subscriptions, after.Subscriptions),
		"upstreams":     maps.Equal(before.Upstreams, after.Upstreams),
	} {
		if !same {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return "an update"
	}
	return "an update of " + strings.Join(slices.Sorted(slices.Values(names)), ", ")
}

func bytesEqual[T ~[]byte](a, b T) bool { return bytes.Equal(a, b) }

// logWritten writes a record for each session of a batch whose change the store has taken.
func (m *Manager) logWritten(ctx context.Context, b batch, failures map[string]error) {
	if !m.debugs() {
		return
	}
	now := time.Now()
	for _, c := range b.changes {
		if failures[c.Key] != nil {
			continue
		}
		waited := time.Duration(0)
		if since, marked := b.marks[c.Key]; marked {
			waited = now.Sub(since)
		}
		m.log.DebugContext(ctx, "session flushed", "session", c.Key, "removed", c.Value == nil, "bytes", len(c.Value),
			"dirty_for", waited.Round(time.Millisecond).String())
	}
}

// LogUse writes a record at TRACE that a request or a stream has taken the session id into use. Acquire cannot: the span
// of a request, whose trace the record names, begins when the session is known.
func (m *Manager) LogUse(ctx context.Context, id string) {
	if !m.log.Enabled(ctx, levelTrace) {
		return
	}
	m.mu.Lock()
	e := m.live[id]
	if e == nil {
		m.mu.Unlock()
		return
	}
	inUse := e.inUse
	ends, _ := m.deadline(e)
	m.mu.Unlock()
	m.log.Log(ctx, levelTrace, "session in use", "session", id, "in_flight", inUse, "expires", expiry(ends))
}

// expiry formats a deadline for the log.
func expiry(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.UTC().Format(time.RFC3339)
}
