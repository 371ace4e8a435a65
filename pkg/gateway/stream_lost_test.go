package gateway

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcphub-go/mcphub/pkg/catalog"
	"github.com/mcphub-go/mcphub/pkg/gateway/stream"
	"github.com/mcphub-go/mcphub/pkg/persist"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

func TestResumedGETStreamGetsTheMissedMessages(t *testing.T) {
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one")}})
	c := r.connect()
	other := c.listen()
	s := c.listen()
	firstID := s.firstEventID()
	c.disconnect(other, "get_sse")
	expect := func(s *reader, want string) {
		t.Helper()
		if m := s.message(); m.Method != want {
			t.Errorf("received %s, want %s", m.Encode(), want)
		}
	}
	r.gateway.ListChanged([]catalog.Kind{catalog.Tools})
	expect(s, "notifications/tools/list_changed")
	c.disconnect(s, "get_sse")
	r.gateway.ListChanged([]catalog.Kind{catalog.Prompts})
	r.gateway.ListChanged([]catalog.Kind{catalog.Resources})
	if got := r.dropped("no_stream"); got != 0 {
		t.Errorf("%v notifications were dropped", got)
	}
	if _, err := c.live().Ask(t.Context(), jsonMessage("custom/ask", `{}`)); err == nil ||
		!strings.Contains(err.Error(), "it has no stream open") {
		t.Errorf("a server request outside of a call: %v", err) // it would wait for a client that may never resume
	}
	again := c.resume(s.last)
	expect(again, "notifications/prompts/list_changed")
	expect(again, "notifications/resources/list_changed")
	r.gateway.ListChanged([]catalog.Kind{catalog.Tools})
	expect(again, "notifications/tools/list_changed")
	if len(again.events) != 0 {
		t.Error("a message was sent twice")
	}
	// A client with an unknown event id gets a new stream.
	unknown := "ABCDEFGH" + firstID[stream.EpochLength:]
	if e, _ := c.resume(unknown).next(); e.comment != "stream of session "+c.id {
		t.Errorf("an unknown stream begins with %+v", e)
	}
}

func TestLostGETStreamsAreLimited(t *testing.T) {
	r := start(t, setup{})
	c := r.connect()
	var ids []string
	for range 3 * stream.MaxStreams {
		s := c.listen()
		ids = append(ids, s.firstEventID())
		c.disconnect(s, "get_sse")
	}
	forgotten, kept := ids[:2*stream.MaxStreams], ids[2*stream.MaxStreams:]
	for i, id := range kept {
		s := c.resume(id)
		if e, _ := s.next(); e.comment != "resumed" {
			t.Errorf("lost stream %d of the newest %d: %+v", i, stream.MaxStreams, e)
		}
		c.disconnect(s, "get_sse")
	}
	if e, _ := c.resume(forgotten[len(forgotten)-1]).next(); e.comment != "stream of session "+c.id {
		t.Errorf("a lost stream beyond the limit: %+v", e)
	}
}

func TestRestartLeavesNoRequestWithoutAResponse(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "sessions")
	open := func() *rig {
		store, err := persist.OpenDir(dir, persist.DirConfig{})
		if err != nil {
			t.Fatal(err)
		}
		return start(t, setup{store: store, specs: []upstream.Spec{stdio(t, "one")}})
	}
	r := open()
	c := r.connect()
	s := c.gated(`"a.b\u00e9"`, 1)
	firstID := s.firstEventID()
	c.disconnect(s, "post_sse")
	r.stop()

	r = open()
	c = &peer{rig: r, token: c.token, id: c.id}
	again := c.resume(firstID)
	m := again.message()
	if want := `{"code":-32603,"message":"the outcome of the request is not known: the hub was restarted,` +
		` or what it kept is gone"}`; string(m.Error) != want || string(m.ID) != `"a.b\u00e9"` {
		t.Errorf("the answer is %s", m.Encode())
	}
	again.waitForEnd()
	next := c.gated("1", 0)
	if strings.HasPrefix(next.firstEventID(), firstID[:stream.EpochLength]) {
		t.Error("event ids may be issued again")
	}
	c.steps(1)
	next.expectResult("1")
}

