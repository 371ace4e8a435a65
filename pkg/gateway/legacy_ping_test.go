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
	"github.com/mcphub-go/mcphub/pkg/hubtest"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/session"
)

// testHeartbeat is the heartbeat of the hubs in these tests.
const testHeartbeat = time.Second

const pong = `"result":{}`

// withListener runs a test with a hub and a client that reads a GET stream, in virtual time.
func withListener(t *testing.T, test func(t *testing.T, c *peer, s *reader, p *pipes)) {
	inBubble(t, setup{gateway: func(c *Config) { c.Heartbeat = testHeartbeat }}, func(t *testing.T, r *rig, p *pipes) {
		c := r.connect()
		test(t, c, c.listen(), p)
	})
}

// expectPing returns the next message, which must be a ping with a new id.
func (s *reader) expectPing(seen map[jsonrpc.ID]bool) jsonrpc.Message {
	s.t.Helper()
	m := s.message()
	if m.Kind() != jsonrpc.Request || m.Method != "ping" || m.Params != nil || seen[m.ID] {
		s.t.Errorf("received %s, want a new ping", m.Encode())
	}
	seen[m.ID] = true
	return m
}

// countPings reads the messages that have arrived and counts the pings.
func (s *reader) countPings() (n int) {
	for len(s.events) > 0 {
		if e, ok := s.next(); ok && e.Method == "ping" {
			n++
		}
	}
	return n
}

// streamsClosed returns the counter of GET streams that ended for a reason.
func (r *rig) streamsClosed(reason string) float64 {
	r.t.Helper()
	return r.metric("mcphub_streams_closed_total", "stream", "get_sse", "reason", reason)
}

func TestClientThatStopsAnsweringPingsLosesItsStream(t *testing.T) {
	withListener(t, func(t *testing.T, c *peer, s *reader, _ *pipes) {
		seen := map[jsonrpc.ID]bool{}
		for range 3 {
			if status := c.respond(s.expectPing(seen), pong); status != http.StatusAccepted {
				t.Errorf("the answer to a ping: %d", status)
			}
		}
		s.expectPing(seen)
		unanswered := time.Now()
		s.expectPing(seen)
		s.waitForEnd()
		if took := time.Since(unanswered); took != 2*testHeartbeat {
			t.Errorf("the stream ended after %s without an answer", took)
		}
		synctest.Wait()
		if n := c.waitingRequests(); n != 0 {
			t.Errorf("%d pings still wait for a response", n)
		}
		if got := c.streamsClosed("half_open"); got != 1 {
			t.Errorf("%v streams were counted as half open", got)
		}
		if got, want := c.events(), []string{"created probe", "initialised", "stream_opened get_sse",
			"stream_closed get_sse: half_open"}; !slices.Equal(got, want) {
			t.Errorf("the events are %q, want %q", got, want)
		}
		if out, in := c.messages("out", "request"), c.messages("in", "response"); out != 5 || in != 3 {
			t.Errorf("%v pings and %v answers were counted", out, in)
		}
		if info, err := c.sessions.Info(t.Context(), c.id); err != nil || info.InFlight != 0 {
			t.Errorf("the session is %+v: %v", info, err)
		}
		again := c.listen() // the session stays open
		c.respond(again.expectPing(seen), pong)
		again.expectPing(seen)
	})
}

// messages returns the counter of messages between the hub and its clients.
func (r *rig) messages(direction, kind string) float64 {
	r.t.Helper()
	return r.metric("mcphub_messages_total", "hop", "downstream", "direction", direction, "kind", kind)
}

func TestOneUnansweredPingEndsNoStream(t *testing.T) {
	withListener(t, func(t *testing.T, c *peer, s *reader, _ *pipes) {
		seen := map[jsonrpc.ID]bool{}
		for range 20 {
			c.respond(s.expectPing(seen), pong)
			late := s.expectPing(seen)
			next := s.expectPing(seen)
			if status := c.respond(late, pong); status != http.StatusAccepted {
				t.Errorf("a late response: %d", status)
			}
			c.respond(next, pong)
		}
		if got := c.streamsClosed("half_open"); got != 0 {
			t.Errorf("%v streams were counted as half open", got)
		}
	})
}

func TestClientThatNeverAnsweredAPingGetsOneAndKeepsItsStream(t *testing.T) {
	withListener(t, func(t *testing.T, c *peer, s *reader, _ *pipes) {
		time.Sleep(10*time.Minute + testHeartbeat/2)
		if n := s.countPings(); n != 1 {
			t.Errorf("%d pings came in ten minutes, want 1", n)
		}
		if n := c.waitingRequests(); n != 0 {
			t.Errorf("%d pings still wait for a response", n)
		}
		// On another stream it gets a ping again, and answers it.
		seen := map[jsonrpc.ID]bool{}
		second := c.listen()
		c.respond(second.expectPing(seen), pong)
		c.respond(second.expectPing(seen), pong)
		time.Sleep(testHeartbeat / 2)
		if n := s.countPings(); n != 0 {
			t.Errorf("%d pings came on the first stream", n)
		}
		if got := c.metric("mcphub_streams_active", "stream", "get_sse"); got != 2 {
			t.Errorf("%v streams are open", got)
		}
	})
}

func TestRefusedPingCountsAsAnswered(t *testing.T) {
	withListener(t, func(t *testing.T, c *peer, s *reader, _ *pipes) {
		seen := map[jsonrpc.ID]bool{}
		for range 5 {
			if status := c.respond(s.expectPing(seen), `"error":{"code":-32601,"message":"no ping here"}`); status != http.StatusAccepted {
				t.Errorf("the refusal of a ping: %d", status)
			}
		}
		for range maxMissed {
			s.expectPing(seen)
		}
		s.waitForEnd()
		if got := c.messages("in", "error"); got != 5 {
			t.Errorf("%v refusals were counted", got)
		}
	})
}

