package gateway

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

// Sixteen clients make the same calls with the same ids and the same progress tokens over one connection to one server.
// Each must receive its own messages, and only those.
func TestClientsOfASharedConnectionDoNotMix(t *testing.T) {
	const clients, rounds = 16, 140 // 2240 calls
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one")}, untraced: true})
	var wg sync.WaitGroup
	var mu sync.Mutex
	var cancelled []string
	for n := range clients {
		wg.Go(func() {
			c := r.connect()
			for i := range rounds {
				arguments := fmt.Sprintf(`{"client":%d,"round":%d,"steps":%d}`, n, i, i%4)
				switch {
				case i%10 == n%10 && n%2 == 0:
					c.callAndCancel(i, arguments)
					mu.Lock()
					cancelled = append(cancelled, arguments)
					mu.Unlock()
				default:
					c.callWithProgress(i, i%4, arguments)
				}
			}
		})
	}
	wg.Wait()
	s := r.connect().state("one")
	var seen []string
	for _, raw := range s.Cancelled {
		seen = append(seen, string(raw))
	}
	slices.Sort(seen)
	slices.Sort(cancelled)
	if !slices.Equal(seen, cancelled) || s.Hanging != 0 {
		t.Errorf("the server received %d cancellations, want %d; %d calls hang", len(seen), len(cancelled), s.Hanging)
	}
	if got := r.metric("mcphub_unmatched_responses_total"); got != 0 {
		t.Errorf("%v messages of the server matched no call", got)
	}
	r.conserved(float64(len(cancelled)))
}

// callWithProgress makes a call with progress and checks all messages of its response.
func (c *peer) callWithProgress(i, steps int, arguments string) {
	p := c.call(fmt.Sprint(i), "tools/call", fmt.Sprintf(`{"name":"one__work","arguments":%s,"_meta":{"progressToken":%d}}`, arguments, i))
	m := p.response(c.t)
	if string(m.ID) != fmt.Sprint(i) || string(m.Result) != `{"content":[],"of":`+arguments+`}` {
		c.t.Errorf("%s was answered with %s", arguments, p.body)
	}
	if want := max(1, steps+1); (steps > 0 || len(p.events) > 0) && len(p.events) != want {
		c.t.Errorf("%s: %d events, want %d", arguments, len(p.events), want)
		return
	}
	for k := range steps {
		want := fmt.Sprintf(`{"progressToken":%d,"progress":%d,"of":%s}`, i, k+1, arguments)
		if m := p.events[k]; m.Method != "notifications/progress" || string(m.Params) != want {
			c.t.Errorf("%s: progress %d is %s", arguments, k+1, m.Params)
		}
	}
}

