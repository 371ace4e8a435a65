package upstream

import (
	"encoding/json"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/upstream/transport"
)

func delivers(p *pendingCalls, m jsonrpc.Message) bool {
	delivered, _ := p.deliver(m)
	return delivered
}

func TestPendingCallGetsItsResponseOnce(t *testing.T) {
	t.Parallel()
	p := newPendingCalls()
	one, two := p.add(&call{}), p.add(&call{})
	if one.ID == two.ID || p.get(one.ID) != one || p.get("") != nil {
		t.Errorf("the calls have the ids %s and %s", one.ID, two.ID)
	}
	m := jsonrpc.NewResult(two.ID, json.RawMessage(`{}`))
	if !delivers(&p, m) || delivers(&p, m) || delivers(&p, jsonrpc.NewResult("99", nil)) {
		t.Error("not exactly the first response was delivered")
	}
	if got := <-two.Reply; got.Message.ID != two.ID || len(one.Reply) != 0 {
		t.Errorf("it got %+v", got)
	}
	if p.remove(two) || delivers(&p, m) || p.get(two.ID) != nil {
		t.Error("the call is still there")
	}
	delivers(&p, jsonrpc.NewResult(one.ID, nil))
	if !p.remove(one) {
		t.Error("an unread response was not reported")
	}
}

func TestErrorWithoutIDIsNotGuessedToBelongToACall(t *testing.T) {
	t.Parallel()
	parse := jsonrpc.NewError(jsonrpc.Null, &jsonrpc.Error{Code: jsonrpc.CodeParse, Message: "m"})
	for name, test := range map[string]struct {
		m     jsonrpc.Message
		spoil func(p *pendingCalls)
		want  bool
	}{
		"the only call":    {parse, func(*pendingCalls) {}, true},
		"invalid request":  {jsonrpc.NewError("", &jsonrpc.Error{Code: jsonrpc.CodeInvalidRequest}), func(*pendingCalls) {}, true},
		"another error":    {jsonrpc.NewError(jsonrpc.Null, &jsonrpc.Error{Code: jsonrpc.CodeMethodNotFound}), func(*pendingCalls) {}, false},
		"a result":         {jsonrpc.NewResult(jsonrpc.Null, json.RawMessage(`{}`)), func(*pendingCalls) {}, false},
		"an id":            {jsonrpc.NewError("99", &jsonrpc.Error{Code: jsonrpc.CodeParse}), func(*pendingCalls) {}, false},
		"two calls":        {parse, func(p *pendingCalls) { p.add(&call{}) }, false},
		"a notification":   {parse, func(p *pendingCalls) { p.sentOneWay() }, false},
		"a cancelled call": {parse, func(p *pendingCalls) { p.addCancelled(&call{Call: transport.Call{ID: "7"}}, time.Minute) }, false},
	} {
		p := newPendingCalls()
		first := p.add(&call{})
		delivers(&p, jsonrpc.NewResult(first.ID, nil))
		p.remove(first)
		p.add(&call{})
		test.spoil(&p)
		if got := delivers(&p, test.m); got != test.want {
			t.Errorf("%s: delivered: %v", name, got)
		}
	}
}

func TestOnlyPendingCallIsNotGuessedAmongSeveral(t *testing.T) {
	t.Parallel()
	p := newPendingCalls()
	p.add(&call{acknowledged: make(chan json.RawMessage)}) // a stream is not a call
	if p.only(false) != nil {
		t.Error("there is a call")
	}
	one := p.add(&call{})
	if p.only(false) != one || p.only(true) != one {
		t.Error("the only call was not found")
	}
	two := p.add(&call{})
	if p.only(false) != nil {
		t.Error("one of two was taken")
	}
	p.remove(two)
	if p.only(false) != one {
		t.Error("the only call was not found")
	}
}

// The hub reads lists again, and pings, while clients call.
func TestARequestOfTheHubDoesNotKeepTheCallOfAClientFromItsMessages(t *testing.T) {
	p := newPendingCalls()
	p.add(&call{})
	theirs := p.add(&call{sink: noSink{}})
	if p.only(true) != theirs {
		t.Error("the call of the client is not the only one")
	}
	p.add(&call{sink: noSink{}})
	if p.only(true) != nil {
		t.Error("one of two calls of clients was guessed")
	}
}

func TestCancelledCallKeepsOthersFromItsMessagesUntilItIsAnsweredOrAMinuteHasPassed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPendingCalls()
		cancel := func() *call {
			cl := p.add(&call{})
			p.addCancelled(cl, time.Hour)
			p.remove(cl)
			return cl
		}
		one, gone := p.add(&call{}), cancel()
		if p.only(true) != nil || p.only(false) != one {
			t.Error("only a shared connection has to be careful")
		}
		delivers(&p, jsonrpc.NewResult(gone.ID, nil))
		if p.only(true) != one {
			t.Error("the server has answered the cancelled call")
		}
		cancel()
		time.Sleep(cancelledFor)
		if p.only(true) != nil {
			t.Error("it was forgotten too early")
		}
		time.Sleep(time.Nanosecond)
		if p.only(true) != one {
			t.Error("it is still remembered")
		}
		for range maxCancelled + 10 {
			cancel()
		}
		if n := len(p.cancelled); n != maxCancelled {
			t.Errorf("%d cancelled calls are remembered", n)
		}
	})
}

func TestTaskTokensOutliveTheirCallsUpToABound(t *testing.T) {
	t.Parallel()
	p := newPendingCalls()
	var tokens []jsonrpc.ID
	for i := range maxTaskTokens + 10 {
		cl := p.add(&call{})
		tokens = append(tokens, jsonrpc.ID(p.setToken(cl, fmt.Append(nil, i))))
		if found, token := p.withToken(tokens[i], nil); found != cl || string(token) != fmt.Sprint(i) {
			t.Fatalf("call %d has the token %s", i, token)
		}
		p.keepTaskToken(cl)
		p.remove(cl)
	}
	if _, token := p.withToken(tokens[9], nil); token != nil {
		t.Error("the oldest tokens are still there")
	}
	if _, token := p.withToken(tokens[10], nil); string(token) != "10" {
		t.Errorf("the token of a task is %s", token)
	}
	if n := len(p.taskTokens); n != maxTaskTokens {
		t.Errorf("%d tokens are kept", n)
	}
}

// The goroutine of a call may run some time after its response has arrived.
func TestACallWithAResponseIsNotUnderWay(t *testing.T) {
	t.Parallel()
	p := newPendingCalls()
	one, two := p.add(&call{}), p.add(&call{})
	if p.only(false) != nil {
		t.Error("there are two calls")
	}
	if !delivers(&p, jsonrpc.NewResult(one.ID, nil)) || p.only(false) != two {
		t.Error("the call that has its response counts as one under way")
	}
	if !delivers(&p, jsonrpc.NewResult(two.ID, nil)) || p.only(false) != nil {
		t.Error("a call that has its response is returned")
	}
}
