package admin_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcphub-go/mcphub/pkg/admin"
	"github.com/mcphub-go/mcphub/pkg/hubtest"
	"github.com/mcphub-go/mcphub/pkg/persist"
	"github.com/mcphub-go/mcphub/pkg/session"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

func messagesOf(id, query string) string { return "/api/v1/sessions/" + id + "/messages" + query }

// tail opens a stream of messages. It returns when the hub follows the session.
func (r *rig) tail(id, query string) *watcher {
	r.t.Helper()
	w := r.stream(messagesOf(id, query))
	if w.status == http.StatusOK {
		if first := w.next(); first != ": session messages" {
			r.t.Errorf("the stream begins with %q", first)
		}
	}
	return w
}

// message returns the next message, which must be well formed.
func (w *watcher) message() session.Message {
	w.t.Helper()
	block := w.next()
	lines := strings.Split(block, "\n")
	var m session.Message
	if len(lines) != 3 || json.Unmarshal([]byte(strings.TrimPrefix(lines[2], "data: ")), &m) != nil ||
		lines[0] != fmt.Sprintf("id: %d", m.Seq) || lines[1] != "event: message" || m.Time.IsZero() {
		w.t.Errorf("not a message: %q", block)
	}
	return m
}

func TestMessagesOfASessionAreStreamed(t *testing.T) {
	r := start(t)
	s, _ := r.session(session.Session{})
	other, _ := r.session(session.Session{})
	all, calls, failures := r.tail(s.ID, ""), r.tail(s.ID, "?method=tools/call&payload=false"), r.tail(s.ID, "?errors=true")
	if h := all.header; h.Get("Content-Type") != "text/event-stream" || h.Get("X-Accel-Buffering") != "no" ||
		h.Get("Cache-Control") != "no-store" {
		t.Errorf("answered with %v", all.header)
	}
	secret := []byte(`{"text":"canary"}`)
	r.sessions.PublishMessage(session.Message{SessionID: other.ID, Method: "other"}, secret)
	r.sessions.PublishMessage(session.Message{SessionID: s.ID, Method: "ping", ID: json.RawMessage(`"two\nlines"`), Kind: "request"}, secret)
	r.sessions.PublishMessage(session.Message{SessionID: s.ID, Method: "tools/call", Outcome: "ok"}, secret)
	r.sessions.PublishMessage(session.Message{SessionID: s.ID, Method: "tools/call", Outcome: "tool_error"}, secret)
	for i, want := range []string{"ping ", "tools/call ok", "tools/call tool_error"} {
		if m := all.message(); m.Method+" "+m.Outcome != want || m.Seq != int64(i+1) || m.SessionID != s.ID || m.Payload != nil {
			t.Errorf("message %d is %+v, want %s", i, m, want)
		}
	}
	if a, b := calls.message(), calls.message(); a.Outcome != "ok" || b.Outcome != "tool_error" {
		t.Errorf("of the method were streamed %+v and %+v", a, b)
	}
	if m := failures.message(); m.Outcome != "tool_error" {
		t.Errorf("of failures was streamed %+v", m)
	}
	r.do(http.MethodDelete, "/api/v1/sessions/"+s.ID)
	for _, w := range []*watcher{all, calls, failures} {
		if end := w.next(); end != "event: end\ndata: {\"reason\":\"admin\"}" {
			t.Errorf("the stream ends with %q", end)
		}
		if block, open := <-w.blocks; open {
			t.Errorf("after its end comes %q", block)
		}
	}
	if strings.Contains(r.logs.String(), "canary") {
		t.Error("the log has what a message carried")
	}
}

func TestPayloadsNeedTheConfiguration(t *testing.T) {
	r := start(t)
	s, _ := r.session(session.Session{})
	p := r.do(http.MethodGet, messagesOf(s.ID, "?payload=true"))
	if p.status != http.StatusForbidden || !strings.Contains(p.body, "admin.payloads: true") || r.sessions.HasTails() {
		t.Errorf("%d %s", p.status, p.body)
	}
	allowed := startWith(t, func(cfg *admin.Config) { cfg.Payloads = true })
	s, token := allowed.session(session.Session{})
	with, without := allowed.tail(s.ID, "?payload=true"), allowed.tail(s.ID, "")
	_, verifier, _ := strings.Cut(token, ".")
	allowed.sessions.PublishMessage(session.Message{SessionID: s.ID}, []byte(`{"text":"shown <b>","password":"canary","note":"`+verifier+`"}`))
	if m := with.message(); string(m.Payload) != `{"text":"shown \u003cb\u003e","password":"[redacted]","note":"[redacted]"}` || m.PayloadCut {
		t.Errorf("shown is %s", m.Payload)
	}
	if m := without.message(); m.Payload != nil {
		t.Errorf("the stream without payloads has %s", m.Payload)
	}
	allowed.sessions.PublishMessage(session.Message{SessionID: s.ID}, []byte(`["`+strings.Repeat("long ", 1<<20)+`"]`))
	if m := with.message(); !m.PayloadCut || len(m.Payload) > 16<<10 || !strings.Contains(string(m.Payload), "[cut, ") {
		t.Errorf("%d bytes are shown: %.100s", len(m.Payload), m.Payload)
	}
}

