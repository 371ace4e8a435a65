package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mcphub-go/mcphub/pkg/instrument/instrumenttest"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/upstream/transport"
)

// requiring is a modern server whose tool "it" answers with one result after the other; the last is repeated.
func requiring(t testing.TB, results ...string) *modernScript {
	t.Helper()
	var n atomic.Int64
	s := newModernScript(t)
	s.on["it"] = func(w http.ResponseWriter, _ *http.Request, m jsonrpc.Message) {
		i := int(n.Add(1)) - 1
		reply(w, m, `"result":`+results[min(i, len(results)-1)])
	}
	return s
}

func wants(requests, state string) string {
	out := `{"resultType":"input_required"`
	if requests != "" {
		out += `,"inputRequests":{` + requests + `}`
	}
	if state != "" {
		out += `,"requestState":` + state
	}
	return out + `}`
}

const (
	roots = `"r":{"method":"roots/list"}`
	done  = `{"resultType":"complete","content":[ ],"n":1.0}`
)

func TestInputRequestsAreAnsweredRoundByRound(t *testing.T) {
	t.Parallel()
	const state = `"\u0061\/ <é>\n\ud83d\ude00"`
	for name, test := range map[string]struct {
		results []string
		asked   int
		sent    []string // inputResponses and requestState of each round after the first
	}{
		"none": {[]string{done}, 0, nil},
		"one":  {[]string{wants(roots, state), done}, 1, []string{`{"r":{"n": 1}} ` + state}},
		"a state of odd white space": {[]string{"{\"resultType\" : \"input_required\",\n\"requestState\" :\t" + state +
			" , \"inputRequests\": { " + roots + "} }", done}, 1,
			[]string{`{"r":{"n": 1}} ` + state}},
		"no state":             {[]string{wants(roots, ""), done}, 1, []string{`{"r":{"n": 1}} `}},
		"a state that ends":    {[]string{wants(roots, `"1"`), wants(roots, ""), done}, 2, []string{`{"r":{"n": 1}} "1"`, `{"r":{"n": 1}} `}},
		"put off":              {[]string{wants("", `"later"`), done}, 0, []string{` "later"`}},
		"answered, put off":    {[]string{wants(roots, `"1"`), wants("", `"2"`), done}, 1, []string{`{"r":{"n": 1}} "1"`, ` "2"`}},
		"null is no state":     {[]string{wants(roots, `null`), done}, 1, []string{`{"r":{"n": 1}} `}},
		"a key of odd letters": {[]string{wants(`"\u0061\"\n":{"method":"roots/list"}`, ""), done}, 1, []string{`{"a\"\n":{"n": 1}} `}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := requiring(t, test.results...)
			sink := &recorder{answer: func(context.Context, jsonrpc.Message) (json.RawMessage, error) {
				return json.RawMessage(`{"n": 1}`), nil
			}}
			req := toolCall("it", `{"a":1.0}`)
			req.Sink = sink
			m, err := newEnv(t, s.spec()).connect(t, nil).Call(t.Context(), req)
			if err != nil || string(m.Result) != `{"content":[ ],"n":1.0}` {
				t.Fatalf("the answer is %s, %v", m.Encode(), err)
			}
			if n := len(sink.serverRequests()); n != test.asked {
				t.Errorf("%d requests were asked", n)
			}
			calls, ids := s.calls("tools/call"), map[jsonrpc.ID]bool{}
			if len(calls) != len(test.sent)+1 {
				t.Fatalf("%d requests were sent", len(calls))
			}
			for i, m := range calls {
				ids[m.ID] = true
				if got := string(field(t, m.Params, "arguments")); got != `{"a":1.0}` {
					t.Errorf("round %d has the arguments %s", i, got)
				}
				want := " "
				if i > 0 {
					want = test.sent[i-1]
				}
				if got := string(field(t, m.Params, "inputResponses")) + " " + string(field(t, m.Params, "requestState")); got != want {
					t.Errorf("round %d carries %s, want %s", i, got, want)
				}
			}
			if len(ids) != len(calls) {
				t.Error("an id was used twice")
			}
		})
	}
}

