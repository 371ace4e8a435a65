package upstream

import (
	"fmt"
	"slices"
	"sync"
	"testing"
)

func TestStartAndEndOfEachProcessAreTold(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var told []string
	tell := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, fmt.Sprintf(format, args...))
	}
	hear := func(c *Config) {
		c.Starting = func(server string) func(int) func() {
			tell("starting %s", server)
			return func(pid int) func() {
				tell("started %d", pid)
				return func() { tell("ended %d", pid) }
			}
		}
	}
	c := newEnv(t, childSpec(t, "script"), hear).connect(t, nil)
	pid := facts(t, c).Pid
	c.close(true)
	_, _ = newEnv(t, Spec{Name: "absent", Command: "/nothing/here"}, hear).openFor(t.Context(), nil, hub, ServerSession{})
	mu.Lock()
	defer mu.Unlock()
	want := []string{"starting child", fmt.Sprintf("started %d", pid), fmt.Sprintf("ended %d", pid), "starting absent", "started 0"}
	if !slices.Equal(told, want) {
		t.Errorf("told %q, want %q", told, want)
	}
}