func TestResponseOfAnotherClientToAPingDoesNotCount(t *testing.T) {
	withListener(t, func(t *testing.T, c *peer, s *reader, _ *pipes) {
		m := s.expectPing(map[jsonrpc.ID]bool{})
		if status := c.connect().respond(m, pong); status != http.StatusBadRequest {
			t.Errorf("the response of another client: %d", status)
		}
		if status := c.respond(m, pong); status != http.StatusAccepted {
			t.Errorf("the answer: %d", status)
		}
	})
}

func TestPingsContinueWhenServerRequestsHaveBeenAnswered(t *testing.T) {
	withListener(t, func(t *testing.T, c *peer, s *reader, _ *pipes) {
		seen := map[jsonrpc.ID]bool{}
		c.respond(s.expectPing(seen), pong)
		var waiting []jsonrpc.ID
		for range maxServerRequests {
			id, _ := c.live().requests.add()
			waiting = append(waiting, id)
		}
		time.Sleep(10*testHeartbeat + testHeartbeat/2)
		if n := s.countPings(); n != 0 {
			t.Errorf("%d pings came although too many server requests wait", n)
		}
		for _, id := range waiting {
			c.live().requests.remove(id)
		}
		c.respond(s.expectPing(seen), pong)
		s.expectPing(seen)
	})
}

func TestEachEndOfAStreamHasItsReasonAndLeavesNoPing(t *testing.T) {
	for reason, end := range map[string]func(c *peer, s *reader){
		"client":   func(_ *peer, s *reader) { s.cancel() },
		"session":  func(c *peer, _ *reader) { _, _ = c.sessions.End(c.t.Context(), c.id, session.Admin) },
		"shutdown": func(c *peer, _ *reader) { c.gateway.Drain() },
	} {
		t.Run(reason, func(t *testing.T) {
			withListener(t, func(t *testing.T, c *peer, s *reader, _ *pipes) {
				cs := c.live()
				s.expectPing(map[jsonrpc.ID]bool{})
				if n := cs.waitingRequests(); n != 1 {
					t.Errorf("%d pings wait for an answer", n)
				}
				end(c, s)
				synctest.Wait()
				c.streamEnded(cs, reason)
			})
		})
	}
	t.Run("shutdown that closes the session first", func(t *testing.T) {
		withListener(t, func(t *testing.T, c *peer, _ *reader, _ *pipes) {
			cs := c.live()
			if err := c.sessions.Close(t.Context()); err != nil {
				t.Error(err)
			}
			synctest.Wait()
			c.streamEnded(cs, "shutdown")
		})
	})
	t.Run("write_error", func(t *testing.T) {
		withListener(t, func(t *testing.T, c *peer, s *reader, p *pipes) {
			s.cancel()
			s.waitForEnd()
			c = c.connect()
			conn, err := p.dial(t.Context(), "", "")
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n"+
				"Mcp-Session-Id: "+c.token+"\r\n\r\n")
			lines := bufio.NewReaderSize(conn, 16)
			for line := ""; !strings.Contains(line, `"method":"ping"`); { // the client reads nothing after this
				if line, err = lines.ReadString('\n'); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(2*testHeartbeat + writeTimeout)
			synctest.Wait()
			c.streamEnded(c.live(), "write_error")
		})
	})
}

// streamEnded checks the metrics and events after the end of the only stream of a session.
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
	if n := cs.waitingRequests(); n != 0 {
		c.t.Errorf("%d pings still wait for a response", n)
	}
	last := "stream_closed get_sse: " + reason
	if reason == "session" {
		last = "ended admin" // an ended session gets no events
	}
	if got := c.events(); !slices.Contains(got, "stream_opened get_sse") || got[len(got)-1] != last {
		c.t.Errorf("the events are %q, want %q at the end", got, last)
	}
	if got := c.metric("mcphub_streams_active"); got != 0 {
		c.t.Errorf("%v streams are open", got)
	}
}

func TestRefusedStreamIsNoEvent(t *testing.T) {
	r := start(t, setup{})
	c := r.connect()
	if p := c.send(http.MethodGet, "", "Mcp-Session-Id: "+c.token, "Accept: application/json"); p.status != http.StatusNotAcceptable {
		t.Errorf("answered %d", p.status)
	}
	for range stream.MaxStreams {
		c.listen()
	}
	c.send(http.MethodGet, "", "Mcp-Session-Id: "+c.token)
	if got := c.events(); len(got) != 2+stream.MaxStreams {
		t.Errorf("the events are %q", got)
	}
}

// The id of a server request must not be issued again after a restart: a late response would be taken for that of the
// new request.
func TestIDsOfServerRequestsAreNotRepeatedAfterARestart(t *testing.T) {
	seen := map[jsonrpc.ID]bool{}
	for range 2 {
		withListener(t, func(_ *testing.T, c *peer, s *reader, _ *pipes) {
			for range 3 {
				c.respond(s.expectPing(seen), pong)
			}
		})
	}
}

func TestMCPGoClientAnswersPings(t *testing.T) {
	r := start(t, setup{gateway: func(c *Config) { c.Heartbeat = 20 * time.Millisecond }})
	c, _ := r.connectMCPGo(mcpGoUser{"ann"})
	hubtest.Eventually(t, "three pings are answered", func() bool { return r.messages("in", "response") >= 3 })
	if err := c.Ping(t.Context()); err != nil {
		t.Errorf("ping: %v", err)
	}
}
