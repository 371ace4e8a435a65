package gateway

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/mcphub-go/mcphub/pkg/catalog"
	"github.com/mcphub-go/mcphub/pkg/gateway/stream"
	"github.com/mcphub-go/mcphub/pkg/hubtest"
	"github.com/mcphub-go/mcphub/pkg/protocol"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

func TestProgressAndLogsPrecedeTheResponseAndGoNowhereElse(t *testing.T) {
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one")}})
	c, other := r.connect(), r.connect()
	streams := []*reader{c.listen(), other.listen()}
	for _, token := range []string{`"t"`, `0`, `9007199254740993`, `"\u00e9"`, `1.50`} {
		p := c.call(token, "tools/call", `{"name":"one__work","arguments":{"steps":3},"_meta":{"progressToken":`+token+`,"x":1}}`)
		if p.header.Get("Content-Type") != protocol.TypeEventStream || p.header.Get("X-Accel-Buffering") != "no" || len(p.events) != 4 {
			t.Fatalf("answered with %v %q", p.header, p.body)
		}
		for i, m := range p.events[:3] {
			if want := fmt.Sprintf(`{"progressToken":%s,"progress":%d,"of":{"steps":3}}`, token, i+1); string(m.Params) != want {
				t.Errorf("progress %s, want %s", m.Params, want)
			}
		}
		if m := p.response(t); string(m.ID) != token || m.Result == nil {
			t.Errorf("the last event is %s", m.Encode())
		}
	}
	p := c.call("1", "tools/call", `{"name":"one__log"}`)
	if len(p.events) != 2 || string(p.events[0].Params) != `{"level":"info","data":{"n":1.50}}` {
		t.Errorf("a call that logs was answered with %q", p.body)
	}
	if p := c.call("1", "tools/call", `{"name":"one__work","arguments":{}}`); len(p.events) != 0 ||
		p.header.Get("Content-Type") != protocol.TypeJSON {
		t.Errorf("a call without progress was answered with %q", p.body)
	}
	for _, s := range streams {
		if len(s.events) != 0 {
			t.Errorf("a GET stream got %d events", len(s.events))
		}
	}
	if got := r.metric("mcphub_streams_active", "stream", "post_sse"); got != 0 {
		t.Errorf("%v POST streams are open", got)
	}
}

func TestSilentCallAndSilentStreamSendHeartbeats(t *testing.T) {
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one")}, gateway: func(c *Config) { c.Heartbeat = 5 * time.Millisecond }})
	c := r.connect()
	listening := c.listen()
	if m := listening.message(); m.Method != "ping" { // the client does not answer, so it gets no other ping
		t.Errorf("received %s", m.Encode())
	}
	for _, s := range []*reader{listening, c.open(http.MethodPost, request("1", "tools/call", `{"name":"one__hang"}`))} {
		for range 3 {
			e, _ := s.next()
			if e.Message.Method == "ping" { // a ping may precede the comment
				e, _ = s.next()
			}
			if e.comment != "keep-alive" {
				t.Errorf("received %+v", e)
			}
		}
	}
	c.post(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}`)
}

func TestDisconnectIsNoCancellation(t *testing.T) {
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one")}})
	c := r.connect()
	s := c.open(http.MethodPost, request("1", "tools/call", `{"name":"one__hang","_meta":{"progressToken":1}}`))
	s.message()
	s.cancel()
	s.waitForEnd()
	hubtest.Eventually(t, "the hub has noticed", func() bool { return r.metric("mcphub_streams_active", "stream", "post_sse") == 0 })
	if st := c.state("one"); st.Hanging != 1 || len(st.Cancelled) != 0 {
		t.Errorf("the server saw %+v", st)
	}
	hubtest.Eventually(t, "only the call holds its session", func() bool { // a request is released shortly after its response
		info, err := r.sessions.Info(t.Context(), c.id)
		return err == nil && info.InFlight == 1
	})
	c.post(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}`)
	hubtest.Eventually(t, "the call is cancelled", func() bool { return c.state("one").Hanging == 0 })
	hubtest.Eventually(t, "the session is free", func() bool {
		info, err := r.sessions.Info(t.Context(), c.id)
		return err == nil && info.InFlight == 0
	})
}

