package gateway

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
	"github.com/mcphub-go/mcphub/pkg/protocol"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

const (
	initializeWithURLElicitation = `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25",` +
		`"capabilities":{"elicitation":{"url":{}},"sampling":{}},"clientInfo":{"name":"probe","version":"1"}}}`
	urlElicitationRequired = `{"code":-32042,"message":"First this.","data":{"elicitations":[{"mode":"url","elicitationId":"%s-",` +
		`"url":"https://x.test"},` +
		`{"mode":"url","elicitationId":"%s","url":"https://x.test","n":1.50}]}}`
)

// callRequiringElicitations calls a tool of the server that fails because two pages must be opened first.
func (c *peer) callRequiringElicitations(server, id string) {
	c.t.Helper()
	refusal := fmt.Sprintf(urlElicitationRequired, id, id)
	m := c.call("1", "tools/call", `{"name":"`+server+`__fail","arguments":{"error":`+refusal+`}}`).response(c.t)
	if string(m.Error) != refusal {
		c.t.Errorf("the error arrived as %s", m.Error)
	}
}

// callSendingElicitation calls a tool of the server that requests an elicitation by URL during the call.
func (c *peer) callSendingElicitation(server, id string) {
	c.t.Helper()
	params := `{"mode":"url","elicitationId":"` + id + `","url":"https://x.test","message":"m", "n":1.50}`
	s := c.open(http.MethodPost, request("1", "tools/call",
		`{"name":"`+server+`__request","arguments":{"method":"elicitation/create","params":`+params+`}}`))
	m := s.message()
	if string(m.Params) != params {
		c.t.Errorf("received %s", m.Encode())
	}
	c.respond(m, `"result":{"action":"accept"}`)
	if m := s.message(); string(m.Result) != `{"content":[],"answer":{"action":"accept"}}` {
		c.t.Errorf("the server got %s", m.Encode())
	}
}

// completeElicitation makes the server send the completion of an elicitation, during a call of c (tool notify) or after
// it (notifyLater).
func (c *peer) completeElicitation(server, tool, id string) {
	c.t.Helper()
	p := c.call("1", "tools/call", `{"name":"`+server+`__`+tool+`","arguments":{"method":"notifications/elicitation/complete",`+
		`"params":{"elicitationId":"`+id+`"}}}`)
	if m := p.response(c.t); len(p.events) > 1 || m.Error != nil {
		c.t.Errorf("the unrelated call received %s", p.body)
	}
}

func (s *reader) expectCompletion(id string) {
	s.t.Helper()
	if m := s.message(); m.Method != "notifications/elicitation/complete" || string(m.Params) != `{"elicitationId":"`+id+`"}` {
		s.t.Errorf("received %s, want the completion of %s", m.Encode(), id)
	}
}

func TestCompletionOfAnElicitationReachesTheClientThatGotItFromASharedServer(t *testing.T) {
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one"), stdio(t, "two")}, untraced: true})
	ann, bob := r.connectWith(initializeWithURLElicitation), r.connectWith(initializeWithURLElicitation)
	eve := r.connectWith(initializeWithURLElicitation)
	streams := map[string]*reader{"ann": ann.listen(), "bob": bob.listen(), "eve": eve.listen()}
	ann.callSendingElicitation("one", "e1")
	bob.callRequiringElicitations("one", "e2")
	ann.callRequiringElicitations("two", "e2")
	ann.callRequiringElicitations("one", "both")
	bob.callRequiringElicitations("one", "both")

	eve.completeElicitation("one", "notifyLater", "e1")
	streams["ann"].expectCompletion("e1")
	eve.completeElicitation("one", "notify", "e2-") // eve's is the only call, but the elicitation is bob's
	streams["bob"].expectCompletion("e2-")
	eve.completeElicitation("one", "notify", "e2")
	streams["bob"].expectCompletion("e2")
	eve.completeElicitation("two", "notify", "e2") // the same id of another server is another elicitation
	streams["ann"].expectCompletion("e2")
	eve.completeElicitation("one", "notify", "both")
	streams["ann"].expectCompletion("both")
	streams["bob"].expectCompletion("both")

	if p := bob.send(http.MethodDelete, "", "Mcp-Session-Id: "+bob.token); p.status != http.StatusNoContent {
		t.Fatalf("DELETE: %d", p.status)
	}
	if p := r.sendModern("tools/call", `"name":"one__fail","arguments":{"error":`+fmt.Sprintf(urlElicitationRequired, "new", "new")+`}`,
		"Mcp-Name: one__fail"); !strings.Contains(p.body, `"code":-32603`) {
		t.Errorf("a modern client got %s", p.body)
	}
	before := r.dropped("ambiguous")
	for _, id := range []string{"unknown", "e1", "new"} { // e1 is complete already, and new belongs to a modern client
		eve.completeElicitation("one", "notify", id)
	}
	eve.completeElicitation("two", "notify", "both-") // server two did not issue this id
	eve.completeElicitation("one", "notify", "both-") // bob's session has ended
	streams["ann"].expectCompletion("both-")
	hubtest.Eventually(t, "completions without a recipient are counted", func() bool { return r.dropped("ambiguous") == before+4 })
	for name, s := range streams {
		if name != "bob" && len(s.events) != 0 {
			t.Errorf("%s also received %s", name, (<-s.events).Encode())
		}
	}
}

