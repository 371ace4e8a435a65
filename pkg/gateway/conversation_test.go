package gateway

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/gateway/stream"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

// required is an input_required result.
type required struct {
	ResultType    string
	InputRequests map[string]struct {
		Method string
		Params json.RawMessage
	}
	RequestState string
}

// wanted reads the input_required result in p.
func (p reply) wanted(t *testing.T) required {
	t.Helper()
	var q required
	if err := json.Unmarshal(p.answer(t).Result, &q); err != nil || q.ResultType != "input_required" || q.RequestState == "" || p.status != http.StatusOK {
		t.Fatalf("not a question: %d %s", p.status, p.body)
	}
	return q
}

// retry goes on with the call of the tool asks that began with these arguments.
func (c *modernPeer) retry(id, arguments, state, responses string) reply {
	c.t.Helper()
	return c.ask(id, "tools/call", fmt.Sprintf(`{"name":"one__asks","arguments":%s,"inputResponses":%s,"requestState":%q}`, arguments, responses, state))
}

// parking starts a hub with a legacy server over a connection of the given sort.
func parking(t *testing.T, isolation upstream.Isolation) (*rig, *modernPeer) {
	t.Helper()
	one := stdio(t, "one")
	one.Isolation = isolation
	r := start(t, setup{specs: []upstream.Spec{one}, untraced: true, gateway: func(c *Config) {
		c.Principal = func(r *http.Request) string { return r.Header.Get("X-User") }
	}})
	return r, r.modern(canElicit, "X-User: ann")
}

func TestQuestionsOfLegacyServersBecomeResultsAndRetriesAnswers(t *testing.T) {
	for _, isolation := range []upstream.Isolation{upstream.Shared, upstream.PerSession} {
		t.Run(string(isolation), func(t *testing.T) {
			r, c := parking(t, isolation)
			const arguments = `{"rounds":[[{"n":1.50}],[{"a":1},{"b":2}]]}`
			q := c.run("1", "one__asks", arguments).wanted(t)
			if len(q.InputRequests) != 1 || q.InputRequests["q1"].Method != "elicitation/create" || string(q.InputRequests["q1"].Params) != `{"n":1.50}` {
				t.Errorf("asked %+v", q)
			}
			q2 := c.retry(`"2"`, arguments, q.RequestState, `{"q1":{"action":"accept", "n":1.50},"odd":{}}`).wanted(t)
			if len(q2.InputRequests) != 2 || q2.RequestState == q.RequestState { // within the quiet period: together
				t.Errorf("asked %+v", q2)
			}
			answers := map[string]string{}
			for key, in := range q2.InputRequests {
				answers[string(in.Params)] = key
			}
			// One answer is missing, and asked for again.
			q3 := c.retry("3", arguments, q2.RequestState, fmt.Sprintf(`{%q:{"x":"a"}}`, answers[`{"a":1}`])).wanted(t)
			if len(q3.InputRequests) != 1 || string(q3.InputRequests[answers[`{"b":2}`]].Params) != `{"b":2}` {
				t.Errorf("asked %+v", q3)
			}
			p := c.retry("4", arguments, q3.RequestState, fmt.Sprintf(`{%q:{"x":"b"}}`, answers[`{"b":2}`]))
			want := `"rounds":[[{"content":[],"answer":{"action":"accept", "n":1.50}}],[{"content":[],"answer":{"x":"a"}},{"content":[],"answer":{"x":"b"}}]]`
			if got := strings.ReplaceAll(has(t, p.answer(t).Result, "rounds"), `"accept","n":1.5`, `"accept", "n":1.5`); `"rounds":`+got != want || string(p.answer(t).ID) != "4" {
				t.Errorf("the end: %s", p.body)
			}
			if r.gateway.modern.pending.waiting() != 0 {
				t.Error("the conversation is kept")
			}
			r.conserved(0)
		})
	}
}

