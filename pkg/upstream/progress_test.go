package upstream

import (
	"encoding/json"
	"fmt"
	"sync"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/instrument/instrumenttest"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

// Clients may use equal tokens: each gets its own progress, with its own token unchanged, before its response.
func TestProgressGoesToItsCallerWithItsOwnToken(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, spec Spec) {
		const callers = 64
		spec.Isolation = Shared
		shared := &recorder{}
		c := newEnv(t, spec).connect(t, shared)
		tokens := []string{`7`, `7`, `"7"`, `9007199254740993`, `"\u0037"`, `7.0`, `1`, `"a b"`}
		var wg sync.WaitGroup
		for i := range callers {
			wg.Go(func() {
				token, who, sink := tokens[i%len(tokens)], fmt.Sprint("caller ", i), &recorder{}
				params := fmt.Sprintf(`{"name":"progress","arguments":{"n":%d,"text":%q},"_meta":{"other":1.0, "progressToken":%s }}`,
					callers, who, token)
				if _, err := c.Call(t.Context(), Request{Method: "tools/call", Params: json.RawMessage(params), Sink: sink}); err != nil {
					t.Error(err)
					return
				}
				got := sink.notifications()
				if len(got) != 3 {
					t.Errorf("%s got %d notifications before its answer", who, len(got))
				}
				for n, m := range got {
					want := fmt.Sprintf(`{"progress":%d.50,"progressToken":%s,"message":%q}`, n, token, who)
					if m.Method != "notifications/progress" || string(m.Params) != want {
						t.Errorf("%s got %s %s, want %s", who, m.Method, m.Params, want)
					}
				}
			})
		}
		wg.Wait()
		if n := shared.notifications(); len(n) != 0 {
			t.Errorf("progress went astray: %v", n)
		}
	})
}

func TestProgressOfACallWithoutASinkGoesToTheSinkOfTheConnection(t *testing.T) {
	t.Parallel()
	sink := &recorder{}
	c := newEnv(t, newHTTPScript(t).spec()).connect(t, sink)
	params := `{"name":"progress","arguments":{"n":1},"_meta":{"progressToken":"p"}}`
	if _, err := c.Call(t.Context(), Request{Method: "tools/call", Params: json.RawMessage(params)}); err != nil {
		t.Fatal(err)
	}
	if n := len(sink.notifications()); n != 3 {
		t.Errorf("the connection's sink got %d notifications", n)
	}
}

func TestUnrequestedProgressIsDroppedAndCounted(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, spec Spec) {
		e := newEnv(t, spec)
		sink, own := &recorder{}, &recorder{}
		c := e.connect(t, sink)
		var lines []string
		for _, params := range []string{`{"progressToken":999,"progress":1}`, `{"progressToken":"1","progress":1}`,
			`{"progress":1}`, `{"progressToken":1,"progress":1}`, `[]`} {
			lines = append(lines, `{"jsonrpc":"2.0","method":"notifications/progress","params":`+params+`}`)
		}
		raw, _ := json.Marshal(lines)
		req := toolCall("lines", `{"lines":`+string(raw)+`}`) // a call without a token
		req.Sink = own
		if _, err := c.Call(t.Context(), req); err != nil {
			t.Fatal(err)
		}
		if got := append(sink.notifications(), own.notifications()...); len(got) != 0 {
			t.Errorf("it was delivered: %v", got)
		}
		if n := instrumenttest.Value(t, e.reg, "mcphub_unmatched_responses_total", "reason", "progress"); n != 5 {
			t.Errorf("%v are counted, want 5", n)
		}
	})
}

func TestProgressTokenIsKeptOnlyIfTheAnswerIsATask(t *testing.T) {
	t.Parallel()
	c := &Conn{pending: newPendingCalls()}
	task := jsonrpc.Message{Result: json.RawMessage(`{"task":{"taskId":"x"}}`)}
	without, other, one := c.pending.add(&call{}), c.pending.add(&call{}), c.pending.add(&call{})
	c.processed(without, Request{Task: true}, task) // wants no progress
	c.pending.setToken(other, json.RawMessage(`1`))
	c.processed(other, Request{Task: true}, jsonrpc.Message{Result: json.RawMessage(`{"content":[]}`)})
	c.pending.setToken(one, json.RawMessage(`2`))
	c.processed(one, Request{Task: true}, task)
	if kept := c.pending.taskTokens; len(kept) != 1 || string(kept[0].token) != "2" {
		t.Errorf("%v are kept", kept)
	}
}