func TestClientThatNeverReadsDelaysNoOther(t *testing.T) {
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one")}})
	slow, other := r.connect(), r.connect()
	conn, err := net.Dial("tcp", r.server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.(*net.TCPConn).SetReadBuffer(4 << 10)
	// 45 MiB, more than sockets and queue hold
	body := request("1", "tools/call", `{"name":"one__flood","arguments":{"size":6000},"_meta":{"progressToken":1}}`)
	_, _ = fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAccept: */*\r\n"+
		"Mcp-Session-Id: %s\r\nContent-Length: %d\r\n\r\n%s",
		slow.token, len(body), body)
	hubtest.Eventually(t, "the reader is too slow", func() bool { return r.dropped("slow_reader") > 0 })
	for range 20 {
		other.callWithProgress(7, 3, `{"steps":3}`)
	}
	if p := slow.call("2", "ping", `{}`); p.status != http.StatusOK {
		t.Errorf("another request of the slow client: %d", p.status)
	}
}

func TestListChangeReachesTheNewestStreamOnly(t *testing.T) {
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one"), stdio(t, "two")}})
	c, other := r.connect(), r.connect()
	first := c.listen()
	second := c.listen()
	theirs := other.listen()
	c.tool("one__grow", `{}`)
	for _, s := range []*reader{second, theirs} {
		if m := s.message(); m.Method != "notifications/tools/list_changed" || m.Params != nil {
			t.Errorf("received %s", m.Encode())
		}
	}
	if list := string(c.call("1", "tools/list", `{}`).response(t).Result); !strings.Contains(list, "one__grown") {
		t.Errorf("notified too early: tools/list is %s", list)
	}
	if len(first.events) != 0 {
		t.Error("the older stream received it too")
	}
	second.cancel()
	second.waitForEnd()
	hubtest.Eventually(t, "the newer stream is closed", func() bool { return r.metric("mcphub_streams_active", "stream", "get_sse") == 2 })
	r.gateway.ListChanged([]catalog.Kind{catalog.Prompts, catalog.Resources, catalog.Templates})
	received := map[string]int{}
	for range 2 {
		received[first.message().Method]++
	}
	if received["notifications/prompts/list_changed"] != 1 || received["notifications/resources/list_changed"] != 1 {
		t.Errorf("received %v", received)
	}
}

func TestListChangeOnTheStreamOfACallIsNotForwarded(t *testing.T) {
	web := newWeb(t)
	r := start(t, setup{specs: []upstream.Spec{web.spec("web"), stdio(t, "one")}})
	c := r.connect()
	s := c.listen()
	if p := c.call("1", "tools/call", `{"name":"web__grow"}`); len(p.events) > 1 {
		t.Errorf("the call brought %s", p.body)
	}
	if m := s.message(); m.Method != "notifications/tools/list_changed" {
		t.Errorf("received %s", m.Encode())
	}
	if list := string(c.call("1", "tools/list", `{}`).response(t).Result); !strings.Contains(list, "web__grown") {
		t.Errorf("notified too early: tools/list is %s", list)
	}
}

func TestSessionMayHaveSeveralStreamsButNotMany(t *testing.T) {
	r := start(t, setup{})
	c := r.connect()
	var last *reader
	for range stream.MaxStreams {
		last = c.listen()
	}
	if p := c.send(http.MethodGet, "", "Mcp-Session-Id: "+c.token); p.status != http.StatusServiceUnavailable ||
		p.header.Get("Retry-After") == "" {
		t.Errorf("a stream beyond the limit: %d %s", p.status, p.body)
	}
	if info, err := r.sessions.Info(t.Context(), c.id); err != nil || info.InFlight != stream.MaxStreams {
		t.Errorf("%+v %v", info, err)
	}
	last.cancel()
	last.waitForEnd()
	hubtest.Eventually(t, "the stream is closed", func() bool {
		return r.metric("mcphub_streams_active", "stream", "get_sse") == stream.MaxStreams-1
	})
	hubtest.Eventually(t, "a stream can be opened again", func() bool {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		response := c.do(ctx, http.MethodGet, "", "Mcp-Session-Id: "+c.token)
		defer func() { _ = response.Body.Close() }()
		line, _ := bufio.NewReader(response.Body).ReadString('\n')
		return line == ": stream of session "+c.id+"\n"
	})
}

func TestNotificationWithoutAStreamIsCounted(t *testing.T) {
	r := start(t, setup{})
	r.connect().post(pingBody) // its live half exists, and it has no stream
	before := r.dropped("no_stream")
	r.gateway.ListChanged([]catalog.Kind{catalog.Tools})
	if got := r.dropped("no_stream"); got != before+1 {
		t.Errorf("%v notifications were dropped, want %v", got, before+1)
	}
}

func TestEventsAreOneLineEach(t *testing.T) {
	r := start(t, setup{})
	c := r.connect()
	s := c.listen()
	c.live().push(jsonMessage("notifications/x", "{\n\"a\":\r\n1}"))
	if m := s.message(); !json.Valid(m.Params) || strings.ContainsAny(string(m.Params), "\r\n") {
		t.Errorf("received %q", m.Params)
	}
}
