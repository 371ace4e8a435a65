package gateway

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcphub-go/mcphub/pkg/protocol"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

const (
	opensPages = `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25",` +
		`"capabilities":{"elicitation":{"url":{}},"sampling":{}},"clientInfo":{"name":"probe","version":"1"}}}`
	loginFirst = `{"code":-32042,"message":"First this.","data":{"elicitations":[{"mode":"url","elicitationId":"%s-","url":"https://x.test"},` +
		`{"mode":"url","elicitationId":"%s","url":"https://x.test","n":1.50}]}}`
)

// mustLogin calls a tool of the server that wants two pages opened first.
func (c *peer) mustLogin(server, id string) {
	c.t.Helper()
	refusal := fmt.Sprintf(loginFirst, id, id)
	if m := c.call("1", "tools/call", `{"name":"`+server+`__fail","arguments":{"error":`+refusal+`}}`).answer(c.t); string(m.Error) != refusal {
		c.t.Errorf("the refusal came as %s", m.Error)
	}
}

// mustOpen calls a tool of the server that asks for a page to be opened.
func (c *peer) mustOpen(server, id string) {
	c.t.Helper()
	question := `{"mode":"url","elicitationId":"` + id + `","url":"https://x.test","message":"m", "n":1.50}`
	s := c.open(http.MethodPost, request("1", "tools/call", `{"name":"`+server+`__ask","arguments":{"method":"elicitation/create","params":`+question+`}}`))
	m := s.message()
	if string(m.Params) != question {
		c.t.Errorf("asked %s", m.Encode())
	}
	c.answers(m, `"result":{"action":"accept"}`)
	if m := s.message(); string(m.Result) != `{"content":[],"answer":{"action":"accept"}}` {
		c.t.Errorf("the server got %s", m.Encode())
	}
}

// completes has the server say that an elicitation is complete, during a call
// of c ("say") or when there is none ("sayLater").
func (c *peer) completes(server, tool, id string) {
	c.t.Helper()
	p := c.call("1", "tools/call", `{"name":"`+server+`__`+tool+`","arguments":{"method":"notifications/elicitation/complete","params":{"elicitationId":"`+id+`"}}}`)
	if m := p.answer(c.t); len(p.events) > 1 || m.Error != nil {
		c.t.Errorf("the call that has nothing to do with it brought %s", p.body)
	}
}

func (s *reader) completed(id string) {
	s.t.Helper()
	if m := s.message(); m.Method != "notifications/elicitation/complete" || string(m.Params) != `{"elicitationId":"`+id+`"}` {
		s.t.Errorf("heard %s, want the end of %s", m.Encode(), id)
	}
}

func TestTheEndOfAnElicitationReachesTheClientOfASharedServerThatWasAsked(t *testing.T) {
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one"), stdio(t, "two")}, untraced: true})
	ann, bob, eve := r.connectWith(opensPages), r.connectWith(opensPages), r.connectWith(opensPages)
	hears := map[string]*reader{"ann": ann.listen(), "bob": bob.listen(), "eve": eve.listen()}
	ann.mustOpen("one", "e1")
	bob.mustLogin("one", "e2")
	ann.mustLogin("two", "e2")
	ann.mustLogin("one", "both")
	bob.mustLogin("one", "both")

	eve.completes("one", "sayLater", "e1")
	hears["ann"].completed("e1")
	eve.completes("one", "say", "e2-") // there is no other call, but this is not about hers
	hears["bob"].completed("e2-")
	eve.completes("one", "say", "e2")
	hears["bob"].completed("e2")
	eve.completes("two", "say", "e2") // the same id of another server is another one
	hears["ann"].completed("e2")
	eve.completes("one", "say", "both")
	hears["ann"].completed("both")
	hears["bob"].completed("both")

	if p := bob.send(http.MethodDelete, "", "Mcp-Session-Id: "+bob.token); p.status != http.StatusNoContent {
		t.Fatalf("DELETE: %d", p.status)
	}
	if p := r.modernly("tools/call", `"name":"one__fail","arguments":{"error":`+fmt.Sprintf(loginFirst, "new", "new")+`}`, "Mcp-Name: one__fail"); !strings.Contains(p.body, `"code":-32603`) {
		t.Errorf("a modern client got %s", p.body)
	}
	before := r.dropped("ambiguous")
	for _, id := range []string{"unknown", "e1", "new"} { // e1 is complete already, and new is a modern client's
		eve.completes("one", "say", id)
	}
	eve.completes("two", "say", "both-") // which is not its own
	eve.completes("one", "say", "both-") // ann's alone by now
	hears["ann"].completed("both-")
	until(t, "what is for nobody is counted", func() bool { return r.dropped("ambiguous") == before+4 })
	for name, s := range hears {
		if name != "bob" && len(s.events) != 0 {
			t.Errorf("%s hears of more: %s", name, (<-s.events).Encode())
		}
	}
}

func TestAClientThatCannotOpenPagesHearsNothingOfThem(t *testing.T) {
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one")}})
	c := r.connect()
	if got := string(c.tool("one__ask", `{"method":"elicitation/create","params":{"mode":"url","elicitationId":"e1"}}`)); !strings.Contains(got, "refused") {
		t.Errorf("the server got %s", got)
	}
	c.completes("one", "say", "e1")
	until(t, "the end is counted", func() bool { return r.dropped("ambiguous") == 1 })
}

func TestTheEndOfAnElicitationReachesTheClientOfAServerOfItsOwn(t *testing.T) {
	own := stdio(t, "own")
	own.Isolation = upstream.PerSession
	r := start(t, setup{specs: []upstream.Spec{own, newKeeper(t, "web", "").spec()}, untraced: true})
	ann, bob := r.connectWith(opensPages), r.connectWith(opensPages)
	hears, others := ann.listen(), bob.listen()
	bob.mustLogin("own", "same")
	ann.mustLogin("own", "same")
	ann.completes("own", "sayLater", "same")
	hears.completed("same")

	p := ann.call("1", "tools/call", `{"name":"web__plain","arguments":{"login":true}}`)
	if e := p.failed(t); e.Code != protocol.CodeURLElicitationRequired {
		t.Errorf("refused with %v", e)
	}
	if len(p.events) < 2 { // it did not come during the call
		p.events = append(p.events, hears.message())
	}
	if m := p.events[0]; m.Method != "notifications/elicitation/complete" {
		t.Errorf("heard %s", m.Encode())
	}
	if len(others.events) != 0 {
		t.Error("another client hears of it")
	}
}

func TestElicitationsAreRememberedInBoundedNumberAndTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var e elicitations
		e.add("one", "first", "", strings.Repeat("x", maxElicitationID+1))
		if e.take("one", "") || e.take("one", strings.Repeat("x", maxElicitationID+1)) || len(e.open) != 1 {
			t.Errorf("remembered %d", len(e.open))
		}
		for i := range maxElicitations {
			e.add("one", fmt.Sprint(i), fmt.Sprint(i)) // which counts once
		}
		if len(e.open) != maxElicitations || e.take("one", "first") || !e.take("one", "0") || e.take("one", "0") || e.take("two", "1") {
			t.Errorf("%d are remembered", len(e.open))
		}
		time.Sleep(elicitationTime - time.Second)
		e.add("one", "2", "late")
		time.Sleep(time.Second)
		if e.take("one", "1") || !e.take("one", "2") || !e.take("one", "late") {
			t.Error("the wrong ones are forgotten")
		}
	})
}
