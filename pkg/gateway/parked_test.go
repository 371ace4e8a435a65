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

// FuzzRequestState looks for states that are taken although they are none: only
// what the hub gave may be, and only for what it was given for.
func FuzzRequestState(f *testing.F) {
	p := newPendingCalls[*multiRoundCall]()
	c := &multiRoundCall{}
	c.id = p.add(c)
	good, err := p.seal(c.id, 3, "ann", []byte("digest"))
	if err != nil {
		f.Fatal(err)
	}
	other, err := newPendingCalls[*multiRoundCall]().seal(c.id, 3, "ann", []byte("digest"))
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range []string{"", ".", statePrefix, good, good + ".", good + "\n", good[1:], good[:len(good)-1], strings.ToUpper(good), other,
		strings.TrimPrefix(good, statePrefix), statePrefix + p.process + ".", statePrefix + p.process + ".AAAA", statePrefix + strings.Repeat(".", 40)} {
		f.Add(s, "ann", []byte("digest"))
	}
	f.Add(good, "bob", []byte("digest"))
	f.Add(good, "ann", []byte("other"))
	f.Fuzz(func(t *testing.T, sealed, principal string, digest []byte) {
		found, round, err := p.find(sealed, principal, digest)
		right := principal == "ann" && string(digest) == "digest" &&
			strings.TrimPrefix(strings.NewReplacer("\r", "", "\n", "").Replace(sealed), statePrefix) == strings.TrimPrefix(good, statePrefix)
		switch {
		case right && (found != c || round != 3 || err != nil):
			t.Errorf("the state is not known: %v", err)
		case !right && (found != nil || err == nil):
			t.Errorf("%q was taken of %q for %q", sealed, principal, digest)
		case !right && !errors.Is(err, errStateForged) && !errors.Is(err, errStateForeign):
			t.Errorf("refused with %v", err)
		}
	})
}

func TestADigestIsOverWhatAllRequestsOfACallHaveInCommon(t *testing.T) {
	digest := func(method, params string) string {
		return string(digestOf(jsonrpc.Message{Method: method, Params: json.RawMessage(params)}))
	}
	same := digest("tools/call", `{"name":"x","arguments":{"a":1,"b":[2]}}`)
	for _, params := range []string{`{"arguments":{"b":[ 2 ],"a":1.0},"name":"\u0078"}`,
		`{"name":"x","_meta":{"progressToken":1},"arguments":{"a":1,"b":[2]},"requestState":"s","inputResponses":{"q":{}}}`} {
		if digest("tools/call", params) != same {
			t.Errorf("%s is another request", params)
		}
	}
	for _, params := range []string{`{"name":"y","arguments":{"a":1,"b":[2]}}`, `{"name":"x","arguments":{"a":1,"b":[3]}}`, `{"name":"x"}`, `{}`, ``, `[1]`,
		`{"name":"x","arguments":{"a":1,"b":[2]},"more":null}`} {
		if digest("tools/call", params) == same {
			t.Errorf("%s is the same request", params)
		}
	}
	if digest("prompts/get", `{"name":"x","arguments":{"a":1,"b":[2]}}`) == same {
		t.Error("the method does not count")
	}
}

// staged is a hub in virtual time with a server that never says anything, and
// calls whose course a test decides.
type staged struct {
	*rig
	client *modernPeer
}

const stagedParams = `{"name":"one__x"}`

