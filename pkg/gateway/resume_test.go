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

	"github.com/mcphub-go/mcphub/pkg/gateway/stream"
	"github.com/mcphub-go/mcphub/pkg/session"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

// beginning returns the id of the event that begins the stream.
func (s *reader) beginning() string {
	s.t.Helper()
	select {
	case id := <-s.primed:
		return id
	case <-time.After(patience):
		s.t.Fatal("no event without a message came on the stream")
		return ""
	}
}

// lose breaks the connection of the stream, and waits until the hub has
// noticed.
func (c *peer) lose(s *reader, stream string) {
	c.t.Helper()
	active := c.metric("mcphub_streams_active", "stream", stream)
	s.cancel()
	until(c.t, "the hub has noticed", func() bool { return c.metric("mcphub_streams_active", "stream", stream) < active })
}

// resume goes on with the stream after the event with that id.
func (c *peer) resume(id string) *reader {
	c.t.Helper()
	return c.open(http.MethodGet, "", "Last-Event-ID: "+id)
}

// gated begins a call of so many steps, each of which the test has to ask for.
func (c *peer) gated(id string, steps int) *reader {
	c.t.Helper()
	return c.open(http.MethodPost, request(id, "tools/call",
		fmt.Sprintf(`{"name":"one__gated","arguments":{"steps":%d},"_meta":{"progressToken":%s}}`, steps, id)))
}

// steps lets the gated call take that many.
func (c *peer) steps(n int) { c.tool("one__gate", fmt.Sprintf(`{"steps":%d}`, n)) }

// progresses expects these steps of the call on the stream.
func (s *reader) progresses(token string, from, to int) {
	s.t.Helper()
	for i := from; i <= to; i++ {
		if m, want := s.message(), fmt.Sprintf(`{"progressToken":%s,"progress":%d}`, token, i); string(m.Params) != want {
			s.t.Errorf("the stream says %s, want %s", m.Encode(), want)
		}
	}
}

// answered expects the answer, and the end of the stream.
func (s *reader) answered(id string) {
	s.t.Helper()
	if m := s.message(); string(m.ID) != id || m.Result == nil {
		s.t.Errorf("the answer is %s", m.Encode())
	}
	s.ended()
}

func TestABrokenStreamGoesOnWhereItWasLost(t *testing.T) {
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one")}})
	c := r.connect()
	s := c.gated("1", 6)
	begun := s.beginning()
	c.steps(2)
	s.progresses("1", 1, 2)
	c.lose(s, "post_sse")
	c.steps(2) // while nobody reads
	again := c.resume(s.last)
	again.progresses("1", 3, 4)
	c.steps(1) // while somebody does
	again.progresses("1", 5, 5)
	c.lose(again, "post_sse")
	c.steps(2) // the last and the answer
	last := c.resume(again.last)
	last.progresses("1", 6, 6)
	last.answered("1")

	// All of it can still be had, from any event on.
	whole := c.resume(begun)
	whole.progresses("1", 1, 6)
	whole.answered("1")
	rest := c.resume(begun[:len(begun)-1] + "4")
	rest.progresses("1", 5, 6)
	rest.answered("1")
	c.resume(rest.last[:len(rest.last)-1] + "7").ended()

	if got := r.metric("mcphub_streams_resumed_total", "stream", "post_sse", "outcome", "replayed"); got != 5 {
		t.Errorf("%v streams were resumed", got)
	}
	until(t, "the reasons are counted", func() bool {
		return r.metric("mcphub_streams_closed_total", "stream", "post_sse", "reason", "client")+
			r.metric("mcphub_streams_closed_total", "stream", "post_sse", "reason", "answered") == 6
	})
	if got := r.metric("mcphub_stream_log_bytes"); got < 300 {
		t.Errorf("%v bytes are kept", got)
	}
	if happened := c.happened(); !slices.Contains(happened, "stream_opened post_sse resumed") || !slices.Contains(happened, "stream_closed post_sse: answered") {
		t.Errorf("noted was %q", happened)
	}
	span := ""
	for _, ended := range r.spans.Ended() {
		for _, e := range ended.Events() {
			if e.Name != "mcp.notification" {
				span += ended.Name() + " " + e.Name + ";"
			}
		}
	}
	if want := "tools/call one__gated mcphub.stream.resumed;"; !strings.HasPrefix(span, want) { // the later ones came when the call had ended
		t.Errorf("the spans have the events %q", span)
	}
	r.conserved(0)
	c.send(http.MethodDelete, "", "Mcp-Session-Id: "+c.token)
	if got := r.metric("mcphub_stream_log_bytes"); got != 0 {
		t.Errorf("%v bytes are kept for a session that has ended", got)
	}
}

