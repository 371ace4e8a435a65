package gateway

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
	"github.com/mcphub-go/mcphub/pkg/session"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

// firstEventID returns the id of the event without message that begins the stream.
func (s *reader) firstEventID() string {
	s.t.Helper()
	select {
	case id := <-s.primed:
		return id
	case <-time.After(patience):
		s.t.Fatal("no event without a message came on the stream")
		return ""
	}
}

// disconnect breaks the connection of the stream, and waits until the hub has noticed.
func (c *peer) disconnect(s *reader, stream string) {
	c.t.Helper()
	active := c.metric("mcphub_streams_active", "stream", stream)
	s.cancel()
	hubtest.Eventually(c.t, "the hub has noticed", func() bool { return c.metric("mcphub_streams_active", "stream", stream) < active })
}

// resume resumes the stream after the event with that id.
func (c *peer) resume(id string) *reader {
	c.t.Helper()
	return c.open(http.MethodGet, "", "Last-Event-ID: "+id)
}

// gated begins a call with a number of steps, each of which waits for the tool gate.
func (c *peer) gated(id string, steps int) *reader {
	c.t.Helper()
	return c.open(http.MethodPost, request(id, "tools/call",
		fmt.Sprintf(`{"name":"one__gated","arguments":{"steps":%d},"_meta":{"progressToken":%s}}`, steps, id)))
}

// steps releases n steps of the gated call.
func (c *peer) steps(n int) { c.tool("one__gate", fmt.Sprintf(`{"steps":%d}`, n)) }

// expectProgress expects the progress of these steps on the stream.
func (s *reader) expectProgress(token string, from, to int) {
	s.t.Helper()
	for i := from; i <= to; i++ {
		if m, want := s.message(), fmt.Sprintf(`{"progressToken":%s,"progress":%d}`, token, i); string(m.Params) != want {
			s.t.Errorf("received %s, want %s", m.Encode(), want)
		}
	}
}

// expectResult expects the result and the end of the stream.
func (s *reader) expectResult(id string) {
	s.t.Helper()
	if m := s.message(); string(m.ID) != id || m.Result == nil {
		s.t.Errorf("the answer is %s", m.Encode())
	}
	s.waitForEnd()
}

func TestBrokenStreamResumesWhereItWasLost(t *testing.T) {
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one")}})
	c := r.connect()
	s := c.gated("1", 6)
	firstID := s.firstEventID()
	c.steps(2)
	s.expectProgress("1", 1, 2)
	c.disconnect(s, "post_sse")
	c.steps(2) // while the client is disconnected
	again := c.resume(s.last)
	again.expectProgress("1", 3, 4)
	c.steps(1) // while the client is connected
	again.expectProgress("1", 5, 5)
	c.disconnect(again, "post_sse")
	c.steps(2) // the last step and the response
	last := c.resume(again.last)
	last.expectProgress("1", 6, 6)
	last.expectResult("1")

	// The stream can be resumed from any event.
	whole := c.resume(firstID)
	whole.expectProgress("1", 1, 6)
	whole.expectResult("1")
	rest := c.resume(firstID[:len(firstID)-1] + "4")
	rest.expectProgress("1", 5, 6)
	rest.expectResult("1")
	c.resume(rest.last[:len(rest.last)-1] + "7").waitForEnd()

	if got := r.metric("mcphub_streams_resumed_total", "stream", "post_sse", "outcome", "replayed"); got != 5 {
		t.Errorf("%v streams were resumed", got)
	}
	hubtest.Eventually(t, "the reasons are counted", func() bool {
		return r.metric("mcphub_streams_closed_total", "stream", "post_sse", "reason", "client")+
			r.metric("mcphub_streams_closed_total", "stream", "post_sse", "reason", "answered") == 6
	})
	if got := r.metric("mcphub_stream_log_bytes"); got < 300 {
		t.Errorf("%v bytes are kept", got)
	}
	if events := c.events(); !slices.Contains(events, "stream_opened post_sse resumed") ||
		!slices.Contains(events, "stream_closed post_sse: answered") {
		t.Errorf("the events are %q", events)
	}
	span := ""
	for _, ended := range r.spans.Ended() {
		for _, e := range ended.Events() {
			if e.Name != "mcp.notification" {
				span += ended.Name() + " " + e.Name + ";"
			}
		}
	}
	// later resumptions came after the end of the call
	if want := "tools/call one__gated mcphub.stream.resumed;"; !strings.HasPrefix(span, want) {
		t.Errorf("the spans have the events %q", span)
	}
	r.conserved(0)
	c.send(http.MethodDelete, "", "Mcp-Session-Id: "+c.token)
	if got := r.metric("mcphub_stream_log_bytes"); got != 0 {
		t.Errorf("%v bytes are kept for a session that has ended", got)
	}
}

