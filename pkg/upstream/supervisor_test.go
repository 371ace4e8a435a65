package upstream

import (
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
)

func TestOnConnectedIsCalledWithEachConnectionAfterItsInventoryAndNotWithAChangeOfLists(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var events []string
	add := func(event string) {
		mu.Lock()
		defer mu.Unlock()
		events = append(events, event)
	}
	have := func(want ...string) func() bool {
		return func() bool {
			mu.Lock()
			defer mu.Unlock()
			return slices.Equal(events, want)
		}
	}
	var pool atomic.Pointer[Pool]
	r := run(t, []Spec{childSpec(t, "script")}, func(c *Config) {
		c.OnConnected = func(server string) {
			if p := pool.Load(); p != nil && p.Server(server).Status().State != Up {
				add("not up")
			}
			add("connected to " + server)
		}
		c.OnInventory = func(server string, _ Inventory) { add("inventory of " + server) }
	}).settled(t)
	pool.Store(r.Pool)
	l := r.link(t, "child", LinkConfig{})
	hubtest.Eventually(t, "it is connected", have("inventory of child", "connected to child"))
	tool(t, l, "grow", `{"key":"more"}`)
	hubtest.Eventually(t, "its lists change", have("inventory of child", "connected to child", "inventory of child"))
	_, _ = l.Call(t.Context(), toolCall("crash", ""))
	hubtest.Eventually(t, "it is connected again", have("inventory of child", "connected to child", "inventory of child",
		"inventory of child", "connected to child"))
}
