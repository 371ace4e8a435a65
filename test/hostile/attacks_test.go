package hostile

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// attack is one kind of attack. It runs until ctx ends, and does not care what becomes of its requests.
type attack struct {
	name string
	run  func(ctx context.Context, h *limitedHub)
}

var attacks = []attack{
	{"bodies for sessions that do not exist", bodiesWithoutSession},
	{"bodies that do not come", slowBodies},
	{"answers that nobody reads", unreadAnswers},
	{"floods that nobody reads", unreadFloods},
	{"large bodies for a server", largeBodies},
	{"sessions with large capabilities", manySessions},
	{"suspended calls of modern clients", suspendedCalls},
	{"clients with ever new names", manyNames},
	{"headers and batches", headersAndBatches},
	{"idle connections", idleConnections},
	{"children that die", dyingChildren},
	{"children that are deaf", deafChildren},
	{"web pages", webPages},
}

// every calls fn again and again, n at a time, with pauses.
func every(ctx context.Context, n int, pause time.Duration, fn func(worker, round int)) {
	var workers sync.WaitGroup
	for worker := range n {
		workers.Go(func() {
			for round := 0; ctx.Err() == nil; round++ {
				fn(worker, round)
				rest(ctx, pause)
			}
		})
	}
	workers.Wait()
}