func TestEventIDOfAnotherSessionOpensNothing(t *testing.T) {
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one")}})
	mine, theirs := r.connect(), r.connect()
	s := mine.gated("5", 1)
	firstID := s.firstEventID()
	mine.steps(1)
	s.expectProgress("5", 1, 1)
	for _, id := range []string{firstID, s.last} {
		foreign := theirs.resume(id)
		if m := foreign.message(); string(m.ID) != "5" || !strings.Contains(string(m.Error), "the outcome of the request is not known") {
			t.Errorf("another session received %s", m.Encode())
		}
		foreign.waitForEnd()
	}
	mine.steps(1)
	s.expectResult("5") // its reader was not displaced
	if got := r.metric("mcphub_streams_resumed_total", "stream", "post_sse", "outcome", "unknown"); got != 2 {
		t.Errorf("%v ids were unknown", got)
	}
}

func TestNewReaderDisplacesTheOlder(t *testing.T) {
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one")}})
	c := r.connect()
	s := c.gated("1", 2)
	firstID := s.firstEventID()
	c.steps(1)
	s.expectProgress("1", 1, 1)
	again := c.resume(firstID)
	s.waitForEnd()
	again.expectProgress("1", 1, 1)
	c.steps(2)
	again.expectProgress("1", 2, 2)
	again.expectResult("1")
	hubtest.Eventually(t, "the reason is counted", func() bool {
		return r.metric("mcphub_streams_closed_total", "stream", "post_sse", "reason", "displaced") == 1
	})
}

func TestInvalidLastEventIDIsRefused(t *testing.T) {
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one")}})
	c := r.connect()
	s := c.gated("1", 1)
	firstID := s.firstEventID()
	ahead := firstID[:len(firstID)-1] + "1"
	for _, headers := range [][]string{{"Last-Event-ID: x"}, {"Last-Event-ID: " + firstID + "x"},
		{"Last-Event-ID: " + strings.Repeat("1", 5000)},
		{"Last-Event-ID: " + firstID, "Last-Event-ID: " + firstID}, {"Last-Event-ID: " + ahead}} {
		p := c.send(http.MethodGet, "", append([]string{"Mcp-Session-Id: " + c.token}, headers...)...)
		if e := p.rpcError(t); p.status != http.StatusBadRequest || e.Code != -32600 || !strings.Contains(e.Message, "Last-Event-ID") {
			t.Errorf("%.50q: %d %s", headers, p.status, p.body)
		}
	}
	if got := r.metric("mcphub_streams_resumed_total", "outcome", "refused"); got != 5 {
		t.Errorf("%v refusals were counted", got)
	}
	c.steps(2)
	s.expectProgress("1", 1, 1)
	s.expectResult("1")
}