func TestClientWithoutURLElicitationGetsNoCompletion(t *testing.T) {
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one")}})
	c := r.connect()
	got := string(c.tool("one__request", `{"method":"elicitation/create","params":{"mode":"url","elicitationId":"e1"}}`))
	if !strings.Contains(got, "refused") {
		t.Errorf("the server got %s", got)
	}
	c.completeElicitation("one", "notify", "e1")
	hubtest.Eventually(t, "the completion is counted", func() bool { return r.dropped("ambiguous") == 1 })
}

func TestCompletionOfAnElicitationReachesTheClientOfAnIsolatedServer(t *testing.T) {
	own := stdio(t, "own")
	own.Isolation = upstream.PerSession
	r := start(t, setup{specs: []upstream.Spec{own, newTaskServer(t, "web", "").spec()}, untraced: true})
	ann, bob := r.connectWith(initializeWithURLElicitation), r.connectWith(initializeWithURLElicitation)
	getStream, otherStream := ann.listen(), bob.listen()
	bob.callRequiringElicitations("own", "same")
	ann.callRequiringElicitations("own", "same")
	ann.completeElicitation("own", "notifyLater", "same")
	getStream.expectCompletion("same")

	p := ann.call("1", "tools/call", `{"name":"web__plain","arguments":{"login":true}}`)
	if e := p.rpcError(t); e.Code != protocol.CodeURLElicitationRequired {
		t.Errorf("refused with %v", e)
	}
	if len(p.events) < 2 { // it was not sent during the call
		p.events = append(p.events, getStream.message())
	}
	if m := p.events[0]; m.Method != "notifications/elicitation/complete" {
		t.Errorf("received %s", m.Encode())
	}
	if len(otherStream.events) != 0 {
		t.Error("another client received it")
	}
}

func TestElicitationsAreRememberedInLimitedNumberAndTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var e elicitations
		e.add("one", "first", "", strings.Repeat("x", maxElicitationID+1))
		if e.take("one", "") || e.take("one", strings.Repeat("x", maxElicitationID+1)) || len(e.open) != 1 {
			t.Errorf("%d are remembered", len(e.open))
		}
		for i := range maxElicitations {
			e.add("one", fmt.Sprint(i), fmt.Sprint(i)) // the same id twice counts once
		}
		if len(e.open) != maxElicitations || e.take("one", "first") || !e.take("one", "0") || e.take("one", "0") || e.take("two", "1") {
			t.Errorf("%d are remembered", len(e.open))
		}
		time.Sleep(elicitationTime - time.Second)
		e.add("one", "2", "late")
		time.Sleep(time.Second)
		if e.take("one", "1") || !e.take("one", "2") || !e.take("one", "late") {
			t.Error("the wrong ids are forgotten")
		}
	})
}
