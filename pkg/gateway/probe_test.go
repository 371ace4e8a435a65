package gateway

import (
	"bufio"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcphub-go/mcphub/pkg/gateway/stream"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/session"
)

// beat is the heartbeat of the hubs in these tests.
const beat = time.Second

const pong = `"result":{}`

// probed runs a hub with a client that listens, in virtual time.
func probed(t *testing.T, test func(t *testing.T, c *peer, s *reader, p *pipes)) {
	inBubble(t, setup{gateway: func(c *Config) { c.Heartbeat = beat }}, func(t *testing.T, r *rig, p *pipes) {
		c := r.connect()
		test(t, c, c.listen(), p)
	})
}

// ping returns the next message, which must be a ping with an id of its own.
func (s *reader) ping(seen map[jsonrpc.ID]bool) jsonrpc.Message {
	s.t.Helper()
	m := s.message()
	if m.Kind() != jsonrpc.Request || m.Method != "ping" || m.Params != nil || seen[m.ID] {
		s.t.Errorf("the stream says %s, want a new ping", m.Encode())
	}
	seen[m.ID] = true
	return m
}

// pings takes what has come on the stream and counts the pings.
func (s *reader) pings() (n int) {
	for len(s.events) > 0 {
		if e, ok := s.any(); ok && e.Method == "ping" {
			n++
		}
	}
	return n
}

// streamsClosed reads the counter of GET streams that ended for that reason.
func (r *rig) streamsClosed(reason string) float64 {
	r.t.Helper()
	return r.metric("mcphub_streams_closed_total", "stream", "get_sse", "reason", reason)
}

func TestAClientThatAnsweredAndStopsToLosesItsStream(t *testing.T) {
	probed(t, func(t *testing.T, c *peer, s *reader, _ *pipes) {
		seen := map[jsonrpc.ID]bool{}
		for range 3 {
			if status := c.answers(s.ping(seen), pong); status != http.StatusAccepted {
				t.Errorf("the answer to a ping: %d", status)
			}
		}
		s.ping(seen)
		unanswered := time.Now()
		s.ping(seen)
		s.ended()
		if took := time.Since(unanswered); took != 2*beat {
			t.Errorf("the stream ended after %s without an answer", took)
		}
		synctest.Wait()
		if n := c.asks(); n != 0 {
			t.Errorf("%d pings still wait for an answer", n)
		}
		if got := c.streamsClosed("half_open"); got != 1 {
			t.Errorf("%v streams were counted as half open", got)
		}
		if got, want := c.happened(), []string{"created probe", "initialised", "stream_opened get_sse", "stream_closed get_sse: half_open"}; !slices.Equal(got, want) {
			t.Errorf("noted was %q, want %q", got, want)
		}
		if out, in := c.messages("out", "request"), c.messages("in", "response"); out != 5 || in != 3 {
			t.Errorf("%v pings and %v answers were counted", out, in)
		}
		if info, err := c.sessions.Info(t.Context(), c.id); err != nil || info.InFlight != 0 {
			t.Errorf("the session is %+v: %v", info, err)
		}
		again := c.listen() // the session lives on
		c.answers(again.ping(seen), pong)
		again.ping(seen)
	})
}

// messages reads the counter of messages between the hub and its clients.
func (r *rig) messages(direction, kind string) float64 {
	r.t.Helper()
	return r.metric("mcphub_messages_total", "hop", "downstream", "direction", direction, "kind", kind)
}

func TestOneUnansweredPingIsForgiven(t *testing.T) {
	probed(t, func(t *testing.T, c *peer, s *reader, _ *pipes) {
		seen := map[jsonrpc.ID]bool{}
		for range 20 {
			c.answers(s.ping(seen), pong)
			late := s.ping(seen)
			next := s.ping(seen)
			if status := c.answers(late, pong); status != http.StatusAccepted {
				t.Errorf("an answer that nobody waits for any more: %d", status)
			}
			c.answers(next, pong)
		}
		if got := c.streamsClosed("half_open"); got != 0 {
			t.Errorf("%v streams were taken for half open", got)
		}
	})
}

func TestAClientThatNeverAnsweredIsAskedOnceAndKept(t *testing.T) {
	probed(t, func(t *testing.T, c *peer, s *reader, _ *pipes) {
		time.Sleep(10*time.Minute + beat/2)
		if n := s.pings(); n != 1 {
			t.Errorf("%d pings came in ten minutes, want 1", n)
		}
		if n := c.asks(); n != 0 {
			t.Errorf("%d pings still wait for an answer", n)
		}
		// On another stream it is asked again, and answers this time.
		seen := map[jsonrpc.ID]bool{}
		second := c.listen()
		c.answers(second.ping(seen), pong)
		c.answers(second.ping(seen), pong)
		time.Sleep(beat / 2)
		if n := s.pings(); n != 0 {
			t.Errorf("%d pings came on the stream that was given up", n)
		}
		if got := c.metric("mcphub_streams_active", "stream", "get_sse"); got != 2 {
			t.Errorf("%v streams are open", got)
		}
	})
}

func TestARefusedPingIsAnAnswer(t *testing.T) {
	probed(t, func(t *testing.T, c *peer, s *reader, _ *pipes) {
		seen := map[jsonrpc.ID]bool{}
		for range 5 {
			if status := c.answers(s.ping(seen), `"error":{"code":-32601,"message":"no ping here"}`); status != http.StatusAccepted {
				t.Errorf("the refusal of a ping: %d", status)
			}
		}
		for range maxMissed {
			s.ping(seen)
		}
		s.ended()
		if got := c.messages("in", "error"); got != 5 {
			t.Errorf("%v refusals were counted", got)
		}
	})
}

