package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcphub-go/mcphub/pkg/gateway/stream"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

// FuzzRequestState looks for forged states that are accepted. A state is valid only if the hub issued it, and only for
// the same principal and digest.
func FuzzRequestState(f *testing.F) {
	p := newSuspendedCalls[*multiRoundCall]()
	c := &multiRoundCall{}
	c.id = p.add(c)
	good, err := p.seal(c.id, 3, "ann", []byte("digest"))
	if err != nil {
		f.Fatal(err)
	}
	other, err := newSuspendedCalls[*multiRoundCall]().seal(c.id, 3, "ann", []byte("digest"))
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range []string{"", ".", statePrefix, good, good + ".", good + "\n", good[1:], good[:len(good)-1], strings.ToUpper(good),
		other, strings.TrimPrefix(good, statePrefix), statePrefix + p.process + ".", statePrefix + p.process + ".AAAA",
		statePrefix + strings.Repeat(".", 40)} {
		f.Add(s, "ann", []byte("digest"))
	}
	f.Add(good, "bob", []byte("digest"))
	f.Add(good, "ann", []byte("other"))
	f.Fuzz(func(t *testing.T, sealed, principal string, digest []byte) {
		found, round, err := p.find(sealed, principal, digest)
		text := strings.NewReplacer("\r", "", "\n", "").Replace(sealed)
		right := principal == "ann" && string(digest) == "digest" &&
			strings.TrimPrefix(text, statePrefix) == strings.TrimPrefix(good, statePrefix)
		switch {
		case right && (found != c || round != 3 || err != nil):
			t.Errorf("the valid state was refused: %v", err)
		case !right && (found != nil || err == nil):
			t.Errorf("%q was accepted from %q with digest %q", sealed, principal, digest)
		case !right && !errors.Is(err, errStateForged) && !errors.Is(err, errStateForeign):
			t.Errorf("refused with %v", err)
		}
	})
}

// A date would: the wall clock can be set.
func TestNoJumpOfTheClockLetsARequestStateExpire(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newSuspendedCalls[*stoppable]()
		time.Sleep(time.Hour)
		sealed, err := p.seal(p.add(&stoppable{}), 1, "ann", nil)
		if err != nil {
			t.Fatal(err)
		}
		s, err := p.open(sealed, "ann", nil)
		if want := time.Hour + suspensionTimeout; err != nil || s.Expires != want.Milliseconds() {
			t.Errorf("it expires at %d ms, %v; want %d ms after the start of the hub", s.Expires, err, want.Milliseconds())
		}
	})
}

func TestRequestStateExpiresAfterTheSuspensionTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newSuspendedCalls[*stoppable]()
		c := &stoppable{}
		id := p.add(c)
		state, err := p.seal(id, 1, "ann", nil)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(suspensionTimeout)
		if found, round, err := p.find(state, "ann", nil); found != c || round != 1 || err != nil {
			t.Errorf("a valid state: %v, round %d: %v", found, round, err)
		}
		time.Sleep(time.Millisecond)
		if _, _, err := p.find(state, "ann", nil); !errors.Is(err, errStateExpired) {
			t.Errorf("an expired state: %v", err)
		}
	})
}

func TestSuspendedCallsAreStoppedTogetherAndLimited(t *testing.T) {
	t.Parallel()
	p := newSuspendedCalls[*stoppable]()
	calls := map[string]*stoppable{}
	for range maxSuspendedCalls {
		c := &stoppable{}
		calls[p.add(c)] = c
	}
	if id := p.add(&stoppable{}); id != "" || len(calls) != maxSuspendedCalls || calls[""] != nil {
		t.Errorf("%d calls have an id, and the call beyond the limit has %q", len(calls), id)
	}
	for id, c := range calls {
		p.remove(id)
		if another := p.add(c); another == "" || another == id {
			t.Errorf("after the end of a call, another has the id %q", another)
		}
		break
	}
	if p.stopped() {
		t.Error("stopped before the stop")
	}
	p.stop()
	for _, c := range calls {
		if !errors.Is(c.cause, errStopping) {
			t.Fatalf("a call was stopped with %v", c.cause)
		}
	}
	if !p.stopped() {
		t.Error("not stopped after the stop")
	}
}

// stoppable is a suspended call that records the cause of its stop.
type stoppable struct{ cause error }

func (s *stoppable) stop(cause error) { s.cause = cause }