func TestInputRequestsOfOneRoundAreForwardedAtOnce(t *testing.T) {
	t.Parallel()
	s := requiring(t, wants(roots+`,"s":{"method":"sampling/createMessage","params":{"maxTokens":1}}`, ""), done)
	both := make(chan struct{}, 2)
	req := toolCall("it", "")
	req.Sink = &recorder{answer: func(ctx context.Context, m jsonrpc.Message) (json.RawMessage, error) {
		both <- struct{}{}
		for len(both) < 2 { // each waits for the other
			if transport.Pause(ctx, time.Millisecond) != nil {
				return nil, ctx.Err()
			}
		}
		return jsonrpc.Rewrite(nil, jsonrpc.Edit{Name: "m", Value: jsonrpc.String(m.Method)})
	}}
	if _, err := newEnv(t, s.spec()).connect(t, nil).Call(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	answers := field(t, s.calls("tools/call")[1].Params, "inputResponses")
	if string(field(t, answers, "r")) != `{"m":"roots/list"}` || string(field(t, answers, "s")) != `{"m":"sampling/createMessage"}` {
		t.Errorf("the answers are %s", answers)
	}
}

func TestInvalidInputRequiredResultIsRefused(t *testing.T) {
	t.Parallel()
	for result, want := range map[string]string{
		`{"resultType":"task"}`:                                     `unknown resultType`,
		`{"resultType":7}`:                                          `unknown resultType`,
		`{"resultType":"input_required"}`:                           "has neither inputRequests nor requestState",
		`{"resultType":"input_required","requestState":null}`:       "has neither inputRequests nor requestState",
		`{"resultType":"input_required","inputRequests":[]}`:        "are not an object of requests",
		`{"resultType":"input_required","inputRequests":{"a":"b"}}`: "are not an object of requests",
		`[]`:                                 "its result is not an object",
		wants(many(maxServerRequests+1), ""): "more than 64 inputRequests",
	} {
		req := toolCall("it", "")
		req.Sink = &recorder{}
		_, err := newEnv(t, requiring(t, result).spec()).connect(t, nil).Call(t.Context(), req)
		if !errors.Is(err, transport.ErrProtocol) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60s: %v", result, err)
		}
	}
}

func many(n int) string {
	var requests []string
	for i := range n {
		requests = append(requests, fmt.Sprintf(`"%d":{"method":"roots/list"}`, i))
	}
	return strings.Join(requests, ",")
}

func TestRefusedInputRequestIsAnErrorOfTheCall(t *testing.T) {
	t.Parallel()
	req := toolCall("it", "")
	req.Sink = &recorder{answer: func(context.Context, jsonrpc.Message) (json.RawMessage, error) {
		return nil, jsonrpc.Errorf(-1, "the user said no")
	}}
	c := newEnv(t, requiring(t, wants(roots, "")).spec()).connect(t, nil)
	_, err := c.Call(t.Context(), req)
	if e := jsonrpc.AsError(err); err == nil || e.Code != jsonrpc.CodeInternal ||
		e.Message != "the server requires an answer of the client, which failed: the user said no" {
		t.Errorf("error %v", err)
	}
	req.Sink = nil // the connection's, which answers
	s := requiring(t, wants(roots, ""), done)
	sink := &recorder{}
	if _, err := newEnv(t, s.spec()).connect(t, sink).Call(t.Context(), req); err != nil || len(sink.serverRequests()) != 1 {
		t.Errorf("without a sink: %v", err)
	}
}

func TestWaitingInputRequestEndsWithItsCall(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		end  func(c *Conn, cancel func())
		is   error
		spec func(*Spec)
	}{
		"cancelled": {func(_ *Conn, cancel func()) { cancel() }, ErrCancelled, nil},
		"timeout":   {func(*Conn, func()) {}, ErrTimeout, func(s *Spec) { s.CallTimeout = 300 * time.Millisecond }},
		"closed":    {func(c *Conn, _ func()) { c.close(true) }, ErrLost, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := requiring(t, wants(roots, ""))
			spec := s.spec()
			if test.spec != nil {
				test.spec(&spec)
			}
			e := newEnv(t, spec)
			c := e.connect(t, nil)
			asked := make(chan struct{})
			req := toolCall("it", "")
			req.Sink = &recorder{answer: func(ctx context.Context, _ jsonrpc.Message) (json.RawMessage, error) {
				close(asked)
				<-ctx.Done()
				return nil, ctx.Err()
			}}
			ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
			defer cancel()
			result := goCall(ctx, c, req)
			wait(t, "the request arrives", asked)
			test.end(c, cancel)
			if err := wait(t, "the call returns", result); !errors.Is(err, test.is) || !strings.HasPrefix(err.Error(), `server "web" `) {
				t.Errorf("error %v", err)
			}
			if n := instrumenttest.Value(t, e.reg, "mcphub_requests_in_flight"); n != 0 {
				t.Errorf("%v requests are in flight", n)
			}
		})
	}
}

func TestEndlessInputRequestsAreBoundedByTheCallTimeout(t *testing.T) {
	t.Parallel()
	for name, result := range map[string]string{"asks": wants(roots, `"1"`), "puts off": wants("", `"1"`)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			spec := requiring(t, result).spec()
			spec.CallTimeout = 500 * time.Millisecond
			req := toolCall("it", "")
			req.Sink = &recorder{}
			c := newEnv(t, spec).connect(t, nil)
			within(t, 5*time.Second, "the call", func() {
				if _, err := c.Call(t.Context(), req); !errors.Is(err, ErrTimeout) {
					t.Errorf("error %v", err)
				}
			})
		})
	}
}

