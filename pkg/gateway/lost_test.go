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

func TestAListenerHearsWhatItMissed(t *testing.T) {
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one")}})
	c := r.connect()
	other := c.listen()
	s := c.listen()
	begun := s.beginning()
	c.lose(other, "get_sse")
	hear := func(s *reader, want string) {
		t.Helper()
		if m := s.message(); m.Method != want {
			t.Errorf("heard %s, want %s", m.Encode(), want)
		}
	}
	r.gateway.ListChanged([]catalog.Kind{catalog.Tools})
	hear(s, "notifications/tools/list_changed")
	c.lose(s, "get_sse")
	r.gateway.ListChanged([]catalog.Kind{catalog.Prompts})
	r.gateway.ListChanged([]catalog.Kind{catalog.Resources})
	if got := r.dropped("no_stream"); got != 0 {
		t.Errorf("%v notifications were dropped", got)
	}
	if _, err := c.live().Ask(t.Context(), jsonMessage("custom/ask", `{}`)); err == nil || !strings.Contains(err.Error(), "it has no stream open") {
		t.Errorf("a question of no call: %v", err) // would wait for somebody who may never come
	}
	again := c.resume(s.last)
	hear(again, "notifications/prompts/list_changed")
	hear(again, "notifications/resources/list_changed")
	r.gateway.ListChanged([]catalog.Kind{catalog.Tools})
	hear(again, "notifications/tools/list_changed")
	if len(again.events) != 0 {
		t.Error("something was heard twice")
	}
	// A client that has forgotten where it was begins anew.
	unknown := "ABCDEFGH" + begun[stream.EpochLength:]
	if e, _ := c.resume(unknown).any(); e.comment != "stream of session "+c.id {
		t.Errorf("an unknown stream begins with %+v", e)
	}
}

func TestOnlySoManyLostListenersAreRemembered(t *testing.T) {
	r := start(t, setup{})
	c := r.connect()
	for range 3 * stream.MaxStreams {
		s := c.listen()
		s.beginning()
		c.lose(s, "get_sse")
	}
	until(t, "the last is detached", func() bool { return !c.live().streamLog().HasReader() })
	if gets, resumable := c.live().streamLog().Size(); gets != stream.MaxStreams || resumable != stream.MaxStreams {
		t.Errorf("%d streams are remembered", gets)
	}
}

func TestARestartLeavesNoRequestWithoutAnAnswer(t *testing.T) {
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
	begun := s.beginning()
	c.lose(s, "post_sse")
	r.stop()

	r = open()
	c = &peer{rig: r, token: c.token, id: c.id}
	again := c.resume(begun)
	m := again.message()
	if want := `{"code":-32603,"message":"the outcome of the request is not known: the hub was restarted, or what it kept is gone"}`; string(m.Error) != want || string(m.ID) != `"a.b\u00e9"` {
		t.Errorf("the answer is %s", m.Encode())
	}
	again.ended()
	next := c.gated("1", 0)
	if strings.HasPrefix(next.beginning(), begun[:stream.EpochLength]) {
		t.Error("the ids of events may come again")
	}
	c.steps(1)
	next.answered("1")
}

func TestWhatWasLostForTooLongIsForgotten(t *testing.T) {
	never := upstream.Spec{Name: "never", Command: "never"} // lists wait for it
	inBubble(t, setup{specs: []upstream.Spec{never}}, func(t *testing.T, r *rig, _ *pipes) {
		c := r.connect()
		s := c.open(http.MethodPost, request("1", "tools/list", `{}`))
		begun := s.beginning()
		s.cancel()
		time.Sleep(5*time.Minute + 4*time.Second) // the answer came after five seconds
		synctest.Wait()
		again := c.resume(begun)
		again.answered("1")
		time.Sleep(5*time.Minute + time.Second)
		synctest.Wait()
		if got := r.metric("mcphub_stream_log_bytes"); got != 0 {
			t.Errorf("%v bytes are kept", got)
		}
		again = c.resume(begun)
		if m := again.message(); !strings.Contains(string(m.Error), "not known") {
			t.Errorf("the answer is %s", m.Encode())
		}
		again.ended()
	})
}

func TestOlderClientsGetIDsButNoEmptyEvents(t *testing.T) {
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one")}})
	for _, version := range []string{"2025-06-18", "2025-03-26", "2024-11-05"} {
		c := r.connectWith(strings.Replace(initializeBody, "2025-11-25", version, 1))
		s := c.gated("1", 2)
		if e, _ := s.any(); e.comment != "keep-alive" {
			t.Errorf("%s: the stream begins with %+v", version, e)
		}
		c.steps(1)
		s.progresses("1", 1, 1)
		c.lose(s, "post_sse")
		c.steps(2)
		again := c.resume(s.last)
		again.progresses("1", 2, 2)
		again.answered("1")
		listening := c.listen()
		r.gateway.ListChanged([]catalog.Kind{catalog.Tools})
		if listening.message(); listening.last == "" {
			t.Errorf("%s: an event has no id", version)
		}
		if len(s.primed)+len(again.primed)+len(listening.primed) > 0 {
			t.Errorf("%s: there is an event without a message", version)
		}
		// Without an id nobody can come back, and nothing waits for them.
		deaf := c.listen()
		c.lose(listening, "get_sse")
		c.lose(deaf, "get_sse")
		until(t, "only the one that knows an id is remembered", func() bool {
			gets, _ := c.live().streamLog().Size()
			return gets == 1
		})
	}
}

func TestALongRequestIDMakesNoEventIDs(t *testing.T) {
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one")}})
	c := r.connect()
	id := `"` + strings.Repeat("x", stream.MaxEventRequests) + `"`
	p := c.call(id, "tools/call", `{"name":"one__work","arguments":{"steps":2},"_meta":{"progressToken":1}}`)
	if len(p.events) != 3 || p.primed != "" || strings.Join(p.ids, "") != "" || string(p.answer(t).ID) != id {
		t.Errorf("answered with %q", p.body)
	}
}

func TestDeleteAnswersACallThatWaitsForTheClient(t *testing.T) {
	web := newWeb(t)
	r := start(t, setup{specs: []upstream.Spec{web.spec("web"), stdio(t, "one")}})
	c := r.connect()
	first := c.open(http.MethodPost, request("1", "tools/call", `{"name":"web__elicit"}`))
	begun := first.beginning()
	first.message()
	resumed := c.resume(begun)
	resumed.message()
	second := c.open(http.MethodPost, request("2", "tools/call", `{"name":"web__elicit"}`))
	second.message()
	lost := c.gated("3", 1)
	lost.beginning()
	c.lose(lost, "post_sse")
	listening := c.listen()
	began := time.Now()
	if p := c.send(http.MethodDelete, "", "Mcp-Session-Id: "+c.token); p.status != http.StatusNoContent {
		t.Errorf("DELETE: %d", p.status)
	}
	for _, s := range []*reader{resumed, second} {
		if m := s.message(); !strings.Contains(string(m.Encode()), "the session has ended: client_delete") { // the server may say it first
			t.Errorf("the call was answered with %s", m.Encode())
		}
		s.ended()
	}
	listening.ended()
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("it took %s", took)
	}
	if got := r.metric("mcphub_stream_log_bytes"); got != 0 {
		t.Errorf("%v bytes are kept", got)
	}
}

func TestAHubThatDrainsSaysWhenToComeBack(t *testing.T) {
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