// begin begins a request whose call does what work does, and returns what it is
// answered.
func (s staged) begin(ctx context.Context, id string, work func(*multiRoundCall) (jsonrpc.Message, error)) <-chan *httptest.ResponseRecorder {
	g := s.gateway
	body := s.client.body(id, "tools/call", stagedParams)
	m, err := jsonrpc.Parse([]byte(body))
	if err != nil {
		s.t.Fatal(err)
	}
	answered := make(chan *httptest.ResponseRecorder, 1)
	go func() {
		w := httptest.NewRecorder()
		r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/mcp", strings.NewReader(body))
		sctx, op := g.tel.startOperation(r, "", protocol.ModernVersion, m)
		req := &modernRequest{message: m, client: modernClient{identity: upstream.Identity{Capabilities: json.RawMessage(canElicit)}},
			out: stream.NewLog(g.retention, "", protocol.ModernVersion).NewPost(1, m.ID), op: op, ctx: sctx}
		c := newMultiRoundCall(g.core, g.modern.bridges, g.modern.pending, req)
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

// again sends a retry.
func (s staged) again(id, state, responses string) reply {
	s.t.Helper()
	params := strings.TrimSuffix(stagedParams, "}") + `,"inputResponses":` + responses + `,"requestState":"` + state + `"}`
	return s.client.ask(id, "tools/call", params)
}

// stage runs a test in virtual time.
func stage(t *testing.T, test func(t *testing.T, s staged)) {
	silent := upstream.Spec{Name: "one", Command: "/nonexistent"}
	inBubble(t, setup{specs: []upstream.Spec{silent}, untraced: true}, func(t *testing.T, r *rig, _ *pipes) {
		r.t = t
		test(t, staged{r, r.modern(canElicit)})
	})
}

// recorded makes a reply of what was recorded.
func recorded(r *rig, w *httptest.ResponseRecorder) reply { return r.read(w.Result()) }

var done = jsonrpc.Message{Result: json.RawMessage(`{"content":[]}`)}

func question(params string) jsonrpc.Message { return jsonMessage("elicitation/create", params) }

func TestAParkedCallIsCancelledWhenNobodyComesBack(t *testing.T) {
	stage(t, func(t *testing.T, s staged) {
		failed := make(chan error, 1)
		q := recorded(s.rig, <-s.begin(t.Context(), "1", func(c *multiRoundCall) (jsonrpc.Message, error) {
			_, err := c.Ask(c.ctx, question(`{}`))
			failed <- err
			return jsonrpc.Message{}, err
		})).wanted(t)
		time.Sleep(pendingTimeout - time.Second)
		synctest.Wait()
		if len(failed) != 0 || s.gateway.modern.pending.waiting() != 1 {
			t.Error("given up too early")
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if err := <-failed; err == nil || !strings.Contains(err.Error(), "did not come back") || s.gateway.modern.pending.waiting() != 0 {
			t.Errorf("after the time: %v, %d wait", err, s.gateway.modern.pending.waiting())
		}
		if p := s.again("2", q.RequestState, `{}`); p.status != 400 || !strings.Contains(p.failed(t).Message, "expired") {
			t.Errorf("the retry: %d %s", p.status, p.body)
		}
		s.conserved(0)
	})
}

func TestTheOutcomeOfAParkedCallIsKeptForAWhile(t *testing.T) {
	stage(t, func(t *testing.T, s staged) {
		for _, late := range []bool{false, true} {
			leave := make(chan bool)
			q := recorded(s.rig, <-s.begin(t.Context(), "1", func(c *multiRoundCall) (jsonrpc.Message, error) {
				ctx, cancel := context.WithCancel(c.ctx)
				go func() { <-leave; cancel() }()
				_, _ = c.Ask(ctx, question(`{}`))
				return done, nil
			})).wanted(t)
			leave <- true
			synctest.Wait()
			if s.gateway.modern.pending.waiting() != 1 {
				t.Error("the outcome is not kept")
			}
			wait := pendingTimeout - time.Second
			if late {
				wait += 2 * time.Second
			}
			time.Sleep(wait)
			synctest.Wait()
			if p := s.again("2", q.RequestState, `{}`); (p.answer(t).Error != nil) != late {
				t.Errorf("late %v: %d %s", late, p.status, p.body)
			}
			if n := s.gateway.modern.pending.waiting(); n != 0 {
				t.Errorf("late %v: %d are kept", late, n)
			}
		}
		s.conserved(0)
	})
}

func TestQuestionsOfTheQuietPeriodAreAskedTogether(t *testing.T) {
	stage(t, func(t *testing.T, s staged) {
		begun := time.Now()
		q := recorded(s.rig, <-s.begin(t.Context(), "1", func(c *multiRoundCall) (jsonrpc.Message, error) {
			asked := make(chan error, 4)
			for range 4 {
				go func() {
					_, err := c.Ask(c.ctx, question(`{}`))
					asked <- err
				}()
				time.Sleep(collectTime - time.Millisecond)
			}
			for range 4 {
				if err := <-asked; err != nil {
					return jsonrpc.Message{}, err
				}
			}
			return done, nil
		})).wanted(t)
		if took := time.Since(begun); len(q.InputRequests) != 4 || took != 4*collectTime-3*time.Millisecond {
			t.Errorf("%d questions after %v", len(q.InputRequests), took)
		}
		if p := s.again("2", q.RequestState, `{"q1":{},"q2":{},"q3":{},"q4":{}}`); p.status != 200 {
			t.Errorf("the retry: %d %s", p.status, p.body)
		}
		s.conserved(0)
	})
}

func TestAnExpiredStateHasNoPowerOverALaterRound(t *testing.T) {
	stage(t, func(t *testing.T, s staged) {
		q := recorded(s.rig, <-s.begin(t.Context(), "1", func(c *multiRoundCall) (jsonrpc.Message, error) {
			for range 2 {
				if _, err := c.Ask(c.ctx, question(`{}`)); err != nil {
					return jsonrpc.Message{}, err
				}
			}
			return done, nil
		})).wanted(t)
		time.Sleep(pendingTimeout - time.Second)
		q2 := s.again("2", q.RequestState, `{"q1":{}}`).wanted(t)
		time.Sleep(pendingTimeout - time.Second) // the first round would have expired long since
		if p := s.again("3", q2.RequestState, `{"q2":{}}`); p.status != 200 || p.answer(t).Error != nil {
			t.Errorf("the end: %d %s", p.status, p.body)
		}
		s.conserved(0)
	})
}