func TestAnEventIDOfAnotherSessionOpensNothing(t *testing.T) {
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one")}})
	mine, theirs := r.connect(), r.connect()
	s := mine.gated("5", 1)
	begun := s.beginning()
	mine.steps(1)
	s.progresses("5", 1, 1)
	for _, id := range []string{begun, s.last} {
		stolen := theirs.resume(id)
		if m := stolen.message(); string(m.ID) != "5" || !strings.Contains(string(m.Error), "the outcome of the request is not known") {
			t.Errorf("another session gets %s", m.Encode())
		}
		stolen.ended()
	}
	mine.steps(1)
	s.answered("5") // and it was not displaced
	if got := r.metric("mcphub_streams_resumed_total", "stream", "post_sse", "outcome", "unknown"); got != 2 {
		t.Errorf("%v ids were unknown", got)
	}
}

func TestANewReaderDisplacesTheOlder(t *testing.T) {
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one")}})
	c := r.connect()
	s := c.gated("1", 2)
	begun := s.beginning()
	c.steps(1)
	s.progresses("1", 1, 1)
	again := c.resume(begun)
	s.ended()
	again.progresses("1", 1, 1)
	c.steps(2)
	again.progresses("1", 2, 2)
	again.answered("1")
	until(t, "the reason is counted", func() bool {
		return r.metric("mcphub_streams_closed_total", "stream", "post_sse", "reason", "displaced") == 1
	})
}

func TestABadLastEventIDIsRefused(t *testing.T) {
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one")}})
	c := r.connect()
	s := c.gated("1", 1)
	begun := s.beginning()
	ahead := begun[:len(begun)-1] + "1"
	for _, headers := range [][]string{{"Last-Event-ID: x"}, {"Last-Event-ID: " + begun + "x"}, {"Last-Event-ID: " + strings.Repeat("1", 5000)},
		{"Last-Event-ID: " + begun, "Last-Event-ID: " + begun}, {"Last-Event-ID: " + ahead}} {
		p := c.send(http.MethodGet, "", append([]string{"Mcp-Session-Id: " + c.token}, headers...)...)
		if e := p.failed(t); p.status != http.StatusBadRequest || e.Code != -32600 || !strings.Contains(e.Message, "Last-Event-ID") {
			t.Errorf("%.50q: %d %s", headers, p.status, p.body)
		}
	}
	if got := r.metric("mcphub_streams_resumed_total", "outcome", "refused"); got != 5 {
		t.Errorf("%v refusals were counted", got)
	}
	c.steps(2)
	s.progresses("1", 1, 1)
	s.answered("1")
}

