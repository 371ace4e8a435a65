package gateway

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/gateway/stream"
	"github.com/mcphub-go/mcphub/pkg/hubtest"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

// inputRequiredResult is a result with resultType input_required.
type inputRequiredResult struct {
	ResultType    string
	InputRequests map[string]struct {
		Method string
		Params json.RawMessage
	}
	RequestState string
}

// inputRequired returns the input_required result in p.
func (p reply) inputRequired(t *testing.T) inputRequiredResult {
	t.Helper()
	var q inputRequiredResult
	if err := json.Unmarshal(p.response(t).Result, &q); err != nil || q.ResultType != "input_required" || q.RequestState == "" ||
		p.status != http.StatusOK {
		t.Fatalf("not an input_required result: %d %s", p.status, p.body)
	}
	return q
}

// retry resumes a call of the tool requests that began with these arguments.
func (c *modernPeer) retry(id, arguments, state, responses string) reply {
	c.t.Helper()
	return c.call(id, "tools/call", fmt.Sprintf(`{"name":"one__requests","arguments":%s,"inputResponses":%s,"requestState":%q}`,
		arguments, responses, state))
}

// startWithLegacyServer starts a hub with a legacy server of the given isolation, and returns a modern client.
func startWithLegacyServer(t *testing.T, isolation upstream.Isolation) (*rig, *modernPeer) {
	t.Helper()
	one := stdio(t, "one")
	one.Isolation = isolation
	r := start(t, setup{specs: []upstream.Spec{one}, untraced: true, gateway: func(c *Config) {
		c.Principal = func(r *http.Request) string { return r.Header.Get("X-User") }
	}})
	return r, r.modern(canElicit, "X-User: ann")
}

func TestRequestsOfLegacyServersBecomeInputRequestsAndRetriesTheirResponses(t *testing.T) {
	for _, isolation := range []upstream.Isolation{upstream.Shared, upstream.PerSession} {
		t.Run(string(isolation), func(t *testing.T) {
			r, c := startWithLegacyServer(t, isolation)
			const arguments = `{"rounds":[[{"n":1.50}],[{"a":1},{"b":2}]]}`
			q := c.tool("1", "one__requests", arguments).inputRequired(t)
			if len(q.InputRequests) != 1 || q.InputRequests["q1"].Method != "elicitation/create" ||
				string(q.InputRequests["q1"].Params) != `{"n":1.50}` {
				t.Errorf("received %+v", q)
			}
			q2 := c.retry(`"2"`, arguments, q.RequestState, `{"q1":{"action":"accept", "n":1.50},"odd":{}}`).inputRequired(t)
			if len(q2.InputRequests) != 2 || q2.RequestState == q.RequestState { // both requests came within collectTime
				t.Errorf("received %+v", q2)
			}
			answers := map[string]string{}
			for key, in := range q2.InputRequests {
				answers[string(in.Params)] = key
			}
			// The input request without an answer is sent again.
			q3 := c.retry("3", arguments, q2.RequestState, fmt.Sprintf(`{%q:{"x":"a"}}`, answers[`{"a":1}`])).inputRequired(t)
			if len(q3.InputRequests) != 1 || string(q3.InputRequests[answers[`{"b":2}`]].Params) != `{"b":2}` {
				t.Errorf("received %+v", q3)
			}
			p := c.retry("4", arguments, q3.RequestState, fmt.Sprintf(`{%q:{"x":"b"}}`, answers[`{"b":2}`]))
			want := `"rounds":[[{"content":[],"answer":{"action":"accept", "n":1.50}}],[{"content":[],"answer":{"x":"a"}},` +
				`{"content":[],"answer":{"x":"b"}}]]`
			if got := strings.ReplaceAll(has(t, p.response(t).Result, "rounds"), `"accept","n":1.5`,
				`"accept", "n":1.5`); `"rounds":`+got != want || string(p.response(t).ID) != "4" {
				t.Errorf("the final response: %s", p.body)
			}
			if r.gateway.modern.suspended.count() != 0 {
				t.Error("the call is still suspended")
			}
			r.conserved(0)
		})
	}
}