func TestLostStreamIsForgottenAfterTheWindow(t *testing.T) {
	never := upstream.Spec{Name: "never", Command: "never"} // requests for lists wait for it
	inBubble(t, setup{specs: []upstream.Spec{never}}, func(t *testing.T, r *rig, _ *pipes) {
		c := r.restored()
		s := c.open(http.MethodPost, request("1", "tools/list", `{}`))
		firstID := s.firstEventID()
		s.cancel()
		time.Sleep(5*time.Minute + 4*time.Second) // the response came after five seconds
		synctest.Wait()
		again := c.resume(firstID)
		again.expectResult("1")
		time.Sleep(5*time.Minute + time.Second)
		synctest.Wait()
		if got := r.metric("mcphub_stream_log_bytes"); got != 0 {
			t.Errorf("%v bytes are kept", got)
		}
		again = c.resume(firstID)
		if m := again.message(); !strings.Contains(string(m.Error), "not known") {
			t.Errorf("the answer is %s", m.Encode())
		}
		again.waitForEnd()
	})
}

func TestOlderClientsGetEventIDsButNoEmptyEvents(t *testing.T) {
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one")}})
	for _, version := range []string{"2025-06-18", "2025-03-26", "2024-11-05"} {
		c := r.connectWith(strings.Replace(initializeBody, "2025-11-25", version, 1))
		s := c.gated("1", 2)
		if e, _ := s.next(); e.comment != "keep-alive" {
			t.Errorf("%s: the stream begins with %+v", version, e)
		}
		c.steps(1)
		s.expectProgress("1", 1, 1)
		c.disconnect(s, "post_sse")
		c.steps(2)
		again := c.resume(s.last)
		again.expectProgress("1", 2, 2)
		again.expectResult("1")
		listening := c.listen()
		r.gateway.ListChanged([]catalog.Kind{catalog.Tools})
		if listening.message(); listening.last == "" {
			t.Errorf("%s: an event has no id", version)
		}
		if len(s.primed)+len(again.primed)+len(listening.primed) > 0 {
			t.Errorf("%s: there is an event without a message", version)
		}
	}
}

func TestLongRequestIDMakesNoEventIDs(t *testing.T) {
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one")}})
	c := r.connect()
	id := `"` + strings.Repeat("x", 128) + `"` // the limit of the request ids in an event id
	p := c.call(id, "tools/call", `{"name":"one__work","arguments":{"steps":2},"_meta":{"progressToken":1}}`)
	if len(p.events) != 3 || p.primed != "" || strings.Join(p.ids, "") != "" || string(p.response(t).ID) != id {
		t.Errorf("answered with %q", p.body)
	}
}

func TestDeleteAnswersACallThatWaitsForTheClient(t *testing.T) {
	web := newWeb(t)
	r := start(t, setup{specs: []upstream.Spec{web.spec("web"), stdio(t, "one")}})
	c := r.connect()
	first := c.open(http.MethodPost, request("1", "tools/call", `{"name":"web__elicit"}`))
	firstID := first.firstEventID()
	first.message()
	resumed := c.resume(firstID)
	resumed.message()
	second := c.open(http.MethodPost, request("2", "tools/call", `{"name":"web__elicit"}`))
	second.message()
	lost := c.gated("3", 1)
	lost.firstEventID()
	c.disconnect(lost, "post_sse")
	listening := c.listen()
	began := time.Now()
	if p := c.send(http.MethodDelete, "", "Mcp-Session-Id: "+c.token); p.status != http.StatusNoContent {
		t.Errorf("DELETE: %d", p.status)
	}
	for _, s := range []*reader{resumed, second} {
		if m := s.message(); !strings.Contains(string(m.Encode()), "the session has ended: client_delete") { // the server may answer first
			t.Errorf("the call was answered with %s", m.Encode())
		}
		s.waitForEnd()
	}
	listening.waitForEnd()
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("the request took %s", took)
	}
	if got := r.metric("mcphub_stream_log_bytes"); got != 0 {
		t.Errorf("%v bytes are kept", got)
	}
}

func TestDrainTellsClientsWhenToReconnect(t *testing.T) {
	r := start(t, setup{})
	for version, want := range map[string]bool{"2025-11-25": true, "2025-06-18": false} {
		s := r.connectWith(strings.Replace(initializeBody, "2025-11-25", version, 1)).listen()
		defer func() {
			last := ""
			for e := range s.events {
				last = e.comment
			}
			if (last == "retry 1000") != want {
				t.Errorf("%s: the stream ends with %q", version, last)
			}
		}()
	}
	r.gateway.Drain()
}