// rest waits for d, or until ctx ends.
func rest(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// attacker returns a client with a session, or nil when ctx has ended.
func attacker(ctx context.Context, h *limitedHub) *client {
	for ctx.Err() == nil {
		c := newClient(h.listen)
		if c.initialize(ctx, "attacker", 10) == nil {
			return c
		}
		rest(ctx, 100*time.Millisecond)
	}
	return nil
}

// holdAll keeps connections open for a while and closes them.
func holdAll(ctx context.Context, d time.Duration, conns []net.Conn) {
	rest(ctx, d)
	for _, conn := range conns {
		if conn != nil {
			_ = conn.Close()
		}
	}
}

func bodiesWithoutSession(ctx context.Context, h *limitedHub) {
	message := body(1, "tools/call", call("shared__echo", arguments{Text: strings.Repeat("x", 4_000_000)}, ""))
	every(ctx, 30, 10*time.Millisecond, func(int, int) {
		c := newClient(h.listen)
		c.session = "aaaaaaaaaaaaaaaa.bbbbbbbbbbbbbbbbbbbbbbbbbb"
		if conn, _ := c.unread(message, len(message)); conn != nil {
			_ = conn.Close()
		}
	})
}

func slowBodies(ctx context.Context, h *limitedHub) {
	c := attacker(ctx, h)
	every(ctx, 1, 0, func(_, _ int) {
		var conns []net.Conn
		for i := range 40 {
			slow := newClient(h.listen) // half of them without a session
			if c != nil && i%2 == 0 {
				slow.session = c.session
			}
			conn, _ := slow.unread(strings.Repeat(" ", 500_000), 4_000_000)
			conns = append(conns, conn)
		}
		holdAll(ctx, 5*time.Second, conns)
	})
}

func unreadAnswers(ctx context.Context, h *limitedHub) {
	every(ctx, 2, 0, func(worker, _ int) {
		c := attacker(ctx, h)
		if c == nil {
			return
		}
		var conns []net.Conn
		for i := range 30 {
			size := []int{16 << 20, 8 << 20, 2 << 20}[i%3]
			message := body(i, "tools/call", call([]string{"shared", "own"}[worker]+"__long", arguments{Size: size}, ""))
			conn, _ := c.unread(message, len(message))
			conns = append(conns, conn)
		}
		holdAll(ctx, 10*time.Second, conns)
	})
}

func unreadFloods(ctx context.Context, h *limitedHub) {
	every(ctx, 2, 0, func(worker, _ int) {
		var conns []net.Conn
		for range 10 {
			c := attacker(ctx, h)
			if c == nil {
				return
			}
			params := call([]string{"shared", "own"}[worker]+"__flood", arguments{N: 500, Size: 32 << 10}, `"progressToken":1`)
			message := body(1, "tools/call", params)
			conn, _ := c.unread(message, len(message))
			conns = append(conns, conn)
		}
		holdAll(ctx, 10*time.Second, conns)
	})
}

func largeBodies(ctx context.Context, h *limitedHub) {
	message := body(1, "tools/call", call("shared__echo", arguments{Text: strings.Repeat("x", 3_000_000)}, ""))
	every(ctx, 2, 100*time.Millisecond, func(int, int) {
		if c := attacker(ctx, h); c != nil {
			_, _, _ = c.post(ctx, message)
		}
	})
}

func manySessions(ctx context.Context, h *limitedHub) {
	every(ctx, 4, 10*time.Millisecond, func(_, round int) {
		_ = newClient(h.listen).initialize(ctx, "attacker", []int{31 << 10, 7 << 10}[round%2])
	})
}

func suspendedCalls(ctx context.Context, h *limitedHub) {
	every(ctx, 4, 50*time.Millisecond, func(worker, round int) {
		c := newClient(h.listen)
		message := body(round, "tools/call", call("own__ask", arguments{Size: 100 << 10, Text: strings.Repeat("x", 500<<10)},
			fmt.Sprintf(modernMeta, fmt.Sprint("attacker ", worker))))
		_, _, _ = c.post(ctx, message, modernHeaders("own__ask")...)
	})
}

func manyNames(ctx context.Context, h *limitedHub) {
	every(ctx, 4, 5*time.Millisecond, func(worker, round int) {
		c := newClient(h.listen)
		_ = c.echo(ctx, round, "shared", fmt.Sprint("attacker ", worker, round, strings.Repeat("x", 200)), 10)
		c.http.CloseIdleConnections()
	})
}

func headersAndBatches(ctx context.Context, h *limitedHub) {
	every(ctx, 4, 50*time.Millisecond, func(int, int) {
		c := newClient(h.listen)
		_, _, _ = c.post(ctx, body(1, "ping", `{}`), "X-Long: "+strings.Repeat("x", 30<<10))
		_, _, _ = c.post(ctx, "["+strings.Repeat("{},", 1_000_000)+"{}]")
		message := body(1, "subscriptions/listen", fmt.Sprintf(`{"notifications":{"resourceSubscriptions":[%s""]},"_meta":{%s}}`,
			strings.Repeat(`"",`, 1_000_000), fmt.Sprintf(modernMeta, "attacker")))
		_, _, _ = c.post(ctx, message, "Mcp-Protocol-Version: 2026-07-28", "Mcp-Method: subscriptions/listen")
		c.http.CloseIdleConnections()
	})
}

func idleConnections(ctx context.Context, h *limitedHub) {
	every(ctx, 1, 0, func(int, int) {
		var conns []net.Conn
		for range 400 {
			conn, _ := net.DialTimeout("tcp", h.listen, time.Second)
			conns = append(conns, conn)
		}
		holdAll(ctx, 3*time.Second, conns)
	})
}

func dyingChildren(ctx context.Context, h *limitedHub) {
	c := attacker(ctx, h)
	every(ctx, 2, 10*time.Millisecond, func(_, round int) {
		if c != nil {
			same := client{address: c.address, session: c.session, http: c.http}
			_, _, _ = same.post(ctx, body(round, "tools/call", call("own__die", arguments{}, "")))
		}
	})
}

func deafChildren(ctx context.Context, h *limitedHub) {
	for range 3 {
		if c := attacker(ctx, h); c != nil {
			_ = c.echo(ctx, 1, "deaf", "attacker", 10)
		}
	}
}

func webPages(ctx context.Context, h *limitedHub) {
	every(ctx, 10, 50*time.Millisecond, func(worker, _ int) {
		url := []string{"http://" + h.admin + "/debug/pprof/profile?seconds=60", "http://" + h.listen + "/mcp"}[worker%2]
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return
		}
		request.Header.Set("Sec-Fetch-Site", "cross-site")
		request.Header.Set("Sec-Fetch-Mode", "no-cors")
		request.Header.Set("Sec-Fetch-Dest", "image")
		if response, err := http.DefaultClient.Do(request); err == nil {
			_ = response.Body.Close()
		}
	})
}