func TestMessageStreamsAreLogged(t *testing.T) {
	r := startWith(t, func(cfg *admin.Config) { cfg.Payloads = true })
	s, _ := r.session(session.Session{})
	w := r.tail(s.ID, "?payload=1")
	r.sessions.PublishMessage(session.Message{SessionID: s.ID}, nil)
	w.message()
	w.cancel()
	hubtest.Eventually(t, "the end is logged", func() bool { return strings.Contains(r.logs.String(), "not followed any more") })
	lines := strings.Split(strings.TrimSpace(r.logs.String()), "\n")
	for i, want := range []map[string]any{
		{"msg": "somebody follows the messages of a session", "payloads": true, "session": s.ID},
		{"msg": "the messages of a session " +
			"are not followed any more", "payloads": true, "session": s.ID, "messages": 1.0, "lost": 0.0, "why": "the reader is gone"},
	} {
		var got map[string]any
		if err := json.Unmarshal([]byte(lines[len(lines)-2+i]), &got); err != nil {
			t.Fatal(err)
		}
		remote, _ := got["remote"].(string)
		if host, _, err := net.SplitHostPort(remote); err != nil || host != "127.0.0.1" || got["level"] != "INFO" {
			t.Errorf("logged was %v", got)
		}
		for k, v := range want {
			if got[k] != v {
				t.Errorf("%s is %v, want %v", k, got[k], v)
			}
		}
	}
	if r.sessions.HasTails() {
		t.Error("the session is still followed")
	}
}

func TestEndOfTheHubIsNotLoggedAsTheEndOfTheSession(t *testing.T) {
	r := startWith(t, func(*admin.Config) {})
	s, _ := r.session(session.Session{})
	r.tail(s.ID, "")
	if err := r.sessions.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	hubtest.Eventually(t, "the end is logged", func() bool { return strings.Contains(r.logs.String(), "not followed any more") })
	if log := r.logs.String(); !strings.Contains(log, `"why":"the hub stops"`) {
		t.Errorf("logged was %s", log)
	}
}

func TestInvalidMessageStreamsAreRefusedWithAReason(t *testing.T) {
	r := start(t)
	s, token := r.session(session.Session{})
	for path, status := range map[string]int{
		messagesOf("none", ""): 404, messagesOf(token, ""): 404, messagesOf("%2e%2e%2fx", ""): 404, messagesOf(strings.Repeat("a", 300), ""): 404,
		messagesOf(s.ID, "?payload=maybe"): 400, messagesOf(s.ID, "?errors=maybe"): 400,
	} {
		var problem struct{ Error string }
		if p := r.get(path, &problem); p.status != status || problem.Error == "" {
			t.Errorf("%.80s: %d %s", path, p.status, p.body)
		}
	}
	for range 40 { // more than may follow
		if p := r.do(http.MethodHead, messagesOf(s.ID, "")); p.status != http.StatusOK || p.header.Get("Content-Type") != "text/event-stream" {
			t.Fatalf("HEAD: %d %v", p.status, p.header)
		}
	}
	if p := r.do(http.MethodHead, messagesOf("none", "")); p.status != http.StatusNotFound {
		t.Errorf("HEAD of an unknown session: %d", p.status)
	}
	if p := r.do(http.MethodGet, messagesOf(s.ID, ""), "Origin: http://evil.example"); p.status != http.StatusForbidden {
		t.Errorf("another site: %d", p.status)
	}
	if r.sessions.HasTails() {
		t.Error("a refusal follows the session")
	}
}

