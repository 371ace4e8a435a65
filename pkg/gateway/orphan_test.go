package gateway

import (
	"context"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
	"github.com/mcphub-go/mcphub/pkg/session"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

// orphans reads how many connections outlive their session.
func (r *rig) orphans() float64 { return r.metric("mcphub_backend_sessions_orphaned") }

func TestConnectionThatOutlivesItsSessionIsAnOrphan(t *testing.T) {
	two, three := stdio(t, "two"), upstream.Spec{Name: "three", URL: parrotOverHTTP(t, false)}
	two.Isolation, three.Isolation = upstream.PerSession, upstream.PerSession
	var lost atomic.Value // the session that the table has lost without closing it
	lost.Store("")
	var table *session.Manager
	r := start(t, setup{specs: []upstream.Spec{two, three}, upstream: func(c *upstream.Config) {
		c.OrphanGrace = time.Nanosecond // no reading but the first may be wrong
		c.HasSession = func(id string) bool { return id != lost.Load() && table.Has(context.Background(), id) }
	}})
	table = r.sessions
	c, other := r.connect(), r.connect()
	for _, p := range []*peer{c, other} {
		p.tool("two__echo", `{}`)
		p.tool("three__say", `{"say":"x"}`)
	}
	r.modern(`{}`).tool("1", "two__echo", `{}`) // whose connection belongs to no session
	for range 3 {
		if n := r.orphans(); n != 0 {
			t.Fatalf("%v connections of sessions that are there are orphans", n)
		}
	}
	lost.Store(c.id)
	_ = r.orphans() // notes since when
	hubtest.Eventually(t, "both connections of the lost session are orphans", func() bool { return r.orphans() == 2 })
	if n := r.metric("mcphub_backend_sessions_orphaned", "mcphub_backend", "two"); n != 1 {
		t.Errorf("two has %v orphans", n)
	}
	r.send(http.MethodDelete, "", "Mcp-Session-Id: "+c.token)
	hubtest.Eventually(t, "nothing is left of the connections", func() bool { return r.orphans() == 0 })
	if other.tool("two__echo", `{}`) == nil {
		t.Error("the other session has lost its connection")
	}
}

func TestConnectionThatIsBeingClosedIsNoOrphan(t *testing.T) {
	two := stdio(t, "two")
	two.Isolation = upstream.PerSession
	var table *session.Manager
	r := start(t, setup{specs: []upstream.Spec{two}, upstream: func(c *upstream.Config) {
		c.HasSession = func(id string) bool { return table.Has(context.Background(), id) }
	}})
	table = r.sessions
	for range 10 {
		c := r.connect()
		c.tool("two__echo", `{}`)
		r.send(http.MethodDelete, "", "Mcp-Session-Id: "+c.token)
		if n := r.orphans(); n != 0 {
			t.Errorf("%v orphans", n)
		}
	}
}
