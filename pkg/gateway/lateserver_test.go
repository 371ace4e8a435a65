package gateway

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/mcphub-go/mcphub/pkg/persist"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

// Which server a subscription is for is known only when the catalog has the server's lists.
func TestAServerThatComesUpAfterTheHubGetsTheSubscriptionsOfRestoredSessions(t *testing.T) {
	t.Parallel()
	web := newWeb(t)
	one := stdio(t, "one")
	program := filepath.Join(t.TempDir(), "one")
	link := func() {
		if err := os.Symlink(one.Command, program); err != nil {
			t.Fatal(err)
		}
	}
	dir := filepath.Join(t.TempDir(), "sessions")
	open := func() *rig {
		store, err := persist.OpenDir(dir, persist.DirConfig{})
		if err != nil {
			t.Fatal(err)
		}
		late := one
		late.Command = program
		return start(t, setup{store: store, specs: []upstream.Spec{late, web.spec("web")}, upstream: func(c *upstream.Config) {
			replace := c.OnInventory
			c.OnInventory = func(server string, inv upstream.Inventory) {
				time.Sleep(20 * time.Millisecond) // as long as large lists take
				replace(server, inv)
			}
		}})
	}
	link()
	r := open()
	c := r.connect()
	if m := c.call("1", "resources/subscribe", `{"uri":"test://one/one"}`).answer(t); m.Error != nil {
		t.Fatalf("subscribe: %s", m.Error)
	}
	r.stop()

	if err := os.Remove(program); err != nil {
		t.Fatal(err)
	}
	r = open() // the first attempt to start the server fails
	c = &peer{rig: r, token: c.token, id: c.id}
	c.listen() // opens the session
	link()
	until(t, "the tools of the server are offered", func() bool {
		_, ok := r.catalog.Snapshot().Tool("one__state")
		return ok
	})
	until(t, "the server has the subscription", func() bool {
		return slices.Equal(r.connect().state("one").Subscriptions, []string{"test://one/one"})
	})
}
