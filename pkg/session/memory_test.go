package session_test

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/mcphub-go/mcphub/pkg/persist"
	"github.com/mcphub-go/mcphub/pkg/session"
)

// realistic returns a session as initialize of a desktop client creates it.
func realistic(i int) session.Session {
	return session.Session{
		ClientName: "claude-code", ClientVersion: "2.1.14", ProtocolVersion: "2025-11-25",
		Capabilities: json.RawMessage(`{"roots":{"listChanged":true},"sampling":{},"elicitation":{"form":{}}}`),
		Cwd:          fmt.Sprintf("/home/somebody/src/project-%d", i), Project: fmt.Sprintf("project-%d", i),
		UserAgent: "claude-code/2.1.14 (linux; x64)", IP: fmt.Sprintf("10.1.%d.%d", i/256%256, i%256),
		Metadata: map[string]json.RawMessage{"window": json.RawMessage(fmt.Sprint(i))},
		LogLevel: "warning",
		Upstreams: map[string]session.Upstream{
			"docs": {SessionID: fmt.Sprintf("6f1b2c3d-0000-4000-8000-%012d", i), ProtocolVersion: "2025-06-18"},
		},
	}
}

// endless is a Store of n realistic sessions that uses no memory for them.
type endless struct {
	persist.Store
	n      int
	record string
}

func newEndless(t testing.TB, n int) endless {
	t.Helper()
	s := realistic(0)
	s.ID, s.State, s.TokenHash = "ID", session.Ready, strings.Repeat("0123456789abcdef", 4)
	s.CreatedAt, s.LastAccessedAt = time.Now().UnixMilli(), time.Now().UnixMilli()
	record, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return endless{new(persist.Memory), n, string(record)}
}

func (e endless) Get(_ context.Context, key string) ([]byte, bool, error) {
	return []byte(strings.Replace(e.record, "ID", key, 1)), true, nil
}

func (e endless) Keys(context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for i := range e.n {
			if !yield(fmt.Sprintf("session%013d", i), nil) {
				return
			}
		}
	}
}

func (endless) Apply(context.Context, []persist.Change) error { return nil }

// heap returns the bytes of heap per session that fn leaves in use.
func heap(sessions int, fn func()) float64 {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	fn()
	runtime.GC()
	runtime.GC() // the second cycle frees objects with finalizers
	runtime.ReadMemStats(&after)
	return float64(after.HeapAlloc-before.HeapAlloc) / float64(sessions)
}

func TestIdleSessionCostsAtMostThreeKilobytes(t *testing.T) {
	const n, limit = 5_000, 3 << 10 // BenchmarkMemory uses more
	t.Run("created", func(t *testing.T) {
		m := session.New(newEndless(t, 0), session.Config{})
		got := heap(n, func() {
			for i := range n {
				createFor(t, m, realistic(i))
			}
		})
		t.Logf("%.0f bytes", got)
		if got > limit {
			t.Errorf("a created session costs %.0f bytes of heap; want %d at most", got, limit)
		}
		runtime.KeepAlive(m)
	})
	t.Run("restored", func(t *testing.T) {
		store := newEndless(t, n)
		var m *session.Manager
		got := heap(n, func() {
			m = restored(t, store, session.Config{})
			for id := range store.Keys(t.Context()) {
				if !m.Has(t.Context(), id) {
					t.Fatalf("%s was not restored", id)
				}
			}
		})
		t.Logf("%.0f bytes", got)
		if got > limit {
			t.Errorf("a restored session costs %.0f bytes of heap; want %d at most", got, limit)
		}
		if e := m.Events("session0000000000000"); len(e) != 1 || e[0].Type != session.EventRestored {
			t.Errorf("its events are %v", e)
		}
		runtime.KeepAlive(m)
	})
}

func BenchmarkMemory(b *testing.B) {
	const n = 20_000
	store := newEndless(b, n)
	var m *session.Manager
	var bytes float64
	for b.Loop() {
		bytes = heap(n, func() {
			m = session.New(store, session.Config{})
			if err := m.Restore(b.Context()); err != nil {
				b.Fatal(err)
			}
			for id := range store.Keys(b.Context()) {
				_ = m.Has(b.Context(), id)
			}
		})
		runtime.KeepAlive(m)
		m = nil
	}
	b.ReportMetric(bytes, "B/session")
}