func TestDigestCoversWhatTheRequestsOfACallHaveInCommon(t *testing.T) {
	digest := func(method, params string) string {
		return string(digestOf(jsonrpc.Message{Method: method, Params: json.RawMessage(params)}))
	}
	same := digest("tools/call", `{"name":"x","arguments":{"a":1,"b":[2]}}`)
	for _, params := range []string{`{"arguments":{"b":[ 2 ],"a":1.0},"name":"\u0078"}`,
		`{"name":"x","_meta":{"progressToken":1},"arguments":{"a":1,"b":[2]},"requestState":"s","inputResponses":{"q":{}}}`} {
		if digest("tools/call", params) != same {
			t.Errorf("%s has another digest", params)
		}
	}
	for _, params := range []string{`{"name":"y","arguments":{"a":1,"b":[2]}}`, `{"name":"x","arguments":{"a":1,"b":[3]}}`,
		`{"name":"x"}`, `{}`, ``, `[1]`,
		`{"name":"x","arguments":{"a":1,"b":[2]},"more":null}`} {
		if digest("tools/call", params) == same {
			t.Errorf("%s has the same digest", params)
		}
	}
	if digest("prompts/get", `{"name":"x","arguments":{"a":1,"b":[2]}}`) == same {
		t.Error("the digest does not depend on the method")
	}
}

// virtualHub is a hub in virtual time with a server that never sends anything. Tests decide what its calls do.
type virtualHub struct {
	*rig
	client *modernPeer
}

const virtualParams = `{"name":"one__x"}`

// begin begins a request whose call runs work, and returns the channel of its response.
func (s virtualHub) begin(ctx context.Context, id string,
	work func(*multiRoundCall) (jsonrpc.Message, error)) <-chan *httptest.ResponseRecorder {
	g := s.gateway
	body := s.client.body(id, "tools/call", virtualParams)
	m, err := jsonrpc.Parse([]byte(body))
	if err != nil {
		s.t.Fatal(err)
	}
	answered := make(chan *httptest.ResponseRecorder, 1)
	go func() {
		w := httptest.NewRecorder()
		r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/mcp", strings.NewReader(body))
		sctx, op := g.tel.StartOperation(r, "", protocol.ModernVersion, m)
		req := &modernRequest{message: m, client: modernClient{identity: upstream.Identity{Capabilities: json.RawMessage(canElicit)}},
			out: stream.NewLog(g.retention, nil, "", protocol.ModernVersion).NewPost(1, m.ID), op: op, ctx: sctx}
		c := newMultiRoundCall(g.core, g.modern.bridges, g.modern.suspended, req)
		g.background.Go(func() {
			response, err := work(c)
			c.finish(response, err)
		})
		g.sender.Respond(w, r, req.out, false)
		c.disconnected(req)
		answered <- w
	}()
	return answered
}

// retry sends a retry.
func (s virtualHub) retry(id, state, responses string) reply {
	s.t.Helper()
	params := strings.TrimSuffix(virtualParams, "}") + `,"inputResponses":` + responses + `,"requestState":"` + state + `"}`
	return s.client.call(id, "tools/call", params)
}

// withVirtualHub runs a test in virtual time.
func withVirtualHub(t *testing.T, test func(t *testing.T, s virtualHub)) {
	silent := upstream.Spec{Name: "one", Command: "/nonexistent"}
	inBubble(t, setup{specs: []upstream.Spec{silent}, untraced: true}, func(t *testing.T, r *rig, _ *pipes) {
		r.t = t
		test(t, virtualHub{r, r.modern(canElicit)})
	})
}

// readRecorded returns the recorded response as a reply.
func readRecorded(r *rig, w *httptest.ResponseRecorder) reply { return r.read(w.Result()) }

var emptyResult = jsonrpc.Message{Result: json.RawMessage(`{"content":[]}`)}

func elicitationRequest(params string) jsonrpc.Message {
	return jsonMessage("elicitation/create", params)
}

