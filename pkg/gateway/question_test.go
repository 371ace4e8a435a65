package gateway

import (
	"net/http"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

// asking is the call of a tool that sends a request and returns at once.
const asking = `{"name":"one__notify","arguments":{"method":"elicitation/create","id":"own","params":{"message":"?"}}}`

// own starts a hub with a server over a pipe, of which each client has its own.
func own(t *testing.T) *rig {
	t.Helper()
	one := stdio(t, "one")
	one.Isolation = upstream.PerSession
	return start(t, setup{specs: []upstream.Spec{one}})
}

// answered waits until the server has the response to the request that it sent by itself.
func answered(t *testing.T, c *peer, want string) {
	t.Helper()
	hubtest.Eventually(t, "the server has the response", func() bool {
		late := c.state("one").Late
		return len(late) == 1 && string(late[0]) == want
	})
}

// A server over a pipe does not say what its request belongs to: it may have sent it because it was started.
func TestQuestionOfAnOwnServerOutlivesTheCallThatItCameDuring(t *testing.T) {
	c := own(t).connect()
	c.call("1", "tools/call", `{"name":"one__echo"}`)
	get := c.listen()
	p := c.call("2", "tools/call", asking)
	if m := p.response(t); m.Result == nil {
		t.Fatalf("the call: %s", m.Encode())
	}
	var question jsonrpc.Message
	if len(p.events) > 1 {
		question = p.events[0]
	} else { // the call ended first
		question = get.message()
	}
	if question.Method != "elicitation/create" {
		t.Fatalf("received %s", question.Encode())
	}
	if p := c.post(`{"jsonrpc":"2.0","id":` + string(question.ID) + `,"result":{"late":true}}`); p.status != http.StatusAccepted {
		t.Errorf("the response: %d %s", p.status, p.body)
	}
	answered(t, c, `{"late":true}`)
	if n := c.waitingRequests(); n != 0 {
		t.Errorf("%d server requests wait", n)
	}
}

// A shared server may mean the client of that call only, who is not interested any more.
func TestQuestionOfASharedServerEndsWithTheCall(t *testing.T) {
	c := start(t, setup{specs: []upstream.Spec{stdio(t, "one")}}).connect()
	c.call("2", "tools/call", asking)
	hubtest.Eventually(t, "the server is told", func() bool { return len(c.state("one").Late) == 1 })
	if n := c.waitingRequests(); n != 0 {
		t.Errorf("%d server requests wait", n)
	}
}

func TestQuestionOutsideOfACallReachesAClientThatReadsOnlyAResponse(t *testing.T) {
	c := own(t).connect()
	c.call("1", "tools/call", `{"name":"one__echo"}`)
	s := c.open(http.MethodPost, request("2", "tools/call", `{"name":"one__hang"}`))
	hubtest.Eventually(t, "the call is under way", func() bool { return c.state("one").Hanging == 1 })
	done := make(chan error, 1)
	go func() {
		result, err := c.live().Ask(t.Context(), jsonMessage("custom/ask", `{}`))
		if err == nil && string(result) != `{"n":1}` {
			t.Errorf("the answer is %s", result)
		}
		done <- err
	}()
	question := s.message()
	c.post(`{"jsonrpc":"2.0","id":` + string(question.ID) + `,"result":{"n":1}}`)
	if err := <-done; err != nil {
		t.Error(err)
	}
}
