package upstream

import (
	"encoding/json"
	"fmt"
	"sync"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/instrument/instrumenttest"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

// However alike the tokens of clients are, each gets its own progress, with its
// own token as it wrote it, before its answer.
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
				params := fmt.Sprintf(`{"name":"progress","arguments":{"n":%d,"text":%q},"_meta":{"other":1.0, "progressToken":%s }}`, callers, who, token)
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

func TestACallWithoutASinkHasItsProgressSentToTheConnections(t *testing.T) {
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

func TestProgressNobodyAskedForIsDroppedAndCounted(t *testing.T) {
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

func TestTheProgressTokensOfTasksAreKeptInBoundedNumber(t *testing.T) {
	t.Parallel()
	c := &Conn{}
	id := func(i int) jsonrpc.ID { return jsonrpc.ID(fmt.Sprint(i)) }
	task := jsonrpc.Message{Result: json.RawMessage(`{"task":{"taskId":"x"}}`)}
	c.keepTaskToken(&call{progress: id(-1)}, task) // wants no progress
	c.keepTaskToken(&call{progress: id(-2), token: json.RawMessage(`1`)}, jsonrpc.Message{Result: json.RawMessage(`{"content":[]}`)})
	for i := range maxTaskTokens + 10 {
		c.keepTaskToken(&call{progress: id(i), token: json.RawMessage(id(i))}, task)
	}
	if len(c.taskTokens) != maxTaskTokens || c.taskTokenOf(id(9)) != nil || string(c.taskTokenOf(id(10))) != "10" || c.taskTokenOf(id(-2)) != nil {
		t.Errorf("%d tokens are kept, from that of call %s on", len(c.taskTokens), c.taskTokens[0].id)
	}
}