func TestSuspendedCallIsCancelledWithoutARetry(t *testing.T) {
	withVirtualHub(t, func(t *testing.T, s virtualHub) {
		failed := make(chan error, 1)
		q := readRecorded(s.rig, <-s.begin(t.Context(), "1", func(c *multiRoundCall) (jsonrpc.Message, error) {
			_, err := c.Ask(c.ctx, elicitationRequest(`{}`))
			failed <- err
			return jsonrpc.Message{}, err
		})).inputRequired(t)
		time.Sleep(suspensionTimeout - time.Second)
		synctest.Wait()
		if len(failed) != 0 || s.gateway.modern.suspended.count() != 1 {
			t.Error("the call ended too early")
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if err := <-failed; err == nil || !strings.Contains(err.Error(), "did not come back") || s.gateway.modern.suspended.count() != 0 {
			t.Errorf("after the timeout: %v, %d calls are suspended", err, s.gateway.modern.suspended.count())
		}
		if p := s.retry("2", q.RequestState, `{}`); p.status != 400 || !strings.Contains(p.rpcError(t).Message, "expired") {
			t.Errorf("the retry: %d %s", p.status, p.body)
		}
		s.conserved(0)
	})
}

func TestOutcomeOfASuspendedCallIsKeptUntilItExpires(t *testing.T) {
	withVirtualHub(t, func(t *testing.T, s virtualHub) {
		for _, late := range []bool{false, true} {
			leave := make(chan bool)
			q := readRecorded(s.rig, <-s.begin(t.Context(), "1", func(c *multiRoundCall) (jsonrpc.Message, error) {
				ctx, cancel := context.WithCancel(c.ctx)
				go func() { <-leave; cancel() }()
				_, _ = c.Ask(ctx, elicitationRequest(`{}`))
				return emptyResult, nil
			})).inputRequired(t)
			leave <- true
			synctest.Wait()
			if s.gateway.modern.suspended.count() != 1 {
				t.Error("the outcome was not kept")
			}
			wait := suspensionTimeout - time.Second
			if late {
				wait += 2 * time.Second
			}
			time.Sleep(wait)
			synctest.Wait()
			if p := s.retry("2", q.RequestState, `{}`); (p.response(t).Error != nil) != late {
				t.Errorf("late %v: %d %s", late, p.status, p.body)
			}
			if n := s.gateway.modern.suspended.count(); n != 0 {
				t.Errorf("late %v: %d calls are suspended", late, n)
			}
		}
		s.conserved(0)
	})
}

func TestInputRequestsWithinTheCollectTimeAreSentTogether(t *testing.T) {
	withVirtualHub(t, func(t *testing.T, s virtualHub) {
		began := time.Now()
		q := readRecorded(s.rig, <-s.begin(t.Context(), "1", func(c *multiRoundCall) (jsonrpc.Message, error) {
			answered := make(chan error, 4)
			for range 4 {
				go func() {
					_, err := c.Ask(c.ctx, elicitationRequest(`{}`))
					answered <- err
				}()
				time.Sleep(collectTime - time.Millisecond)
			}
			for range 4 {
				if err := <-answered; err != nil {
					return jsonrpc.Message{}, err
				}
			}
			return emptyResult, nil
		})).inputRequired(t)
		if took := time.Since(began); len(q.InputRequests) != 4 || took != 4*collectTime-3*time.Millisecond {
			t.Errorf("%d input requests after %v", len(q.InputRequests), took)
		}
		if p := s.retry("2", q.RequestState, `{"q1":{},"q2":{},"q3":{},"q4":{}}`); p.status != 200 {
			t.Errorf("the retry: %d %s", p.status, p.body)
		}
		s.conserved(0)
	})
}

func TestExpiryOfARoundDoesNotEndALaterRound(t *testing.T) {
	withVirtualHub(t, func(t *testing.T, s virtualHub) {
		q := readRecorded(s.rig, <-s.begin(t.Context(), "1", func(c *multiRoundCall) (jsonrpc.Message, error) {
			for range 2 {
				if _, err := c.Ask(c.ctx, elicitationRequest(`{}`)); err != nil {
					return jsonrpc.Message{}, err
				}
			}
			return emptyResult, nil
		})).inputRequired(t)
		time.Sleep(suspensionTimeout - time.Second)
		q2 := s.retry("2", q.RequestState, `{"q1":{}}`).inputRequired(t)
		time.Sleep(suspensionTimeout - time.Second) // the timeout of the first round is over
		if p := s.retry("3", q2.RequestState, `{"q2":{}}`); p.status != 200 || p.response(t).Error != nil {
			t.Errorf("the final response: %d %s", p.status, p.body)
		}
		s.conserved(0)
	})
}

func TestAServerThatAsksForEverIsRefusedAfterSomeRounds(t *testing.T) {
	t.Parallel()
	c := &multiRoundCall{id: "x", round: maxRounds - 1, waiting: map[string]*inputRequest{}}
	if _, err := c.addInput(&inputRequest{}); err != nil {
		t.Errorf("in the last round: %v", err)
	}
	c.round++
	if _, err := c.addInput(&inputRequest{}); !errors.Is(err, errTooManyRounds) {
		t.Errorf("beyond it: %v", err)
	}
}