// callAndCancel begins a call, cancels it when the server has it, and expects no response.
func (c *peer) callAndCancel(i int, arguments string) {
	s := c.open("POST", request(fmt.Sprint(i), "tools/call",
		fmt.Sprintf(`{"name":"one__hang","arguments":%s,"_meta":{"progressToken":%d}}`, arguments, i)))
	if m := s.message(); string(m.Params) != fmt.Sprintf(`{"progressToken":%d,"progress":0,"of":%s}`, i, arguments) {
		c.t.Errorf("%s got %s", arguments, m.Encode())
	}
	c.post(fmt.Sprintf(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":%d}}`, i))
	if e, ok := s.next(); !ok || e.comment != "cancelled" {
		c.t.Errorf("the cancelled call %s got %s", arguments, e.Encode())
	}
	s.waitForEnd()
}

func TestCancellationReachesNoOtherClient(t *testing.T) {
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one")}})
	mine, theirs, watcher := r.connect(), r.connect(), r.connect()
	replies := make(chan reply, 1)
	go func() { replies <- mine.call("5", "tools/call", `{"name":"one__hang","arguments":{"who":"me"}}`) }()
	hubtest.Eventually(t, "the call is in flight", func() bool { return watcher.state("one").Hanging == 1 })
	for _, id := range []string{"5", `"5"`, "1", "2", "3", "null"} { // with the hub's ids on the connection to the server
		theirs.post(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":` + id + `}}`)
	}
	mine.post(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"5"}}`)
	if s := watcher.state("one"); s.Hanging != 1 || s.Seen["notifications/cancelled"] != 0 {
		t.Errorf("another client cancelled the call: %+v", s)
	}
	mine.post(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":5}}`)
	<-replies
}

func TestSubscriptionsOfASharedConnectionAreKeptApart(t *testing.T) {
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one")}})
	ann, bob := r.connect(), r.connect()
	annStream, bobStream := ann.listen(), bob.listen()
	const params = `{"uri":"test://one/one"}`
	for _, c := range []*peer{ann, bob} {
		if m := c.call("1", "resources/subscribe", params).response(t); string(m.Result) != `{}` {
			t.Fatalf("subscribe: %s", m.Error)
		}
	}
	if m := bob.call("1", "resources/unsubscribe", params).response(t); string(m.Result) != `{}` {
		t.Errorf("unsubscribe: %s", m.Error)
	}
	if got := ann.state("one").Subscriptions; !slices.Equal(got, []string{"test://one/one"}) {
		t.Errorf("bob ended ann's subscription: the server has %q", got)
	}
	updated := jsonMessage("notifications/resources/updated", params)
	r.gateway.ServerNotification("one", updated)
	if m := annStream.message(); string(m.Params) != params {
		t.Errorf("ann received %s", m.Params)
	}
	if len(bobStream.events) != 0 {
		t.Error("bob received an update without a subscription")
	}
	if m := ann.call("1", "resources/unsubscribe", params).response(t); string(m.Result) != `{}` {
		t.Errorf("unsubscribe: %s", m.Error)
	}
	if got := ann.state("one").Subscriptions; len(got) != 0 {
		t.Errorf("the server still has %q", got)
	}
	before := r.dropped("ambiguous")
	r.gateway.ServerNotification("one", jsonMessage("notifications/message", `{"level":"info"}`))
	if got := r.dropped("ambiguous"); got != before+1 {
		t.Errorf("a message without recipient was not counted")
	}
}

func TestUpdateDuringTheCallOfAnotherClientReachesItsSubscriber(t *testing.T) {
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one")}})
	ann, bob := r.connect(), r.connect()
	getStream := ann.listen()
	const params = `{"uri":"test://one/one"}`
	ann.call("1", "resources/subscribe", params)
	p := bob.call("1", "tools/call", `{"name":"one__update"}`)
	if len(p.events) != 0 {
		t.Errorf("bob's call received %s", p.body)
	}
	if m := getStream.message(); string(m.Params) != params {
		t.Errorf("ann received %s", m.Params)
	}
}

func TestLogLevelsOfASharedConnectionAreKeptApart(t *testing.T) {
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one")}})
	atError, atInfo := r.connect(), r.connect()
	set := func(c *peer, level string) {
		if m := c.call("1", "logging/setLevel", `{"level":"`+level+`"}`).response(t); string(m.Result) != `{}` {
			t.Errorf("setLevel: %s", m.Error)
		}
	}
	set(atInfo, "info")
	set(atError, "error")
	if got := atError.state("one").Level; got != "info" {
		t.Errorf("the server has the level %q, which hides messages that a client wants", got)
	}
	if p := atError.call("1", "tools/call", `{"name":"one__log"}`); len(p.events) != 0 {
		t.Errorf("the client with level error received %s", p.body)
	}
	if p := atInfo.call("1", "tools/call", `{"name":"one__log"}`); len(p.events) != 2 ||
		string(p.events[0].Params) != `{"level":"info","data":{"n":1.50}}` {
		t.Errorf("the client with level info received %s", p.body)
	}
	set(atInfo, "critical")
	if got := atError.state("one").Level; got != "error" {
		t.Errorf("the server has the level %q", got)
	}
}

func TestSessionIsolationGivesEachClientItsOwnConnection(t *testing.T) {
	web := newWeb(t)
	shared := stdio(t, "own")
	shared.Isolation = upstream.PerSession
	r := start(t, setup{specs: []upstream.Spec{web.spec("web"), shared}})
	for range 3 {
		c := r.connect()
		for i := 1; i <= 2; i++ {
			if got := string(c.tool("web__count", `{}`)); !strings.Contains(got, fmt.Sprintf(`"text":"%d"`, i)) {
				t.Errorf("call %d of a session returned %s", i, got)
			}
		}
		if s := c.state("own"); s.Seen["tools/call"] != 1 {
			t.Errorf("the child process of this session received %v", s.Seen)
		}
	}
	if n := r.pool.Server("own").Status().Connections; n != 4 {
		t.Errorf("there are %d processes for 3 sessions and the hub", n)
	}
}

func TestEndedSessionLeavesNoSubscriptionBehind(t *testing.T) {
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one")}})
	ann, bob, watcher := r.connect(), r.connect(), r.connect()
	const params = `{"uri":"test://one/one"}`
	for _, c := range []*peer{ann, bob} {
		if m := c.call("1", "resources/subscribe", params).response(t); string(m.Result) != `{}` {
			t.Fatalf("subscribe: %s", m.Error)
		}
	}
	end := func(c *peer) {
		t.Helper()
		if p := c.send(http.MethodDelete, "", "Mcp-Session-Id: "+c.token); p.status != http.StatusNoContent {
			t.Fatalf("DELETE: %d", p.status)
		}
	}
	end(ann)
	if got := watcher.state("one").Subscriptions; len(got) != 1 {
		t.Errorf("the end of ann's session ended bob's subscription: %q", got)
	}
	end(bob)
	hubtest.Eventually(t, "the server has no subscription", func() bool { return len(watcher.state("one").Subscriptions) == 0 })
}

func TestUpdateOfAPartOfAResourceReachesItsSubscriber(t *testing.T) {
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one")}})
	c := r.connect()
	getStream := c.listen()
	if m := c.call("1", "resources/subscribe", `{"uri":"res://a"}`).response(t); m.Error != nil {
		t.Fatalf("subscribe: %s", m.Error)
	}
	for _, uri := range []string{"res://ab", "res://", "res://b/res://a", "res://a/sub", "res://a"} {
		r.gateway.ServerNotification("one", jsonMessage("notifications/resources/updated", `{"uri":"`+uri+`"}`))
	}
	for _, want := range []string{"res://a/sub", "res://a"} {
		if m := getStream.message(); string(m.Params) != `{"uri":"`+want+`"}` {
			t.Errorf("received %s, want %s", m.Params, want)
		}
	}
}