func TestServerRequestWaitsForAClientThatResumes(t *testing.T) {
	one := stdio(t, "one")
	one.Isolation = upstream.PerSession
	r := start(t, setup{specs: []upstream.Spec{one}})
	c := r.connect()
	c.tool("one__state", `{}`) // makes the connection
	s := c.open(http.MethodPost, request("1", "tools/call",
		`{"name":"one__gated","arguments":{"steps":2,"method":"elicitation/create","params":{}}}`))
	firstID := s.firstEventID()
	step := func() { c.post(`{"jsonrpc":"2.0","method":"custom/gate"}`) }
	c.disconnect(s, "post_sse")
	step()
	hubtest.Eventually(t, "the server request waits", func() bool { return c.waitingRequests() == 1 })
	s = c.resume(firstID)
	m := s.message()
	if status := c.respond(m, `"result":{"a":1}`); m.Method != "elicitation/create" || status != http.StatusAccepted {
		t.Errorf("received %s, the response got %d", m.Encode(), status)
	}
	// An open GET stream is preferred to a lost stream.
	c.disconnect(s, "post_sse")
	listening := c.listen()
	step()
	c.respond(listening.message(), `"result":{"b":2}`)
	step()
	want := `[{"content":[],"answer":{"a":1}},{"content":[],"answer":{"b":2}}]`
	if m := c.resume(s.last).message(); has(t, m.Result, "answers") != want {
		t.Errorf("the server got %s", m.Encode())
	}
}

// Sessions with many concurrent calls lose their connections at random and resume. Each stream must bring all of its
// own events once and in order.
func TestBrokenStreamsNeverMix(t *testing.T) {
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one"), stdio(t, "two")}, untraced: true})
	var wg sync.WaitGroup
	resumes := make(chan int, 256)
	for session := range 3 {
		c := r.connect()
		for call := range 8 {
			wg.Go(func() {
				total := 0
				for round := range 12 {
					total += c.callWithBreaks(call*100+round, session, []string{"one", "two"}[round%2])
				}
				resumes <- total
			})
		}
	}
	wg.Wait()
	close(resumes)
	total := 0
	for n := range resumes {
		total += n
	}
	if total < 100 {
		t.Errorf("only %d streams broke", total)
	}
	r.conserved(0)
}

// callWithBreaks makes a call over connections that break, and returns how often it resumed.
func (c *peer) callWithBreaks(id, session int, server string) (resumes int) {
	const steps = 25
	token := fmt.Sprintf(`"%d of %d"`, id, session)
	s := c.open(http.MethodPost, request(fmt.Sprint(id), "tools/call",
		fmt.Sprintf(`{"name":"%s__work","arguments":{"steps":%d,"session":%d},"_meta":{"progressToken":%s}}`, server, steps, session,
			token)))
	defer func() { s.cancel() }()
	for i := 1; i <= steps+1; i++ {
		m := s.message()
		want := fmt.Sprintf(`{"progressToken":%s,"progress":%d,"of":{"steps":%d,"session":%d}}`, token, i, steps, session)
		switch {
		case i > steps && (string(m.ID) != fmt.Sprint(id) || m.Result == nil):
			c.t.Errorf("the answer to %d of %d is %s", id, session, m.Encode())
			return resumes
		case i <= steps && string(m.Params) != want:
			c.t.Errorf("%d of %d: received %s, want %s", id, session, m.Params, want)
			return resumes
		}
		if i <= steps && rand.N(8) == 0 {
			last := s.last
			if rand.N(2) == 0 { // otherwise the new connection displaces the old one
				s.cancel()
			}
			old := s
			s = c.resume(last)
			old.cancel()
			resumes++
		}
	}
	s.waitForEnd()
	return resumes
}

func TestSlowReaderAloneLosesMessages(t *testing.T) {
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one")}})
	c, other := r.connect(), r.connect()
	s := c.open(http.MethodPost, request("1", "tools/call",
		`{"name":"one__gated","arguments":{"steps":1,"size":2048},"_meta":{"progressToken":1}}`))
	firstID := s.firstEventID()
	c.disconnect(s, "post_sse")
	c.steps(1) // sends twice as many messages as are kept
	hubtest.Eventually(t, "the messages beyond the limit are dropped", func() bool { return r.dropped("slow_reader") == 1024 })
	c.callWithProgress(2, 3, `{"steps":3}`) // another call of the same session
	other.callWithProgress(2, 3, `{"steps":3}`)
	c.steps(1) // the response fits
	again := c.resume(firstID)
	for range 1024 {
		again.message()
	}
	again.expectResult("1")
	if info, err := r.sessions.Info(t.Context(), c.id); err != nil || info.State != session.Ready {
		t.Errorf("the session is %+v: %v", info, err)
	}
}
