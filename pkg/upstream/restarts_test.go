package upstream

import (
	"strings"
	"testing"
	"time"

	"github.com/mcphub-go/mcphub/pkg/instrument/instrumenttest"
)

func TestChildThatKeepsDyingIsStartedAgainAfterGrowingPauses(t *testing.T) {
	t.Parallel()
	r := newRestarts()
	now := time.Now()
	die := func(after time.Duration) time.Duration {
		r.started = now
		now = now.Add(after)
		next := r.afterDeath(now)
		pause := next.Sub(now)
		now = next
		return pause.Round(time.Millisecond)
	}
	for i, want := range []time.Duration{0, 400, 900, 1900, 3900, 7900, 15900, 29900, 29900} {
		if got := die(100 * time.Millisecond); got != want*time.Millisecond {
			t.Errorf("after death %d the pause is %s, want %s", i+1, got, want*time.Millisecond)
		}
	}
	if got := die(2 * stable); got != 0 {
		t.Errorf("after a long life the pause is %s", got)
	}
	if got := die(time.Second); got != 0 {
		t.Errorf("after the first early death since then it is %s", got)
	}
	if got := die(time.Second); got > 0 {
		t.Errorf("the child lived longer than the pause, which is %s nevertheless", got)
	}
}

func TestSessionsChildThatDiesOnEachCallIsNotStartedWithEachCall(t *testing.T) {
	t.Parallel()
	spec := childSpec(t, "script")
	spec.Isolation = PerSession
	r := run(t, []Spec{spec}).settled(t)
	l := r.link(t, "child", LinkConfig{})
	started := func() float64 {
		return instrumenttest.Value(t, r.reg, "mcphub_backend_connects_total", "outcome", "ok") - 1 // the hub's own
	}
	for range 2 { // the first death is forgiven
		if _, err := l.Call(t.Context(), toolCall("crash", "")); err == nil || !strings.Contains(err.Error(), "exit status 3") {
			t.Errorf("error %v", err)
		}
	}
	l.usable()
	l.mu.Lock()
	if pause := l.next.Sub(l.deaths.started); pause != firstPause {
		t.Errorf("the third process may start %s after the second, want %s", pause, firstPause)
	}
	l.next = time.Now().Add(time.Hour) // the rest of the test may take its time
	l.mu.Unlock()
	for range 20 {
		_, err := l.Call(t.Context(), toolCall("crash", ""))
		want := `server "child" is down: its process ended: exit status 3 (next attempt in `
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("error %v, want %s", err, want)
		}
	}
	if n := started(); n != 2 {
		t.Errorf("%v processes were started", n)
	}
	tool(t, r.link(t, "child", LinkConfig{}), "echo", "") // another session is not held up
}
