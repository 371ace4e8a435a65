package upstream

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/instrument/instrumenttest"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

func TestServerRequestGoesToTheSinkOfItsCallAndItsResponseBack(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, spec Spec) {
		shared := &recorder{}
		c := newEnv(t, spec).connect(t, shared)
		answer := `{"roots":[ {"uri":"file:///\u0061"} ],"n":1.0}`
		sink := &recorder{answer: func(context.Context, jsonrpc.Message) (json.RawMessage, error) {
			return json.RawMessage(answer), nil
		}}
		req := toolCall("ask", `{"text":"roots/list","key":"k"}`)
		req.Sink = sink
		m, err := c.Call(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		if got := field(t, field(t, m.Result, "answer"), "result"); string(got) != answer {
			t.Errorf("the server got %s, want %s", got, answer)
		}
		if q := sink.serverRequests(); len(q) != 1 || q[0].Method != "roots/list" || string(q[0].Params) != `{"of":"k"}` {
			t.Errorf("the sink was asked %v", q)
		}
		if q := shared.serverRequests(); len(q) != 0 {
			t.Errorf("the connection's sink was asked %v", q)
		}
	})
}

func TestErrorOfTheClientIsForwardedUnchanged(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, spec Spec) {
		c := newEnv(t, spec).connect(t, nil)
		req := toolCall("ask", `{"text":"sampling/createMessage"}`)
		req.Sink = &recorder{answer: func(context.Context, jsonrpc.Message) (json.RawMessage, error) {
			return nil, &jsonrpc.Error{Code: -1, Message: "rejected", Data: json.RawMessage(`{"by":"user"}`)}
		}}
		m, err := c.Call(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(field(t, field(t, m.Result, "answer"), "error")); got != `{"code":-1,"message":"rejected","data":{"by":"user"}}` {
			t.Errorf("the server got %s", got)
		}
	})
}

func TestPingsOfTheServerAreAnsweredByTheHub(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, spec Spec) {
		sink := &recorder{}
		c := newEnv(t, spec).connect(t, sink)
		m := tool(t, c, "ask", `{"text":"ping"}`)
		if got := string(field(t, field(t, m.Result, "answer"), "result")); got != `{}` {
			t.Errorf("the server got %s", got)
		}
		if q := sink.serverRequests(); len(q) != 0 {
			t.Errorf("the sink was asked %v", q)
		}
	})
}

// With two calls under way over one pipe, it is unknown which of them a server request belongs to.
func TestServerRequestDuringSeveralCallsGoesToTheSinkOfTheConnection(t *testing.T) {
	t.Parallel()
	shared, one, two := &recorder{}, &recorder{}, &recorder{}
	c := newEnv(t, childSpec(t, "script")).connect(t, shared)
	held := toolCall("hold", `{"key":"k"}`)
	held.Sink = one
	done := make(chan error, 1)
	go func() {
		_, err := c.Call(t.Context(), held)
		done <- err
	}()
	requestID(t, c, `"key":"k"`)
	req := toolCall("ask", `{"text":"roots/list"}`)
	req.Sink = two
	if _, err := c.Call(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	if len(shared.serverRequests()) != 1 || len(one.serverRequests())+len(two.serverRequests()) != 0 {
		t.Error("the request went to a call")
	}
	tool(t, c, "release", `{"key":"k"}`)
	if err := wait(t, "the held call returns", done); err != nil {
		t.Error(err)
	}
}

// Over HTTP a server request arrives on the response stream of its call.
func TestServerRequestOnAResponseStreamGoesToItsCallAmongMany(t *testing.T) {
	t.Parallel()
	c := newEnv(t, newHTTPScript(t).spec()).connect(t, nil)
	const callers = 8
	done := make(chan error, callers)
	for range callers {
		go func() {
			sink := &recorder{}
			req := toolCall("ask", `{"text":"elicitation/create"}`)
			req.Sink = sink
			_, err := c.Call(t.Context(), req)
			if n := len(sink.serverRequests()); n != 1 {
				t.Errorf("a sink was asked %d times", n)
			}
			done <- err
		}()
	}
	for range callers {
		if err := wait(t, "the calls return", done); err != nil {
			t.Error(err)
		}
	}
}

func TestTooManyServerRequestsAtOnceAreRefused(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, spec Spec) {
		c := newEnv(t, spec).connect(t, nil)
		release := make(chan struct{})
		sink := &releaser{release: release}
		sink.answer = func(ctx context.Context, _ jsonrpc.Message) (json.RawMessage, error) {
			select {
			case <-release:
				return json.RawMessage(`{}`), nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		req := toolCall("flood", `{"n":100}`)
		req.Sink = sink
		m, err := c.Call(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		if a, r := fieldInt(t, m.Result, "answered"), fieldInt(t, m.Result, "refused"); a != maxServerRequests || r != 100-maxServerRequests {
			t.Errorf("%d were answered and %d refused", a, r)
		}
	})
}

// releaser answers the server requests at the first notification.
type releaser struct {
	recorder
	release chan struct{}
}

func (r *releaser) Notify(jsonrpc.Message) { close(r.release) }

func TestCloseEndsServerRequestsWithoutAnswer(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, spec Spec) {
		asked := make(chan struct{})
		c := newEnv(t, spec).connect(t, nil)
		req := toolCall("ask", `{"text":"sampling/createMessage"}`)
		req.Sink = &recorder{answer: func(ctx context.Context, _ jsonrpc.Message) (json.RawMessage, error) {
			close(asked)
			<-ctx.Done()
			return nil, context.Cause(ctx)
		}}
		done := make(chan error, 1)
		go func() {
			_, err := c.Call(context.WithoutCancel(t.Context()), req)
			done <- err
		}()
		wait(t, "the request arrives", asked)
		c.close(true)
		if err := wait(t, "the call fails", done); err == nil || !strings.Contains(err.Error(),
			"was lost before it answered: the connection was closed") {
			t.Errorf("error %v", err)
		}
	})
}

// The call of one client must not consume a notification for all clients.
func TestChangesOfASharedServerDoNotGoToTheOnlyCall(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, spec Spec) {
		spec.Isolation = Shared
		shared, own := &recorder{}, &recorder{}
		c := newEnv(t, spec).connect(t, shared)
		lines, _ := json.Marshal([]string{
			`{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`,
			`{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"x:"}}`,
			`{"jsonrpc":"2.0","method":"notifications/message","params":{"data":"for the call"}}`,
		})
		req := toolCall("lines", `{"lines":`+string(lines)+`}`)
		req.Sink = own
		if _, err := c.Call(t.Context(), req); err != nil {
			t.Fatal(err)
		}
		if got := shared.notifications(); len(got) != 2 {
			t.Errorf("the connection's sink got %v", got)
		}
		if got := own.notifications(); len(got) != 1 || got[0].Method != "notifications/message" {
			t.Errorf("the call's sink got %v", got)
		}
	})
}

func TestAnswersBeyondTheLimitAreDroppedAndCounted(t *testing.T) {
	t.Parallel()
	e := newEnv(t, newHTTPScript(t).spec())
	c := e.connect(t, nil)
	c.background.mu.Lock()
	c.requests.answering.used += maxAnswers
	c.background.mu.Unlock()
	receive(c, jsonrpc.Message{ID: "1", Method: "ping"})
	if n := instrumenttest.Value(t, e.reg, "mcphub_unmatched_responses_total", "reason", "overload"); n != 1 {
		t.Errorf("%v are counted", n)
	}
}