func TestARequestStateThatIsNotTheHubsIsRefusedAndDisturbsNothing(t *testing.T) {
	r, c := parking(t, upstream.Shared)
	other, _ := parking(t, upstream.Shared)
	const arguments = `{"rounds":[[{}]]}`
	q := c.run("1", "one__asks", arguments).wanted(t)
	foreign := other.modern(canElicit, "X-User: ann").run("1", "one__asks", arguments).wanted(t).RequestState
	const answer = `{"q1":{}}`
	state := q.RequestState
	flipped := []byte(state)
	if flipped[len(flipped)-9]++; flipped[len(flipped)-9] > 'z' {
		flipped[len(flipped)-9] = 'a'
	}
	bob := r.modern(canElicit, "X-User: bob")
	for name, x := range map[string]struct {
		c                       *modernPeer
		arguments, state, words string
		answers                 string
	}{
		"no state of anybody":         {c, arguments, "x", "not one that this hub gave", answer},
		"an empty state":              {c, arguments, "", "not one that this hub gave", answer},
		"a longer one":                {c, arguments, state + "A", "not one that this hub gave", answer},
		"a shorter one":               {c, arguments, state[:len(state)-1], "not one that this hub gave", answer},
		"a changed one":               {c, arguments, string(flipped), "not one that this hub gave", answer},
		"of another process":          {c, arguments, foreign, "restarted", answer},
		"another principal":           {bob, arguments, state, "not one that this hub gave", answer},
		"other params":                {c, `{"rounds":[[{}]],"x":1}`, state, "not one that this hub gave", answer},
		"answers that are no object":  {c, arguments, state, "not an object", `[]`},
		"an answer that is no object": {c, arguments, state, "not an object", `{"q1":7}`},
	} {
		p := x.c.retry(`"r"`, x.arguments, x.state, x.answers)
		if e := p.failed(t); p.status != 400 || e.Code != -32602 || !strings.Contains(e.Message, x.words) || string(p.answer(t).ID) != `"r"` {
			t.Errorf("%s: %d %s", name, p.status, p.body)
		}
	}
	p := c.ask("1", "tools/call", `{"name":"one__asks","arguments":`+arguments+`,"requestState":7}`)
	if e := p.failed(t); e.Code != -32602 {
		t.Errorf("a state that is no text: %s", p.body)
	}
	// The same params in other words are the same, and what came before has done no harm.
	p = c.ask("9", "tools/call", `{"requestState":"`+state+`","inputResponses":{"q1":{}}, "arguments": {"rounds":[[{ }]]},"name":"one__asks"}`)
	if p.status != 200 || has(t, p.answer(t).Result, "resultType") != `"complete"` {
		t.Errorf("the retry: %d %s", p.status, p.body)
	}
	if p = c.retry("10", arguments, state, answer); p.failed(t).Code != -32602 || !strings.Contains(p.failed(t).Message, "again without it") {
		t.Errorf("a state of a call that is over: %s", p.body)
	}
	r.conserved(0)
}

func TestARequestStateCanBeUsedOnce(t *testing.T) {
	r, c := parking(t, upstream.Shared)
	const arguments = `{"rounds":[[{}],[{}]]}`
	q := c.run("1", "one__asks", arguments).wanted(t)
	q2 := c.retry("2", arguments, q.RequestState, `{"q1":{}}`).wanted(t)
	if p := c.retry("3", arguments, q.RequestState, `{"q1":{},"q2":{}}`); p.status != 400 || !strings.Contains(p.failed(t).Message, "used already") {
		t.Errorf("replayed: %d %s", p.status, p.body)
	}
	if p := c.retry("4", arguments, q2.RequestState, `{"q2":{}}`); p.status != 200 || p.answer(t).Error != nil {
		t.Errorf("the end: %d %s", p.status, p.body)
	}
	r.conserved(0)
}

func TestACallThatEndsWhileItIsParkedIsAnsweredOnRetry(t *testing.T) {
	r, c := parking(t, upstream.Shared)
	const arguments = `{"rounds":[[{}]],"leave":true}`
	q := c.run("1", "one__asks", arguments).wanted(t)
	c.run("2", "one__gate", `{}`)
	until(t, "the call is over", func() bool { return r.metric("mcphub_requests_in_flight", "hop", "backend", "direction", "out") == 0 })
	p := c.retry("3", arguments, q.RequestState, `{"q1":{}}`)
	if has(t, p.answer(t).Result, "left") != "true" || string(p.answer(t).ID) != "3" {
		t.Errorf("the retry: %s", p.body)
	}
	if r.gateway.modern.pending.waiting() != 0 {
		t.Error("the conversation is kept")
	}
	r.conserved(0)
}

func TestProgressOfAParkedCallComesUnderTheTokenOfTheRetry(t *testing.T) {
	r, c := parking(t, upstream.Shared)
	x := &multiRoundCall{core: r.gateway.core, current: &modernRequest{ctx: t.Context(), token: json.RawMessage(`"second"`), out: stream.NewLog(r.gateway.retention, "", "").NewPost(1, "1")}}
	x.Notify(jsonMessage("notifications/progress", `{"progressToken":"first","progress":1.50}`))
	if got := x.current.out.Messages(); len(got) != 1 || !strings.Contains(string(got[0]), `{"progressToken":"second","progress":1.50}`) {
		t.Errorf("sent %s", got)
	}
	p := c.with(`,"progressToken":"mine"`).run("1", "one__work", `{"steps":2}`)
	if len(p.events) != 3 || has(t, p.events[1].Params, "progressToken") != `"mine"` {
		t.Errorf("sent %s", p.body)
	}
}

