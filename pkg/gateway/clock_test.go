package gateway

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcphub-go/mcphub/pkg/catalog"
	"github.com/mcphub-go/mcphub/pkg/gateway/routing"
	"github.com/mcphub-go/mcphub/pkg/gateway/stream"
	"github.com/mcphub-go/mcphub/pkg/session"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

// pipes is a listener without sockets, so that time can be virtual.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

func (p *pipes) dial(context.Context, string, string) (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case p.conns <- there:
		return here, nil
	case <-p.closed:
		return nil, errors.New("closed")
	}
}

// inBubble runs a hub without servers in virtual time.
func inBubble(t *testing.T, s setup, test func(t *testing.T, r *rig, p *pipes)) {
	synctest.Test(t, func(t *testing.T) {
		s.sessions = func(c *session.Config) { c.FlushInterval = time.Minute } // fewer moments to simulate
		r := build(t, s)
		p := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
		server := &http.Server{Handler: Guard(r.gateway, nil, nil)}
		var serving sync.WaitGroup
		serving.Go(func() { _ = server.Serve(p) })
		if len(s.specs) == 0 {
			r.run()
		} else {
			r.stopWorkers = func() {} // servers that never say anything
		}
		transport := &http.Transport{DialContext: p.dial}
		r.client, r.url = &http.Client{Transport: transport}, "http://localhost"
		defer func() { // also after a test that gave up, which would look like a deadlock
			transport.CloseIdleConnections()
			r.stop()
			_ = server.Close()
			serving.Wait()
		}()
		test(t, r, p)
	})
}

func TestASlowBodyIsGivenUp(t *testing.T) {
	for name, head := range map[string]string{
		"POST":               "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAccept: */*\r\nContent-Length: 100\r\n\r\n{",
		"POST in chunks":     "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAccept: */*\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
		"wrong content type": "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{",
		"foreign host":       "POST / HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 100\r\n\r\n{",
		"GET":                "GET / HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\nContent-Length: 100\r\n\r\n{",
		"DELETE":             "DELETE / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{",
		"PUT":                "PUT / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{",
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, setup{}, func(t *testing.T, _ *rig, p *pipes) {
				c, err := p.dial(t.Context(), "", "")
				if err != nil {
					t.Fatal(err)
				}
				start := time.Now()
				if _, err := io.WriteString(c, head); err != nil {
					t.Fatal(err)
				}
				_ = c.SetReadDeadline(start.Add(time.Hour))
				answer, err := io.ReadAll(c)
				if took := time.Since(start); err != nil || took > bodyTimeout+time.Second {
					t.Errorf("the connection was open for %s: %v", took, err)
				}
				if !strings.HasPrefix(string(answer), "HTTP/1.1 4") {
					t.Errorf("answered %q", answer)
				}
				_ = c.Close()
			})
		})
	}
}

func TestAnOpenStreamKeepsItsSessionAlive(t *testing.T) {
	inBubble(t, setup{}, func(t *testing.T, r *rig, _ *pipes) {
		c := r.connect()
		s := c.listen()
		time.Sleep(4 * time.Hour) // eight idle timeouts
		beats := 0
		for len(s.events) > 0 {
			if e, _ := s.any(); e.comment == "keep-alive" {
				beats++
			}
		}
		if want := int(4 * time.Hour / (15 * time.Second)); beats < want-1 {
			t.Errorf("%d heartbeats in four hours, want %d", beats, want)
		}
		if !r.sessions.Has(t.Context(), c.id) {
			t.Error("the session ended although its stream was open")
		}
		s.cancel()
		time.Sleep(32 * time.Minute)
		if r.sessions.Has(t.Context(), c.id) {
			t.Error("the session outlives its stream by more than the idle timeout")
		}
		if p := c.post(pingBody); p.status != http.StatusNotFound {
			t.Errorf("the expired session answers %d", p.status)
		}
		if n := len(r.gateway.legacy.all()); n != 0 {
			t.Errorf("%d sessions are still open", n)
		}
	})
}

func TestAnExpiredSessionIsRefusedBeforeTheSweep(t *testing.T) {
	inBubble(t, setup{}, func(t *testing.T, r *rig, _ *pipes) {
		c := r.connect()
		time.Sleep(30*time.Minute + time.Second)
		if p := c.post(pingBody); p.status != http.StatusNotFound {
			t.Errorf("the expired session answers %d", p.status)
		}
	})
}

func TestAReaderThatNeverReadsIsGivenUp(t *testing.T) {
	inBubble(t, setup{}, func(t *testing.T, r *rig, p *pipes) {
		c := r.connect()
		conn, err := p.dial(t.Context(), "", "")
		if err != nil {
			t.Fatal(err)
		}
		_, _ = fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\nMcp-Session-Id: %s\r\n\r\n", c.token)
		lines := bufio.NewReader(conn)
		for line := ""; !strings.HasPrefix(line, ": stream"); {
			if line, err = lines.ReadString('\n'); err != nil {
				t.Fatal(err)
			}
		}
		start := time.Now()
		for range 3 * stream.MaxQueuedMessages { // more than anybody keeps for it
			r.gateway.ListChanged([]catalog.Kind{catalog.Tools})
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("the reader held up the hub for %s", took)
		}
		if got := r.dropped("slow_reader"); got < stream.MaxQueuedMessages-1 {
			t.Errorf("%v notifications were dropped", got)
		}
		time.Sleep(stream.WriteTimeout + time.Second)
		synctest.Wait()
		if info, err := r.sessions.Info(t.Context(), c.id); err != nil || info.InFlight != 0 {
			t.Errorf("the stream still holds the session: %+v %v", info, err)
		}
		_ = conn.Close()
	})
}

func TestInitializeWaitsForServersButNotForEver(t *testing.T) {
	never := upstream.Spec{Name: "never", Command: "never"}
	inBubble(t, setup{specs: []upstream.Spec{never}}, func(t *testing.T, r *rig, _ *pipes) {
		start := time.Now()
		c := r.connect()
		if took := time.Since(start); took != routing.AwaitTimeout {
			t.Errorf("initialize took %s", took)
		}
		start = time.Now()
		p := c.call("1", "tools/list", `{}`)
		if took := time.Since(start); took != routing.AwaitTimeout || string(p.answer(t).Result) != `{"tools":[]}` {
			t.Errorf("tools/list took %s: %s", took, p.body)
		}
	})
}

func TestASilentCallIsKeptAlive(t *testing.T) {
	never := upstream.Spec{Name: "never", Command: "never"}
	inBubble(t, setup{specs: []upstream.Spec{never}, gateway: func(c *Config) { c.Heartbeat = time.Second }},
		func(t *testing.T, r *rig, _ *pipes) {
			p := r.connect().call("1", "tools/list", `{}`)
			if len(p.comments) < 4 || p.comments[0] != "keep-alive" || len(p.events) != 1 {
				t.Errorf("a call of %s was answered with %q", routing.AwaitTimeout, p.body)
			}
		})
}