func TestForeignRequestStateIsRefusedAndAffectsNoCall(t *testing.T) {
	r, c := startWithLegacyServer(t, upstream.Shared)
	other, _ := startWithLegacyServer(t, upstream.Shared)
	const arguments = `{"rounds":[[{}]]}`
	q := c.tool("1", "one__requests", arguments).inputRequired(t)
	foreign := other.modern(canElicit, "X-User: ann").tool("1", "one__requests", arguments).inputRequired(t).RequestState
	const answer = `{"q1":{}}`
	state := q.RequestState
	flipped := []byte(state)
	if flipped[len(flipped)-9]++; flipped[len(flipped)-9] > 'z' {
		flipped[len(flipped)-9] = 'a'
	}
	bob := r.modern(canElicit, "X-User: bob")
	for name, x := range map[string]struct {
		c                         *modernPeer
		arguments, state, message string
		answers                   string
	}{
		"an invalid state":                {c, arguments, "x", "not one that this hub gave", answer},
		"an empty state":                  {c, arguments, "", "not one that this hub gave", answer},
		"a longer one":                    {c, arguments, state + "A", "not one that this hub gave", answer},
		"a shorter one":                   {c, arguments, state[:len(state)-1], "not one that this hub gave", answer},
		"a changed one":                   {c, arguments, string(flipped), "not one that this hub gave", answer},
		"of another process":              {c, arguments, foreign, "restarted", answer},
		"another principal":               {bob, arguments, state, "not one that this hub gave", answer},
		"other params":                    {c, `{"rounds":[[{}]],"x":1}`, state, "not one that this hub gave", answer},
		"answers that are not an object":  {c, arguments, state, "not an object", `[]`},
		"an answer that is not an object": {c, arguments, state, "not an object", `{"q1":7}`},
	} {
		p := x.c.retry(`"r"`, x.arguments, x.state, x.answers)
		if e := p.rpcError(t); p.status != 400 || e.Code != -32602 || !strings.Contains(e.Message, x.message) ||
			string(p.response(t).ID) != `"r"` {
			t.Errorf("%s: %d %s", name, p.status, p.body)
		}
	}
	p := c.call("1", "tools/call", `{"name":"one__requests","arguments":`+arguments+`,"requestState":7}`)
	if e := p.rpcError(t); e.Code != -32602 {
		t.Errorf("a state that is not a string: %s", p.body)
	}
	// Equivalent params have the same digest, and the refused retries did not affect the call.
	p = c.call("9", "tools/call", `{"requestState":"`+state+`","inputResponses":{"q1":{}}, "arguments": {"rounds":[[{ }]]},`+
		`"name":"one__requests"}`)
	if p.status != 200 || has(t, p.response(t).Result, "resultType") != `"complete"` {
		t.Errorf("the retry: %d %s", p.status, p.body)
	}
	if p = c.retry("10", arguments, state, answer); p.rpcError(t).Code != -32602 ||
		!strings.Contains(p.rpcError(t).Message, "again without it") {
		t.Errorf("a state of a call that has ended: %s", p.body)
	}
	r.conserved(0)
}

func TestRequestStateCanBeUsedOnce(t *testing.T) {
	r, c := startWithLegacyServer(t, upstream.Shared)
	const arguments = `{"rounds":[[{}],[{}]]}`
	q := c.tool("1", "one__requests", arguments).inputRequired(t)
	q2 := c.retry("2", arguments, q.RequestState, `{"q1":{}}`).inputRequired(t)
	if p := c.retry("3", arguments, q.RequestState, `{"q1":{},"q2":{}}`); p.status != 400 ||
		!strings.Contains(p.rpcError(t).Message, "used already") {
		t.Errorf("replayed: %d %s", p.status, p.body)
	}
	if p := c.retry("4", arguments, q2.RequestState, `{"q2":{}}`); p.status != 200 || p.response(t).Error != nil {
		t.Errorf("the final response: %d %s", p.status, p.body)
	}
	r.conserved(0)
}

