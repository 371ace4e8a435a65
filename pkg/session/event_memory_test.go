package session

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/persist"
)

func TestEventsOfIdleRestoredSessionCostLittleMemory(t *testing.T) {
	const n, limit = 10_000, 512
	m := New(new(persist.Memory), Config{})
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprintf("session%013d", i)
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	m.mu.Lock()
	for _, id := range ids {
		m.note(id, EventRestored, "")
	}
	m.mu.Unlock()
	runtime.GC()
	runtime.ReadMemStats(&after)
	got := float64(after.HeapAlloc-before.HeapAlloc) / n
	t.Logf("%.0f bytes", got)
	if got >= limit {
		t.Errorf("the events of a session cost %.0f bytes; want less than %d", got, limit)
	}
	runtime.KeepAlive(m)
}