func TestAQuestionWaitsForAClientThatComesBack(t *testing.T) {
	one := stdio(t, "one")
	one.Isolation = upstream.PerSession
	r := start(t, setup{specs: []upstream.Spec{one}})
	c := r.connect()
	c.tool("one__state", `{}`) // the connection is there
	s := c.gated("1", 1)
	begun := s.beginning()
	c.lose(s, "post_sse")
	cs := c.live()
	id, _ := stream.ParseEventID(begun)
	out := cs.streamLog().Find(id)
	x := newExchange(t.Context(), cs, out)
	answers := make(chan string, 1)
	ask := func() {
		answer, err := x.Ask(t.Context(), jsonMessage("elicitation/create", `{}`))
		answers <- fmt.Sprint(string(answer), err)
	}
	go ask()
	until(t, "the question waits", func() bool { return c.asks() == 1 && len(out.Messages()) == 1 })
	s = c.resume(begun)
	m := s.message()
	if status := c.answers(m, `"result":{"a":1}`); m.Method != "elicitation/create" || status != http.StatusAccepted {
		t.Errorf("asked %s, answered %d", m.Encode(), status)
	}
	if got := <-answers; got != `{"a":1}<nil>` {
		t.Errorf("the answer is %s", got)
	}
	// A stream that is there comes before one that may come back.
	c.lose(s, "post_sse")
	listening := c.listen()
	go ask()
	c.answers(listening.message(), `"result":{"b":2}`)
	if got := <-answers; got != `{"b":2}<nil>` {
		t.Errorf("the answer is %s", got)
	}
	c.steps(2)
}

// Sessions with many calls at once lose their connections at random and come
// back. Each stream brings all of its events once, in order, and no other's.
func TestStreamsThatBreakNeverMix(t *testing.T) {
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one"), stdio(t, "two")}, untraced: true})
	var wg sync.WaitGroup
	resumes := make(chan int, 256)
	for session := range 3 {
		c := r.connect()
		for call := range 8 {
			wg.Go(func() {
				total := 0
				for round := range 12 {
					total += c.broken(call*100+round, session, []string{"one", "two"}[round%2])
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

// broken makes a call over connections that break, and returns how many did.
func (c *peer) broken(id, session int, server string) (resumes int) {
	const steps = 25
	token := fmt.Sprintf(`"%d of %d"`, id, session)
	s := c.open(http.MethodPost, request(fmt.Sprint(id), "tools/call",
		fmt.Sprintf(`{"name":"%s__work","arguments":{"steps":%d,"session":%d},"_meta":{"progressToken":%s}}`, server, steps, session, token)))
	defer func() { s.cancel() }()
	for i := 1; i <= steps+1; i++ {
		m := s.message()
		want := fmt.Sprintf(`{"progressToken":%s,"progress":%d,"of":{"steps":%d,"session":%d}}`, token, i, steps, session)
		switch {
		case i > steps && (string(m.ID) != fmt.Sprint(id) || m.Result == nil):
			c.t.Errorf("the answer to %d of %d is %s", id, session, m.Encode())
			return resumes
		case i <= steps && string(m.Params) != want:
			c.t.Errorf("%d of %d: heard %s, want %s", id, session, m.Params, want)
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
	s.ended()
	return resumes
}

func TestASlowReaderAloneLosesMessages(t *testing.T) {
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one")}})
	c, other := r.connect(), r.connect()
	s := c.gated("1", 1)
	begun := s.beginning()
	c.lose(s, "post_sse")
	cs := c.live()
	id, _ := stream.ParseEventID(begun)
	x := newExchange(t.Context(), cs, cs.streamLog().Find(id))
	for range 2 * 1024 {
		x.Notify(jsonMessage("notifications/message", `{"level":"info"}`))
	}
	if got := r.dropped("slow_reader"); got != 1024 {
		t.Errorf("%v messages were dropped, want what is beyond the bound", got)
	}
	c.workOne(2, 3, `{"steps":3}`) // another call of the same session
	other.workOne(2, 3, `{"steps":3}`)
	c.steps(2) // the progress does not fit, the answer does
	again := c.resume(begun)
	for range 1024 {
		again.message()
	}
	again.answered("1")
	if info, err := r.sessions.Info(t.Context(), c.id); err != nil || info.State != session.Ready {
		t.Errorf("the session is %+v: %v", info, err)
	}
}