func TestProgressKeepsItsTokenThroughTheRounds(t *testing.T) {
	t.Parallel()
	s := newModernScript(t)
	s.on["it"] = func(w http.ResponseWriter, _ *http.Request, m jsonrpc.Message) {
		fields, _ := jsonrpc.Fields(m.Params, "_meta", "inputResponses")
		token, _ := jsonrpc.Fields(fields[0], "progressToken")
		startStream(w)
		writeEvent(w, "", `{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":`+string(token[0])+`,"progress":1}}`)
		writeEvent(w, "", `{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":1}}`)
		result := wants(roots, "")
		if fields[1] != nil {
			result = done
		}
		writeEvent(w, "", `{"jsonrpc":"2.0","id":`+string(m.ID)+`,"result":`+result+`}`)
	}
	sink := &recorder{}
	m, err := newEnv(t, s.spec()).connect(t, nil).Call(t.Context(), Request{Method: "tools/call", Sink: sink,
		Params: json.RawMessage(`{"name":"it","_meta":{"progressToken":"mine"}}`)})
	if err != nil || m.Error != nil {
		t.Fatalf("%s, %v", m.Encode(), err)
	}
	var got []string
	for _, n := range sink.notifications() {
		got = append(got, n.Method+string(n.Params))
	}
	want := `notifications/progress{"progressToken":"mine","progress":1} notifications/message{"level":"info","data":1}`
	if s := strings.Join(got, " "); s != want+" "+want {
		t.Errorf("the client is told %s", s)
	}
}

func TestErrorOfAnUnknownResourceHasItsLegacyCode(t *testing.T) {
	t.Parallel()
	for sent, want := range map[string]string{
		`{"code":-32602, "message":"not found","data":{"uri":"x:"}}`: `{"code":-32002, "message":"not found","data":{"uri":"x:"}}`,
		`{"code":-32602,"message":"bad params"}`:                     `{"code":-32602,"message":"bad params"}`,
		`{"code":-32603,"message":"x","data":{"uri":"x:"}}`:          `{"code":-32603,"message":"x","data":{"uri":"x:"}}`,
	} {
		s := newModernScript(t)
		s.on["resources/read"] = func(w http.ResponseWriter, _ *http.Request, m jsonrpc.Message) { reply(w, m, `"error":`+sent) }
		c := newEnv(t, s.spec()).connect(t, nil)
		req := Request{Method: "resources/read", Params: json.RawMessage(`{"uri":"x:"}`)}
		if m, err := c.Call(t.Context(), req); err != nil || string(m.Error) != want {
			t.Errorf("%s became %s, %v", sent, m.Error, err)
		}
		req.Modern = true
		if m, err := c.Call(t.Context(), req); err != nil || string(m.Error) != sent {
			t.Errorf("%s became %s for a modern client, %v", sent, m.Error, err)
		}
	}
}

func TestLogLevelsAreCheckedAndNeedTheLoggingCapability(t *testing.T) {
	t.Parallel()
	level := func(s *modernScript, params string) (jsonrpc.Message, error) {
		return newEnv(t, s.spec()).connect(t, nil).Call(t.Context(), Request{Method: "logging/setLevel", Params: json.RawMessage(params)})
	}
	if m, err := level(newModernScript(t, changing), `{"level":"debug"}`); err != nil || string(m.Result) != `{}` {
		t.Errorf("%s, %v", m.Encode(), err)
	}
	if _, err := level(newModernScript(t, changing), `{"level":"loud"}`); err == nil ||
		jsonrpc.AsError(err).Code != jsonrpc.CodeInvalidParams {
		t.Errorf("error %v", err)
	}
	if _, err := level(newModernScript(t), `{"level":"debug"}`); err == nil || jsonrpc.AsError(err).Code != jsonrpc.CodeMethodNotFound {
		t.Errorf("error %v", err)
	}
}

func TestAServerThatAsksForEverIsStoppedAfterPausesThatGrow(t *testing.T) {
	t.Parallel()
	r := newRounds()
	for n := range maxQuestionRounds {
		pause, err := r.next(true)
		if err != nil || (pause > 0) != (n >= quickRounds) || pause > 2*maxRoundPause || (n > 20 && pause < maxRoundPause) {
			t.Errorf("round %d: %s, %v", n, pause, err)
		}
	}
	if _, err := r.next(true); !errors.Is(err, transport.ErrProtocol) || !strings.Contains(err.Error(), "more than 100 rounds") {
		t.Errorf("error %v", err)
	}
	r = newRounds()
	for n := range 1000 { // a server that is polled is stopped by the timeout of the call
		if pause, err := r.next(false); err != nil || pause < firstRoundPause || (n > 10 && pause < maxRoundPause) {
			t.Errorf("round %d: %s, %v", n, pause, err)
		}
	}
}