func TestCallThatEndsWhileSuspendedIsAnsweredOnRetry(t *testing.T) {
	r, c := startWithLegacyServer(t, upstream.Shared)
	const arguments = `{"rounds":[[{}]],"leave":true}`
	q := c.tool("1", "one__requests", arguments).inputRequired(t)
	c.tool("2", "one__gate", `{}`)
	hubtest.Eventually(t, "the call has ended", func() bool {
		return r.metric("mcphub_requests_in_flight", "hop", "backend", "direction", "out") == 0
	})
	p := c.retry("3", arguments, q.RequestState, `{"q1":{}}`)
	if has(t, p.response(t).Result, "left") != "true" || string(p.response(t).ID) != "3" {
		t.Errorf("the retry: %s", p.body)
	}
	if r.gateway.modern.suspended.count() != 0 {
		t.Error("the call is still suspended")
	}
	r.conserved(0)
}

func TestProgressOfASuspendedCallHasTheTokenOfTheRetry(t *testing.T) {
	r, c := startWithLegacyServer(t, upstream.Shared)
	x := &multiRoundCall{core: r.gateway.core,
		current: &modernRequest{ctx: t.Context(), token: json.RawMessage(`"second"`),
			out: stream.NewLog(r.gateway.retention, nil, "", "").NewPost(1, "1")}}
	x.Notify(jsonMessage("notifications/progress", `{"progressToken":"first","progress":1.50}`))
	if got := x.current.out.Messages(); len(got) != 1 || !strings.Contains(string(got[0]), `{"progressToken":"second","progress":1.50}`) {
		t.Errorf("sent %s", got)
	}
	p := c.with(`,"progressToken":"mine"`).tool("1", "one__work", `{"steps":2}`)
	if len(p.events) != 3 || has(t, p.events[1].Params, "progressToken") != `"mine"` {
		t.Errorf("sent %s", p.body)
	}
}

func TestClientWithoutTheCapabilityGetsNoInputRequest(t *testing.T) {
	r, c := startWithLegacyServer(t, upstream.PerSession)
	for capabilities, x := range map[string]struct{ method, params string }{
		`{}`:                         {"elicitation/create", `{}`},
		`{"sampling":{}}`:            {"elicitation/create", `{}`},
		`{"elicitation":{}}`:         {"elicitation/create", `{"mode":"url"}`},
		`{"elicitation":{"url":{}}}`: {"elicitation/create", `{"mode":"form"}`},
		`{"elicitation":{},"x":{}}`:  {"sampling/createMessage", `{}`},
		`{"roots":{},"custom":{}}`:   {"custom/ask", `{}`},
	} {
		c.capabilities = capabilities
		p := c.tool("1", "one__request", fmt.Sprintf(`{"method":%q,"params":%s}`, x.method, x.params))
		if has(t, p.response(t).Result, "refused") == "" {
			t.Errorf("a client with %s received %v: %s", capabilities, x, p.body)
		}
	}
	for capabilities, x := range map[string]struct{ method, params string }{
		`{"elicitation":{"url":{}}}`:           {"elicitation/create", `{"mode":"url"}`},
		`{"elicitation":{"url":{},"form":{}}}`: {"elicitation/create", `{}`},
		`{"sampling":{}}`:                      {"sampling/createMessage", `{}`},
		`{"roots":{}}`:                         {"roots/list", `{}`},
	} {
		c.capabilities = capabilities
		c.tool("1", "one__request", fmt.Sprintf(`{"method":%q,"params":%s}`, x.method, x.params)).inputRequired(t)
	}
	r.conserved(0)
}

