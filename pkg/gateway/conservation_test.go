package gateway

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

// mixedLoad makes requests of clients of both eras at random, and counts those without a response.
type mixedLoad struct {
	*rig
	cancelled     atomic.Int64 // requests that their clients cancelled
	subscriptions atomic.Int64 // subscription streams that were closed
	abandoned     atomic.Int64 // suspended calls without a retry
}

func (x *mixedLoad) legacyStep(c *peer, what, n int) {
	id := fmt.Sprint(n)
	switch what {
	case 0:
		c.call(id, "tools/call", `{"name":"one__echo"}`)
	case 1:
		c.call(id, "tools/call", `{"name":"two__fail","arguments":{"error":{"code":1,"message":"m"}}}`)
	case 2:
		c.callAndCancel(n, fmt.Sprintf(`{"n":%d}`, n))
		x.cancelled.Add(1)
	case 3:
		c.call(id, "tools/list", `{}`)
	case 4:
		c.call(id, "no/such", `{}`)
	default:
		s := c.open(http.MethodPost, request(id, "tools/call",
			`{"name":"two__request","arguments":{"method":"elicitation/create","params":{}}}`))
		c.respond(s.message(), `"result":{}`)
		s.message()
		s.cancel()
	}
}

func (x *mixedLoad) modernStep(c *modernPeer, what, n int) {
	id := fmt.Sprint(n)
	const arguments = `{"rounds":[[{}]]}`
	asks := func() inputRequiredResult {
		return c.call(id, "tools/call", `{"name":"two__requests","arguments":`+arguments+`}`).inputRequired(c.t)
	}
	switch what {
	case 0:
		c.tool(id, "one__echo", `{}`)
	case 1:
		c.tool(id, "two__fail", `{"error":{"code":1,"message":"m"}}`)
	case 2:
		s := c.with(`,"progressToken":1`).stream(id, "tools/call", fmt.Sprintf(`{"name":"one__hang","arguments":{"m":%d}}`, n))
		s.message()
		s.cancel()
		x.cancelled.Add(1)
	case 3:
		c.call(id, "server/discover", `{}`)
	case 4:
		c.call(id, "ping", `{}`)
	case 5:
		s, _ := c.subscribe(id, `{"toolsListChanged":true,"resourceSubscriptions":["test://one/one","test://two/one"]}`)
		s.cancel()
		x.subscriptions.Add(1)
	case 6:
		q := asks()
		c.call(id, "tools/call", `{"name":"two__requests","arguments":`+arguments+`,"requestState":"`+q.RequestState+`",`+
			`"inputResponses":{"`+firstInput(q)+`":{}}}`)
	case 7:
		asks()
		x.abandoned.Add(1)
	default:
		c.tool(id, "nobody__x", `{}`)
	}
}

func firstInput(q inputRequiredResult) string {
	for key := range q.InputRequests {
		return key
	}
	return ""
}

func TestMessagesOfClientsOfBothErasAreConserved(t *testing.T) {
	const clients, rounds = 6, 25
	one, two := stdio(t, "one"), stdio(t, "two")
	two.Isolation = upstream.PerSession
	users := func(c *Config) {
		c.Principal = func(r *http.Request) string { return r.Header.Get("X-User") }
		c.Bridge = map[string]BridgePolicy{"two": BridgeRequest} // one call at a time, so that each server request belongs to a known call
	}
	r := start(t, setup{specs: []upstream.Spec{one, two}, gateway: users})
	x := &mixedLoad{rig: r}
	var wg sync.WaitGroup
	for n := range clients {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(n)))
			user := fmt.Sprintf("X-User: %d", n)
			old, c := r.connect(user), r.modern(canElicit, user)
			for i := range rounds {
				if random.IntN(2) == 0 {
					x.legacyStep(old, random.IntN(6), 1000*(n+1)+i)
				} else {
					x.modernStep(c, random.IntN(9), 1000*(n+1)+i)
				}
			}
		})
	}
	wg.Wait()
	r.gateway.Drain()
	hubtest.Eventually(t, "nothing is in flight between hub and servers", func() bool {
		return r.metric("mcphub_requests_in_flight", "hop", "backend") == 0
	})
	r.conserved(float64(x.cancelled.Load() + x.subscriptions.Load()))
	count := func(direction, kind string) float64 {
		return r.metric("mcphub_messages_total", "hop", "backend", "direction", direction, "kind", kind)
	}
	out, in := count("out", "request"), count("in", "response")+count("in", "error")
	if lost := float64(x.cancelled.Load() + x.abandoned.Load()); out != in+lost {
		t.Errorf("servers were sent %v requests, answered %v, and %v were given up", out, in, lost)
	}
	if n := r.gateway.modern.inFlight.Load(); n != 0 {
		t.Errorf("%d modern requests are counted as in flight", n)
	}
	for _, stream := range []string{"post_sse", "subscription"} {
		hubtest.Eventually(t, "no stream is open", func() bool { return r.metric("mcphub_streams_active", "stream", stream) == 0 })
	}
	hubtest.Eventually(t, "all spans have ended", func() bool { return len(r.spans.Started()) == len(r.spans.Ended()) })
}
