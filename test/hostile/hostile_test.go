package hostile

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// duration returns how long the attacks last: some seconds, or as long as MCPHUB_HOSTILE says.
func duration(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("MCPHUB_HOSTILE")
	if text == "" {
		return 5 * time.Second
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// honest is a client who calls tools one after the other.
type honest struct {
	*client
	name   string
	server string
}

// honestClients returns clients of every kind: with sessions at the shared server and at one of their own, and modern ones.
func honestClients(t *testing.T, h *limitedHub) (all []*honest) {
	t.Helper()
	for i := range 10 {
		c := &honest{newClient(h.listen), fmt.Sprint("honest ", i), "shared"}
		if i%3 == 2 {
			c.server = "own"
		}
		if i < 7 {
			if err := c.initialize(t.Context(), c.name, 100); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.echo(t.Context(), 0, c.server, c.name, 10); err != nil {
			t.Fatalf("%s before the attack: %v", c.name, err)
		}
		all = append(all, c)
	}
	return all
}

func TestHonestClientsAreServedWhileTheHubIsAttacked(t *testing.T) {
	h := startHub(t)
	clients := honestClients(t, h)
	before := h.peak()
	ctx, cancel := context.WithTimeout(t.Context(), duration(t))
	defer cancel()
	var attackers, users sync.WaitGroup
	for _, a := range attacks {
		if only := os.Getenv("MCPHUB_HOSTILE_ONLY"); only == "" || strings.Contains(a.name, only) {
			attackers.Go(func() { a.run(ctx, h) })
		}
	}
	var calls, failed atomic.Int64
	for _, c := range clients {
		users.Go(func() {
			for id := 1; ctx.Err() == nil; id++ {
				calls.Add(1)
				if err := c.echo(t.Context(), id, c.server, c.name, []int{10, 1 << 10, 50 << 10}[id%3]); err != nil {
					failed.Add(1)
					t.Errorf("%s, call %d: %v", c.name, id, err)
				}
				rest(ctx, 20*time.Millisecond)
			}
		})
	}
	users.Wait()
	peak := h.peak()
	metrics := h.get("/metrics")
	cancel()
	attackers.Wait()
	t.Logf("%d honest calls, %d failed; memory %d MiB before, %d MiB at most", calls.Load(), failed.Load(), before>>20, peak>>20)
	for line := range strings.Lines(metrics) {
		for _, name := range []string{"mcphub_memory_", "mcphub_connections_", "mcphub_log_records_dropped",
			"process_open_fds", "mcphub_sessions_active"} {
			if strings.HasPrefix(line, name) {
				t.Log(strings.TrimSpace(line))
			}
		}
	}
	if calls.Load() < int64(3*len(clients)) {
		t.Errorf("only %d honest calls were made", calls.Load())
	}
	if peak > maxMemory {
		t.Errorf("the hub had %d MiB of memory, more than its limit", peak>>20)
	}
	if metrics == "" {
		t.Error("the admin listener does not answer")
	}
	if status := h.stop(); status != 0 {
		t.Errorf("exit status %d", status)
	}
}