func TestSuspendedCallsBeyondTheLimitAreRefusedAndTheCallContinues(t *testing.T) {
	r, c := startWithLegacyServer(t, upstream.Shared)
	for range maxSuspendedCalls {
		r.gateway.modern.suspended.add(&multiRoundCall{core: r.gateway.core, suspended: r.gateway.modern.suspended, current: &modernRequest{}})
	}
	p := c.tool("1", "one__request", `{"method":"elicitation/create","params":{}}`)
	if refused := has(t, p.response(t).Result, "refused"); !strings.Contains(refused, "too many calls wait") {
		t.Errorf("a call beyond the limit: %s", p.body)
	}
	r.conserved(0)
}

func TestDisconnectCancelsACallUnlessItIsSuspended(t *testing.T) {
	r, c := startWithLegacyServer(t, upstream.PerSession)
	r.gateway.cfg.Heartbeat = 10e6
	const arguments = `{"rounds":[[{}]]}`
	q := c.tool("1", "one__requests", arguments).inputRequired(t) // whether the client keeps its connection does not matter
	r.client.CloseIdleConnections()
	s := c.stream("2", "tools/call", `{"name":"one__hang","arguments":{"n":2}}`)
	hubtest.Eventually(t, "the call hangs", func() bool { return c.state("one").Hanging == 1 })
	s.cancel()
	hubtest.Eventually(t, "the call is cancelled", func() bool { return len(c.state("one").Cancelled) == 1 })
	if n := c.state("one").Seen["notifications/cancelled"]; n != 1 {
		t.Errorf("%d calls were cancelled", n)
	}
	if p := c.retry("3", arguments, q.RequestState, `{"q1":{}}`); p.status != 200 || p.response(t).Error != nil {
		t.Errorf("the retry: %d %s", p.status, p.body)
	}
	r.conserved(1)
}

func TestDrainCancelsSuspendedCallsAndThoseAboutToBeSuspended(t *testing.T) {
	for _, isolation := range []upstream.Isolation{upstream.Shared, upstream.PerSession} {
		r, c := startWithLegacyServer(t, isolation)
		const arguments = `{"rounds":[[{}]]}`
		q := c.tool("1", "one__requests", arguments).inputRequired(t)
		r.gateway.Drain()
		hubtest.Eventually(t, "the suspended call has ended", func() bool { return r.gateway.modern.suspended.count() == 0 })
		if p := c.retry("2", arguments, q.RequestState, `{"q1":{}}`); p.status != 400 || p.rpcError(t).Code != -32602 {
			t.Errorf("the retry: %d %s", p.status, p.body)
		}
		// A call that would be suspended now, when no retry can arrive.
		hubtest.Eventually(t, "a later input request fails", func() bool {
			return strings.Contains(c.tool("3", "one__request", `{"method":"elicitation/create","params":{}}`).body, "is being restarted")
		})
		r.conserved(0)
		r.stop() // waits for the calls
	}
}

// count returns the number of suspended calls.
func (p *suspendedCalls[C]) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.calls)
}

// A server may answer a call while the client has not yet answered a request of that server.
func TestInputRequestEndsWithItsCall(t *testing.T) {
	r := start(t, setup{})
	m, err := jsonrpc.Parse([]byte(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x"}}`))
	if err != nil {
		t.Fatal(err)
	}
	client := modernClient{identity: upstream.Identity{Capabilities: []byte(`{"roots":{}}`)}}
	c := newMultiRoundCall(r.gateway.core, r.gateway.modern.bridges, r.gateway.modern.suspended,
		&modernRequest{message: m, client: client, ctx: t.Context()})
	c.current = nil // the call is suspended
	failed := make(chan error, 1)
	go func() {
		_, err := c.Ask(t.Context(), jsonMessage("roots/list", `{}`))
		failed <- err
	}()
	hubtest.Eventually(t, "the server request waits", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return len(c.waiting) == 1
	})
	c.finish(jsonrpc.NewResult("1", []byte(`{}`)), nil)
	if err := <-failed; err == nil {
		t.Error("the input request did not fail")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.abort(errSuspensionExpired)
}