func TestAnotherClientsAnswerToAPingDoesNotCount(t *testing.T) {
	probed(t, func(t *testing.T, c *peer, s *reader, _ *pipes) {
		m := s.ping(map[jsonrpc.ID]bool{})
		if status := c.connect().answers(m, pong); status != http.StatusBadRequest {
			t.Errorf("another client's answer: %d", status)
		}
		if status := c.answers(m, pong); status != http.StatusAccepted {
			t.Errorf("the answer: %d", status)
		}
	})
}

func TestPingsGoOnWhenQuestionsHaveBeenAnswered(t *testing.T) {
	probed(t, func(t *testing.T, c *peer, s *reader, _ *pipes) {
		seen := map[jsonrpc.ID]bool{}
		c.answers(s.ping(seen), pong)
		var waiting []jsonrpc.ID
		for range maxServerRequests {
			id, _ := c.live().requests.add()
			waiting = append(waiting, id)
		}
		time.Sleep(10*beat + beat/2)
		if n := s.pings(); n != 0 {
			t.Errorf("%d pings came although too many questions wait", n)
		}
		for _, id := range waiting {
			c.live().requests.remove(id)
		}
		c.answers(s.ping(seen), pong)
		s.ping(seen)
	})
}

func TestEachEndOfAStreamHasItsReasonAndLeavesNoPing(t *testing.T) {
	for reason, end := range map[string]func(c *peer, s *reader){
		"client":   func(_ *peer, s *reader) { s.cancel() },
		"session":  func(c *peer, _ *reader) { _, _ = c.sessions.End(c.t.Context(), c.id, session.Admin) },
		"shutdown": func(c *peer, _ *reader) { c.gateway.Drain() },
	} {
		t.Run(reason, func(t *testing.T) {
			probed(t, func(t *testing.T, c *peer, s *reader, _ *pipes) {
				cs := c.live()
				s.ping(map[jsonrpc.ID]bool{})
				if n := cs.waiting(); n != 1 {
					t.Errorf("%d pings wait for an answer", n)
				}
				end(c, s)
				synctest.Wait()
				c.streamEnded(cs, reason)
			})
		})
	}
	t.Run("shutdown that closes the session first", func(t *testing.T) {
		probed(t, func(t *testing.T, c *peer, _ *reader, _ *pipes) {
			cs := c.live()
			if err := c.sessions.Close(t.Context()); err != nil {
				t.Error(err)
			}
			synctest.Wait()
			c.streamEnded(cs, "shutdown")
		})
	})
	t.Run("write_error", func(t *testing.T) {
		probed(t, func(t *testing.T, c *peer, s *reader, p *pipes) {
			s.cancel()
			s.ended()
			c = c.connect()
			conn, err := p.dial(t.Context(), "", "")
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\nMcp-Session-Id: "+c.token+"\r\n\r\n")
			lines := bufio.NewReaderSize(conn, 16)
			for line := ""; !strings.Contains(line, `"method":"ping"`); { // the last thing it ever reads
				if line, err = lines.ReadString('\n'); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(2*beat + stream.WriteTimeout)
			synctest.Wait()
			c.streamEnded(c.live(), "write_error")
		})
	})
}

// streamEnded checks what is left of the only stream of a session.
func (c *peer) streamEnded(cs *clientSession, reason string) {
	c.t.Helper()
	for _, r := range []string{"client", "session", "shutdown", "write_error", "half_open"} {
		want := 0.0
		if r == reason {
			want = 1
		}
		if got := c.streamsClosed(r); got < want || (want == 0 && got > 0 && r != "client") {
			c.t.Errorf("%v streams ended with reason %s, want %v", got, r, want)
		}
	}
	if n := cs.waiting(); n != 0 {
		c.t.Errorf("%d pings still wait for an answer", n)
	}
	last := "stream_closed get_sse: " + reason
	if reason == "session" {
		last = "ended admin" // nothing is noted of a session that has ended
	}
	if got := c.happened(); !slices.Contains(got, "stream_opened get_sse") || got[len(got)-1] != last {
		c.t.Errorf("noted was %q, want %q at the end", got, last)
	}
	if got := c.metric("mcphub_streams_active"); got != 0 {
		c.t.Errorf("%v streams are open", got)
	}
}

func TestAStreamThatIsRefusedIsNotNoted(t *testing.T) {
	r := start(t, setup{})
	c := r.connect()
	if p := c.send(http.MethodGet, "", "Mcp-Session-Id: "+c.token, "Accept: application/json"); p.status != http.StatusNotAcceptable {
		t.Errorf("answered %d", p.status)
	}
	for range stream.MaxStreams {
		c.listen()
	}
	c.send(http.MethodGet, "", "Mcp-Session-Id: "+c.token)
	if got := c.happened(); len(got) != 2+stream.MaxStreams {
		t.Errorf("noted was %q", got)
	}
}

// The id of a question must not come again in the next life of the hub: an
// answer that is late by a restart would be taken for another.
func TestIdsOfQuestionsAreNotRepeatedAfterARestart(t *testing.T) {
	seen := map[jsonrpc.ID]bool{}
	for range 2 {
		probed(t, func(_ *testing.T, c *peer, s *reader, _ *pipes) {
			for range 3 {
				c.answers(s.ping(seen), pong)
			}
		})
	}
}

func TestARealClientAnswersPings(t *testing.T) {
	r := start(t, setup{gateway: func(c *Config) { c.Heartbeat = 20 * time.Millisecond }})
	c, _ := r.dial(human{"ann"})
	until(t, "three pings are answered", func() bool { return r.messages("in", "response") >= 3 })
	if err := c.Ping(t.Context()); err != nil {
		t.Errorf("ping: %v", err)
	}
}
