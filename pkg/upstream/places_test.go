package upstream

import (
	"strings"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
)

func TestConnectionsOfSingleClientsAreLimitedAndTheHubsOwnAreNot(t *testing.T) {
	t.Parallel()
	one, two := childSpec(t, "script"), childSpec(t, "script")
	one.Name, two.Name = "one", "two"
	one.Isolation, two.Isolation = PerSession, PerSession
	r := run(t, []Spec{one, two}, func(c *Config) { c.MaxOwn = 2 }).settled(t) // the hub has two connections of its own
	first, second, third := r.link(t, "one", LinkConfig{}), r.link(t, "two", LinkConfig{}), r.link(t, "one", LinkConfig{})
	for _, link := range []*Link{first, second} {
		if _, err := link.Call(t.Context(), toolCall("echo", "")); err != nil {
			t.Fatal(err)
		}
	}
	_, err := third.Call(t.Context(), toolCall("echo", ""))
	if err == nil || !strings.Contains(err.Error(), "the hub has 2 connections of single clients") ||
		!strings.Contains(err.Error(), "ulimit -n") {
		t.Errorf("error %v", err)
	}
	first.Close(true)
	hubtest.Eventually(t, "there is a place again", func() bool {
		_, err := third.Call(t.Context(), toolCall("echo", ""))
		return err == nil
	})
}
