package gateway

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

const canListRoots = `{"roots":{}}`

// heldAt returns how many requests of the server wait for a call.
func (r *rig) heldAt(server string) (n int) {
	b := r.gateway.modern.bridges
	b.mu.Lock()
	defer b.mu.Unlock()
	for key, br := range b.open {
		if key.server == server {
			br.unasked.mu.Lock()
			n += len(br.unasked.waiting)
			br.unasked.mu.Unlock()
		}
	}
	return n
}

// listsRoots sends the call again, with the roots that its first result asked for.
func (c *modernPeer) listsRoots(tool string, q inputRequiredResult) reply {
	c.t.Helper()
	if len(q.InputRequests) != 1 || q.InputRequests["q1"].Method != "roots/list" {
		c.t.Fatalf("received %+v", q)
	}
	return c.call(`"again"`, "tools/call", fmt.Sprintf(`{"name":%q,"arguments":{},"inputResponses":`+
		`{"q1":{"roots":[{"uri":"file:///work"}]}},"requestState":%q}`, tool, q.RequestState))
}

// server-filesystem, for example, asks for the roots when it has started.
func TestRootsThatAreAskedForBetweenCallsComeWithTheNextCall(t *testing.T) {
	for _, tool := range []string{"notify", "notifyLater"} { // the call ends before its client can be asked
		t.Run(tool, func(t *testing.T) {
			r, c := startWithLegacyServer(t, upstream.PerSession)
			c.capabilities = canListRoots
			c.tool("1", "one__"+tool, `{"method":"roots/list","id":"late"}`).response(t)
			hubtest.Eventually(t, "the request waits for a call", func() bool { return r.heldAt("one") == 1 })
			c.call("2", "tools/list", `{}`).response(t) // cannot ask
			other := r.modern(canListRoots, "X-User: bob")
			other.state("one") // is not asked
			c.listsRoots("one__state", c.tool("3", "one__state", `{}`).inputRequired(t)).response(t)
			hubtest.Eventually(t, "the server has the answer", func() bool {
				late := c.state("one").Late
				return len(late) == 1 && string(late[0]) == `{"roots":[{"uri":"file:///work"}]}`
			})
			r.conserved(0)
		})
	}
}

func TestRootsAreAskedForAgainIfTheCallThatAskedIsOver(t *testing.T) {
	r, c := startWithLegacyServer(t, upstream.PerSession)
	c.capabilities = canListRoots
	c.tool("1", "one__notifyLater", `{"method":"roots/list","id":"late"}`).response(t)
	hubtest.Eventually(t, "the request waits for a call", func() bool { return r.heldAt("one") == 1 })
	c.tool("2", "one__state", `{}`).inputRequired(t)
	p := r.gateway.modern.suspended
	p.mu.Lock()
	calls := slices.Collect(maps.Values(p.calls))
	p.mu.Unlock()
	for _, call := range calls {
		call.stop(errSuspensionExpired)
	}
	hubtest.Eventually(t, "the request waits for the next call", func() bool { return r.heldAt("one") == 1 })
	c.listsRoots("one__state", c.tool("3", "one__state", `{}`).inputRequired(t)).response(t)
}

func TestRequestsThatWaitForACallAreLimitedAndEndWithTheirContext(t *testing.T) {
	var x heldRequests
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	for range maxHeld {
		go func() {
			_, err := x.ask(ctx, jsonrpc.Message{Method: "roots/list"})
			ended <- err
		}()
	}
	hubtest.Eventually(t, "all wait", func() bool {
		x.mu.Lock()
		defer x.mu.Unlock()
		return len(x.waiting) == maxHeld
	})
	if _, err := x.ask(t.Context(), jsonrpc.Message{Method: "roots/list"}); err == nil {
		t.Error("one more was not refused")
	}
	cancel()
	for range maxHeld {
		if err := <-ended; err == nil {
			t.Error("a request was answered")
		}
	}
	if len(x.waiting) != 0 {
		t.Errorf("%d still wait", len(x.waiting))
	}
}