func TestOneTailTooManyEndsTheOldest(t *testing.T) {
	r := start(t)
	s, _ := r.session(session.Session{})
	var tails []*watcher
	for range 17 {
		tails = append(tails, r.tail(s.ID, ""))
	}
	if last := tails[0].next(); last != "event: end\ndata: {\"reason\":\"displaced\"}" {
		t.Errorf("the oldest tail goes on with %q", last)
	}
	r.sessions.PublishMessage(session.Message{SessionID: s.ID, Method: "ping"}, nil)
	for _, w := range tails[1:] {
		if w.status != http.StatusOK || w.message().Method != "ping" {
			t.Errorf("a tail was answered %d", w.status)
		}
	}
	if n := r.metric("mcphub_admin_displaced_total", "messages"); n != 1 {
		t.Errorf("%v tails were counted as ended", n)
	}
	if !strings.Contains(r.logs.String(), "a request of the admin listener was ended for a newer one") {
		t.Errorf("the log does not say so:\n%s", &r.logs)
	}
	if w := r.watch(""); w.status != http.StatusOK {
		t.Errorf("no room for those who watch events: %d", w.status)
	}
}

// tailedInBubble runs a stream of messages in virtual time.
func tailedInBubble(t *testing.T, test func(t *testing.T, m *session.Manager, id string, here net.Conn, ended <-chan struct{})) {
	synctest.Test(t, func(t *testing.T) {
		m := session.New(&persist.Memory{}, session.Config{})
		s, _, err := m.Create(t.Context(), session.Session{})
		if err != nil {
			t.Fatal(err)
		}
		handler := admin.New(admin.Config{Sessions: m, Pool: upstream.NewPool(nil, upstream.Config{})})
		here, there := net.Pipe()
		ended := make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		var serving sync.WaitGroup
		serving.Go(func() {
			defer close(ended)
			defer func() { _ = there.Close() }()
			handler.ServeHTTP(wire{there, http.Header{}}, httptest.NewRequestWithContext(ctx, http.MethodGet, messagesOf(s.ID, ""), nil))
		})
		defer serving.Wait()
		defer cancel()
		defer func() { _ = here.Close() }()
		test(t, m, s.ID, here, ended)
	})
}

func TestMessageStreamSendsKeepAlivesAndEndsWithTheHub(t *testing.T) {
	tailedInBubble(t, func(t *testing.T, m *session.Manager, _ string, here net.Conn, ended <-chan struct{}) {
		blocks := make(chan string, 64)
		go read(bufio.NewReader(here), blocks)
		time.Sleep(31 * time.Second)
		if err := m.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		var got []string
		for len(blocks) > 0 {
			got = append(got, <-blocks)
		}
		if len(got) != 4 || got[1] != ": keep-alive" || got[2] != ": keep-alive" || got[3] != "event: end\ndata: {\"reason\":\"shutdown\"}" ||
			!isClosed(ended) {
			t.Errorf("received %q", got)
		}
	})
}

func TestMessageStreamReportsLostMessages(t *testing.T) {
	tailedInBubble(t, func(t *testing.T, m *session.Manager, id string, here net.Conn, _ <-chan struct{}) {
		synctest.Wait() // until the handler blocks in its first write
		const messages = 1000
		begun := time.Now()
		for range messages {
			m.PublishMessage(session.Message{SessionID: id}, nil)
		}
		if took := time.Since(begun); took != 0 {
			t.Errorf("the reader held up the hub for %s", took)
		}
		blocks := make(chan string, 2*messages)
		go read(bufio.NewReader(here), blocks)
		synctest.Wait()
		seen, lost := 0, 0
		for len(blocks) > 0 {
			n := 0
			switch block := <-blocks; {
			case strings.HasPrefix(block, "id: "):
				seen++
			case strings.HasPrefix(block, "event: lost\n"):
				if _, err := fmt.Sscanf(block, "event: lost\ndata: {\"count\":%d}", &n); err != nil || n == 0 {
					t.Errorf("the report of a gap is %q", block)
				}
				lost += n
			}
		}
		if lost == 0 || seen+lost != messages || seen < 256 {
			t.Errorf("received %d messages, reported as lost %d, of %d", seen, lost, messages)
		}
	})
}

func TestMessageStreamEndsIfNobodyReadsIt(t *testing.T) {
	tailedInBubble(t, func(t *testing.T, m *session.Manager, _ string, _ net.Conn, ended <-chan struct{}) {
		time.Sleep(11 * time.Second)
		if !isClosed(ended) || m.HasTails() {
			t.Error("it still holds its place")
		}
	})
}
