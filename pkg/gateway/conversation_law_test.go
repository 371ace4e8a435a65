package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

// play is a call that does what it is told, and the client of it.
type play struct {
	s      staged
	fail   func(format string, args ...any)
	id     int
	orders chan string
	over   chan struct{}
	open   <-chan *httptest.ResponseRecorder // the request that waits
	leave  context.CancelFunc                // it
	state  string                            // to come back with; "": none
	keys   []string                          // of what the client was asked
	lost   *int                              // requests that were taken back
}

func (p *play) begin() {
	p.orders, p.over = make(chan string, 64), make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	p.leave = cancel
	p.open = p.s.begin(ctx, fmt.Sprint(p.id), p.work)
}

// work asks, withdraws and finishes.
func (p *play) work(c *multiRoundCall) (jsonrpc.Message, error) {
	defer close(p.over)
	ctx, stop := context.WithCancel(c.ctx)
	var asking sync.WaitGroup
	defer asking.Wait()
	defer stop()
	withdraw := func() {}
	for {
		select {
		case order := <-p.orders:
			switch order {
			case "ask":
				one, cancel := context.WithCancel(ctx)
				withdraw = cancel
				asking.Go(func() {
					defer cancel()
					_, _ = c.Ask(one, question(`{}`))
				})
			case "withdraw":
				withdraw()
			case "finish":
				return done, nil
			}
		case <-c.ctx.Done():
			return jsonrpc.Message{}, context.Cause(c.ctx)
		}
	}
}

// come comes back with answers to some of the questions.
func (p *play) come(state string, keys []string) {
	p.id++
	answers := map[string]json.RawMessage{}
	for _, key := range keys {
		answers[key] = json.RawMessage(`{}`)
	}
	responses, _ := json.Marshal(answers)
	params := strings.TrimSuffix(stagedParams, "}") + `,"inputResponses":` + string(responses) + `,"requestState":"` + state + `"}`
	ctx, cancel := context.WithCancel(context.Background())
	r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/mcp", strings.NewReader(p.s.client.body(fmt.Sprint(p.id), "tools/call", params)))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "*/*")
	for _, h := range p.s.client.mirrored("tools/call", params) {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	answered := make(chan *httptest.ResponseRecorder, 1)
	go func() {
		w := httptest.NewRecorder()
		p.s.gateway.ServeHTTP(w, r)
		answered <- w
	}()
	p.open, p.leave = answered, cancel
}

// look takes the answer if there is one.
func (p *play) look() {
	synctest.Wait()
	if p.open == nil {
		return
	}
	select {
	case w := <-p.open:
		p.leave()
		p.open = nil
		p.answered(recorded(p.s.rig, w))
	default:
	}
}

// answered checks that r is one answer to the last request.
func (p *play) answered(r reply) {
	n := strings.Count(r.body, fmt.Sprintf(`"id":%d,`, p.id))
	m := r.answer(p.s.t)
	if n != 1 || string(m.ID) != fmt.Sprint(p.id) {
		p.fail("request %d was answered %d times: %s", p.id, n, r.body)
		return
	}
	if r.status == http.StatusBadRequest { // the retry came to nothing; what waits still waits
		if e := jsonrpc.ParseError(m.Error); e.Code != jsonrpc.CodeInvalidParams {
			p.fail("refused with %s", r.body)
		}
		return
	}
	p.state, p.keys = "", nil
	var q required
	if json.Unmarshal(m.Result, &q) == nil && q.ResultType == "input_required" {
		p.state = q.RequestState
		for key := range q.InputRequests {
			p.keys = append(p.keys, key)
		}
	}
}

// step is what happens in one play.
type step struct {
	play int
	what string
	n    int
}

func steps(t *rapid.T) []step {
	one := rapid.Custom(func(t *rapid.T) step {
		return step{rapid.IntRange(0, 2).Draw(t, "play"),
			rapid.SampledFrom([]string{"ask", "ask", "withdraw", "finish", "pause", "pause", "long pause", "disconnect", "come", "come", "forge", "replay"}).Draw(t, "what"),
			rapid.IntRange(0, 5).Draw(t, "n")}
	})
	return rapid.SliceOfN(one, 1, 40).Draw(t, "steps")
}

// act does the step if the play allows it now.
func (p *play) act(s step) {
	switch s.what {
	case "ask", "withdraw", "finish":
		select {
		case p.orders <- s.what:
		default:
		}
	case "pause":
		time.Sleep([]time.Duration{time.Millisecond, collectTime - time.Millisecond, 2 * collectTime}[s.n%3])
	case "long pause":
		time.Sleep([]time.Duration{time.Minute, pendingTimeout}[s.n%2])
	case "disconnect":
		if p.open == nil {
			break
		}
		p.leave()
		if w := <-p.open; strings.Contains(w.Body.String(), `"id":`) {
			p.fail("answered although nobody is there: %s", w.Body)
		}
		p.open = nil
		*p.lost++
	case "come":
		if p.open == nil && p.state != "" {
			p.come(p.state, p.keys[:s.n%(len(p.keys)+1)])
		}
	case "forge":
		if p.open == nil && p.state != "" {
			p.come(p.state[:len(p.state)-2]+"__", p.keys)
		}
	case "replay":
		if p.open == nil {
			p.come(statePrefix+p.s.gateway.modern.pending.process+".AAAA", nil)
		}
	}
	p.look()
}

func TestHoweverACallGoesEachOfItsRequestsIsAnsweredOnce(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		script, failure := steps(rt), ""
		stage(t, func(_ *testing.T, s staged) {
			failure = perform(s, script)
		})
		if failure != "" {
			rt.Fatal(failure)
		}
	})
}

// perform plays the script and returns what went wrong.
func perform(s staged, script []step) (failure string) {
	fail := func(format string, args ...any) { failure = fmt.Sprintf(format, args...) }
	lost := 0
	plays := make([]*play, 3)
	for i := range plays {
		plays[i] = &play{s: s, fail: fail, id: 1000 * (i + 1), lost: &lost}
		plays[i].begin()
	}
	for _, step := range script {
		plays[step.play].act(step)
		for _, p := range plays {
			p.look()
		}
	}
	for _, p := range plays {
		select {
		case p.orders <- "finish":
		case <-p.over:
		}
		if p.look(); p.open != nil {
			fail("a request is not answered though the call is over")
			p.leave()
		}
	}
	time.Sleep(2 * pendingTimeout)
	synctest.Wait()
	if n := s.gateway.modern.pending.waiting(); n != 0 {
		fail("%d conversations are kept", n)
	}
	s.gateway.background.mu.Lock()
	if n := s.gateway.background.n; n != 0 {
		fail("%d calls go on", n)
	}
	s.gateway.background.mu.Unlock()
	s.conserved(float64(lost))
	return failure
}