func TestAClientThatCannotAnswerIsNotAsked(t *testing.T) {
	r, c := parking(t, upstream.PerSession)
	for capabilities, x := range map[string]struct{ method, params string }{
		`{}`:                         {"elicitation/create", `{}`},
		`{"sampling":{}}`:            {"elicitation/create", `{}`},
		`{"elicitation":{}}`:         {"elicitation/create", `{"mode":"url"}`},
		`{"elicitation":{"url":{}}}`: {"elicitation/create", `{"mode":"form"}`},
		`{"elicitation":{},"x":{}}`:  {"sampling/createMessage", `{}`},
		`{"roots":{},"custom":{}}`:   {"custom/ask", `{}`},
	} {
		c.capabilities = capabilities
		p := c.run("1", "one__ask", fmt.Sprintf(`{"method":%q,"params":%s}`, x.method, x.params))
		if has(t, p.answer(t).Result, "refused") == "" {
			t.Errorf("%s was asked %v: %s", capabilities, x, p.body)
		}
	}
	for capabilities, x := range map[string]struct{ method, params string }{
		`{"elicitation":{"url":{}}}`:           {"elicitation/create", `{"mode":"url"}`},
		`{"elicitation":{"url":{},"form":{}}}`: {"elicitation/create", `{}`},
		`{"sampling":{}}`:                      {"sampling/createMessage", `{}`},
		`{"roots":{}}`:                         {"roots/list", `{}`},
	} {
		c.capabilities = capabilities
		c.run("1", "one__ask", fmt.Sprintf(`{"method":%q,"params":%s}`, x.method, x.params)).wanted(t)
	}
	r.conserved(0)
}

func TestTooManyParkedCallsAreRefusedAndTheRestGoesOn(t *testing.T) {
	r, c := parking(t, upstream.Shared)
	for range maxPendingCalls {
		r.gateway.modern.pending.add(&multiRoundCall{core: r.gateway.core, pending: r.gateway.modern.pending, current: &modernRequest{}})
	}
	p := c.run("1", "one__ask", `{"method":"elicitation/create","params":{}}`)
	if refused := has(t, p.answer(t).Result, "refused"); !strings.Contains(refused, "too many calls wait") {
		t.Errorf("a call too many: %s", p.body)
	}
	r.conserved(0)
}

func TestADisconnectCancelsBeforeParkingAndNotAfterwards(t *testing.T) {
	r, c := parking(t, upstream.PerSession)
	r.gateway.cfg.Heartbeat = 10e6
	const arguments = `{"rounds":[[{}]]}`
	q := c.run("1", "one__asks", arguments).wanted(t) // its connection is closed or not, it does not matter
	r.client.CloseIdleConnections()
	s := c.stream("2", "tools/call", `{"name":"one__hang","arguments":{"n":2}}`)
	until(t, "it hangs", func() bool { return c.seen("one").Hanging == 1 })
	s.cancel()
	until(t, "it is cancelled", func() bool { return len(c.seen("one").Cancelled) == 1 })
	if n := c.seen("one").Seen["notifications/cancelled"]; n != 1 {
		t.Errorf("%d calls were cancelled", n)
	}
	if p := c.retry("3", arguments, q.RequestState, `{"q1":{}}`); p.status != 200 || p.answer(t).Error != nil {
		t.Errorf("the retry: %d %s", p.status, p.body)
	}
	r.conserved(1)
}

func TestStoppingCancelsParkedCallsAndThoseAboutToPark(t *testing.T) {
	for _, isolation := range []upstream.Isolation{upstream.Shared, upstream.PerSession} {
		r, c := parking(t, isolation)
		const arguments = `{"rounds":[[{}]]}`
		q := c.run("1", "one__asks", arguments).wanted(t)
		r.gateway.Drain()
		until(t, "the parked call is over", func() bool { return r.gateway.modern.pending.waiting() == 0 })
		if p := c.retry("2", arguments, q.RequestState, `{"q1":{}}`); p.status != 400 || p.failed(t).Code != -32602 {
			t.Errorf("the retry: %d %s", p.status, p.body)
		}
		// A call that asks now, when nobody will come back.
		until(t, "a later question fails", func() bool {
			return strings.Contains(c.run("3", "one__ask", `{"method":"elicitation/create","params":{}}`).body, "is being restarted")
		})
		r.conserved(0)
		r.stop() // waits for the calls
	}
}

// waiting is how many conversations are kept.
func (p *pendingCalls[C]) waiting() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.calls)
}
