package gateway

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcphub-go/mcphub/pkg/catalog"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

func TestSlowRequestBodyTimesOut(t *testing.T) {
	const post = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAccept: */*\r\n"
	for name, head := range map[string]string{
		"POST":               post + "Content-Length: 100\r\n\r\n{",
		"POST in chunks":     post + "Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
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

func TestOpenStreamKeepsItsSessionAlive(t *testing.T) {
	inBubble(t, setup{}, func(t *testing.T, r *rig, _ *pipes) {
		c := r.connect()
		s := c.listen()
		time.Sleep(4 * time.Hour) // eight idle timeouts
		beats := 0
		for len(s.events) > 0 {
			if e, _ := s.next(); e.comment == "keep-alive" {
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

func TestExpiredSessionIsRefusedBeforeTheSweep(t *testing.T) {
	inBubble(t, setup{}, func(t *testing.T, r *rig, _ *pipes) {
		c := r.connect()
		time.Sleep(30*time.Minute + time.Second)
		if p := c.post(pingBody); p.status != http.StatusNotFound {
			t.Errorf("the expired session answers %d", p.status)
		}
	})
}

func TestStreamOfAClientThatNeverReadsIsClosed(t *testing.T) {
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
		for range 3 * maxQueuedMessages { // more than the hub keeps for the stream
			r.gateway.ListChanged([]catalog.Kind{catalog.Tools})
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("the reader delayed the hub for %s", took)
		}
		if got := r.dropped("slow_reader"); got < maxQueuedMessages-1 {
			t.Errorf("%v notifications were dropped", got)
		}
		time.Sleep(writeTimeout + time.Second)
		synctest.Wait()
		if info, err := r.sessions.Info(t.Context(), c.id); err != nil || info.InFlight != 0 {
			t.Errorf("the stream still holds the session: %+v %v", info, err)
		}
		_ = conn.Close()
	})
}

func TestRequestsWaitForAServerThatHangsOnceTogetherSinceTheStart(t *testing.T) {
	never := []upstream.Spec{{Name: "never", Command: "never"}, {Name: "nor", Command: "never"}}
	inBubble(t, setup{specs: never}, func(t *testing.T, r *rig, _ *pipes) {
		start := time.Now()
		c := r.connect()
		if took := time.Since(start); took != awaitTimeout {
			t.Errorf("initialize took %s", took)
		}
		start = time.Now()
		if p := c.call("1", "tools/list", `{}`); string(p.response(t).Result) != `{"tools":[]}` {
			t.Errorf("tools/list: %s", p.body)
		}
		for _, method := range []string{"prompts/list", "resources/list", "resources/templates/list", "tasks/list"} {
			c.call("1", method, `{}`)
		}
		c.call("1", "tools/call", `{"name":"unknown"}`)
		c.call("1", "resources/read", `{"uri":"x:1"}`)
		c.call("1", "completion/complete", `{"ref":{"type":"ref/prompt","name":"x"}}`)
		r.connect()
		if took := time.Since(start); took != 0 {
			t.Errorf("the next requests took %s", took)
		}
	})
	inBubble(t, setup{specs: never}, func(t *testing.T, r *rig, _ *pipes) {
		time.Sleep(awaitTimeout - time.Second)
		start := time.Now()
		r.connect()
		if took := time.Since(start); took != time.Second {
			t.Errorf("initialize took %s after all but a second had passed", took)
		}
	})
}

func TestSilentCallIsKeptAlive(t *testing.T) {
	never := upstream.Spec{Name: "never", Command: "never"}
	inBubble(t, setup{specs: []upstream.Spec{never}, gateway: func(c *Config) { c.Heartbeat = time.Second }},
		func(t *testing.T, r *rig, _ *pipes) {
			p := r.restored().call("1", "tools/list", `{}`)
			if len(p.comments) < 4 || p.comments[0] != "keep-alive" || len(p.events) != 1 {
				t.Errorf("a call of %s was answered with %q", awaitTimeout, p.body)
			}
		})
}
