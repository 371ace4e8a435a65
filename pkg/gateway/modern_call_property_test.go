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

// scriptedCall is a call that follows commands, and the client of that call.
type scriptedCall struct {
	hub        virtualHub
	fail       func(format string, args ...any)
	id         int
	commands   chan string
	ended      chan struct{}
	response   <-chan *httptest.ResponseRecorder // to the request in flight; nil: there is none
	disconnect context.CancelFunc                // closes the connection of that request
	state      string                            // requestState for the retry; empty: none
	keys       []string                          // of the input requests
	cancelled  *int                              // number of cancelled requests
}

func (p *scriptedCall) begin() {
	p.commands, p.ended = make(chan string, 64), make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	p.disconnect = cancel
	p.response = p.hub.begin(ctx, fmt.Sprint(p.id), p.work)
}

// work runs the call: it sends, cancels and finishes on command.
func (p *scriptedCall) work(c *multiRoundCall) (jsonrpc.Message, error) {
	defer close(p.ended)
	ctx, stop := context.WithCancel(c.ctx)
	var requests sync.WaitGroup
	defer requests.Wait()
	defer stop()
	cancelRequest := func() {}
	for {
		select {
		case command := <-p.commands:
			switch command {
			case "request":
				one, cancel := context.WithCancel(ctx)
				cancelRequest = cancel
				requests.Go(func() {
					defer cancel()
					_, _ = c.Ask(one, elicitationRequest(`{}`))
				})
			case "cancel":
				cancelRequest()
			case "finish":
				return emptyResult, nil
			}
		case <-c.ctx.Done():
			return jsonrpc.Message{}, context.Cause(c.ctx)
		}
	}
}

// retry sends the request again with answers to some of the input requests.
func (p *scriptedCall) retry(state string, keys []string) {
	p.id++
	answers := map[string]json.RawMessage{}
	for _, key := range keys {
		answers[key] = json.RawMessage(`{}`)
	}
	responses, _ := json.Marshal(answers)
	params := strings.TrimSuffix(virtualParams, "}") + `,"inputResponses":` + string(responses) + `,"requestState":"` + state + `"}`
	ctx, cancel := context.WithCancel(context.Background())
	r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/mcp",
		strings.NewReader(p.hub.client.body(fmt.Sprint(p.id), "tools/call", params)))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "*/*")
	for _, h := range p.hub.client.mirrored("tools/call", params) {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	answered := make(chan *httptest.ResponseRecorder, 1)
	go func() {
		w := httptest.NewRecorder()
		p.hub.gateway.ServeHTTP(w, r)
		answered <- w
	}()
	p.response, p.disconnect = answered, cancel
}

// check takes the response if there is one.
func (p *scriptedCall) check() {
	synctest.Wait()
	if p.response == nil {
		return
	}
	select {
	case w := <-p.response:
		p.disconnect()
		p.response = nil
		p.checkResponse(readRecorded(p.hub.rig, w))
	default:
	}
}

// checkResponse checks that r is the one response to the last request.
func (p *scriptedCall) checkResponse(r reply) {
	n := strings.Count(r.body, fmt.Sprintf(`"id":%d,`, p.id))
	m := r.response(p.hub.t)
	if n != 1 || string(m.ID) != fmt.Sprint(p.id) {
		p.fail("request %d was answered %d times: %s", p.id, n, r.body)
		return
	}
	if r.status == http.StatusBadRequest { // the retry was refused; the call is still suspended
		if e := jsonrpc.ParseError(m.Error); e.Code != jsonrpc.CodeInvalidParams {
			p.fail("refused with %s", r.body)
		}
		return
	}
	p.state, p.keys = "", nil
	var q inputRequiredResult
	if json.Unmarshal(m.Result, &q) == nil && q.ResultType == "input_required" {
		p.state = q.RequestState
		for key := range q.InputRequests {
			p.keys = append(p.keys, key)
		}
	}
}

// step is one action of one call.
type step struct {
	call   int
	action string
	n      int
}

// steps draws the steps of a script.
func steps(t *rapid.T) []step {
	one := rapid.Custom(func(t *rapid.T) step {
		return step{rapid.IntRange(0, 2).Draw(t, "call"),
			rapid.SampledFrom([]string{"request", "request", "cancel", "finish", "pause", "pause", "long pause", "disconnect",
				"retry", "retry", "forge", "replay"}).Draw(t, "action"),
			rapid.IntRange(0, 5).Draw(t, "n")}
	})
	return rapid.SliceOfN(one, 1, 40).Draw(t, "steps")
}

// act does the step if it is possible in the present state of the call.
func (p *scriptedCall) act(s step) {
	switch s.action {
	case "request", "cancel", "finish":
		select {
		case p.commands <- s.action:
		default:
		}
	case "pause":
		time.Sleep([]time.Duration{time.Millisecond, collectTime - time.Millisecond, 2 * collectTime}[s.n%3])
	case "long pause":
		time.Sleep([]time.Duration{time.Minute, suspensionTimeout}[s.n%2])
	case "disconnect":
		if p.response == nil {
			break
		}
		p.disconnect()
		if w := <-p.response; strings.Contains(w.Body.String(), `"id":`) {
			p.fail("answered after the disconnect: %s", w.Body)
		}
		p.response = nil
		*p.cancelled++
	case "retry":
		if p.response == nil && p.state != "" {
			p.retry(p.state, p.keys[:s.n%(len(p.keys)+1)])
		}
	case "forge":
		if p.response == nil && p.state != "" {
			p.retry(p.state[:len(p.state)-2]+"__", p.keys)
		}
	case "replay":
		if p.response == nil {
			p.retry(statePrefix+p.hub.gateway.modern.suspended.process+".AAAA", nil)
		}
	}
	p.check()
}

func TestEachRequestOfAMultiRoundCallIsAnsweredOnce(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		script, failure := steps(rt), ""
		withVirtualHub(t, func(_ *testing.T, s virtualHub) {
			failure = runScript(s, script)
		})
		if failure != "" {
			rt.Fatal(failure)
		}
	})
}

// runScript runs the steps and returns a failure, or an empty string.
func runScript(s virtualHub, script []step) (failure string) {
	fail := func(format string, args ...any) { failure = fmt.Sprintf(format, args...) }
	lost := 0
	calls := make([]*scriptedCall, 3)
	for i := range calls {
		calls[i] = &scriptedCall{hub: s, fail: fail, id: 1000 * (i + 1), cancelled: &lost}
		calls[i].begin()
	}
	for _, step := range script {
		calls[step.call].act(step)
		for _, p := range calls {
			p.check()
		}
	}
	for _, p := range calls {
		select {
		case p.commands <- "finish":
		case <-p.ended:
		}
		if p.check(); p.response != nil {
			fail("a request is not answered although the call has ended")
			p.disconnect()
		}
	}
	time.Sleep(2 * suspensionTimeout)
	synctest.Wait()
	if n := s.gateway.modern.suspended.count(); n != 0 {
		fail("%d calls are still suspended", n)
	}
	s.gateway.background.mu.Lock()
	if n := s.gateway.background.n; n != 0 {
		fail("%d calls are still running", n)
	}
	s.gateway.background.mu.Unlock()
	s.conserved(float64(lost))
	return failure
}
