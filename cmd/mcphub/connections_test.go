package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
)

// crowd is a server with few connections. Its handler waits for release, and reads bodies.
type crowd struct {
	t       *testing.T
	all     *connections
	address string
	release chan struct{}
	inside  sync.WaitGroup
}

func newCrowd(t *testing.T, limit, descriptor int) *crowd {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &crowd{t: t, all: newConnections("mcp", limit, descriptor, prometheus.NewRegistry()), address: l.Addr().String(),
		release: make(chan struct{})}
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadAll(r.Body)
		if r.URL.Path == "/wait" {
			<-c.release
		}
		if r.URL.Path == "/long" {
			_, _ = w.Write(make([]byte, 64<<20))
		}
		_, _ = io.WriteString(w, "ok")
	})}
	limited := c.all.serve(server, l)
	c.inside.Go(func() { _ = server.Serve(limited) })
	t.Cleanup(func() {
		close(c.release)
		_ = server.Close()
		c.inside.Wait()
	})
	return c
}

func (c *crowd) dial() net.Conn {
	c.t.Helper()
	conn, err := net.Dial("tcp", c.address)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	return conn
}

// request sends a request on conn and returns the status; 0 if the connection ends instead.
func (c *crowd) request(conn net.Conn, path string) int {
	c.t.Helper()
	_, _ = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}", path)
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0
	}
	_, _ = io.ReadAll(response.Body)
	_ = response.Body.Close()
	return response.StatusCode
}

// count returns the number of connections with that use.
func (c *crowd) count(of use) int {
	c.all.mu.Lock()
	defer c.all.mu.Unlock()
	n := 0
	for _, conn := range c.all.open {
		if conn.use == of {
			n++
		}
	}
	return n
}

func (c *crowd) await(n int, of use) {
	c.t.Helper()
	hubtest.Eventually(c.t, fmt.Sprintf("%d connections are %q", n, of), func() bool { return c.count(of) == n })
}

func isEnded(conn net.Conn) bool {
	_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	_, err := conn.Read(make([]byte, 1))
	return err != nil && !strings.Contains(err.Error(), "timeout")
}

func TestTheOldestIdleConnectionMakesRoomForANewOne(t *testing.T) {
	c := newCrowd(t, 4, 0)
	silent, first, second := c.dial(), c.dial(), c.dial()
	for _, conn := range []net.Conn{first, second} {
		if status := c.request(conn, "/"); status != http.StatusOK {
			t.Fatalf("status %d", status)
		}
	}
	c.await(2, idle)
	busy := c.dial()
	_, _ = fmt.Fprint(busy, "POST /wait HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
	c.await(1, working)
	for range 3 { // for the one that has sent nothing, and then for the two idle ones
		if status := c.request(c.dial(), "/"); status != http.StatusOK {
			t.Errorf("a new connection: %d", status)
		}
	}
	for name, conn := range map[string]net.Conn{"silent": silent, "first": first, "second": second} {
		if !isEnded(conn) {
			t.Errorf("the %s connection is open", name)
		}
	}
	c.await(1, working) // the busy one; the last new one becomes idle after its answer
	if n := testutil.ToFloat64(c.all.spared[unused]); n != 1 {
		t.Errorf("%v unused ones are counted", n)
	}
	if n := testutil.ToFloat64(c.all.spared[idle]); n != 2 {
		t.Errorf("%v idle ones are counted", n)
	}
}

func TestAConnectionWithoutARequestIsSparedOnlyAfterAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := newConnections("mcp", 1, 0, prometheus.NewRegistry())
		open := func() *clientConn {
			conn, _ := net.Pipe()
			return &clientConn{Conn: conn}
		}
		first, second, third := open(), open(), open()
		if !all.admit(first) {
			t.Fatal("there is no room for the first one")
		}
		begin := time.Now()
		if !all.admit(second) || time.Since(begin) != unusedAge {
			t.Errorf("the second one got in after %s, want %s", time.Since(begin), unusedAge)
		}
		all.changed(second, http.StateActive)
		all.changed(second, http.StateIdle)
		begin = time.Now()
		if !all.admit(third) || time.Since(begin) != idleAge {
			t.Errorf("the third one got in after %s, want %s", time.Since(begin), idleAge)
		}
	})
}

func TestAConnectionIsRefusedOnlyIfAllOthersWork(t *testing.T) {
	c := newCrowd(t, 2, 0)
	for range 2 {
		_, _ = fmt.Fprint(c.dial(), "POST /wait HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
	}
	c.await(2, working)
	response, err := http.ReadResponse(bufio.NewReader(c.dial()), nil)
	if err != nil || response.StatusCode != http.StatusServiceUnavailable || response.Header.Get("Retry-After") == "" {
		t.Fatalf("%v %v", response, err)
	}
	if text, err := io.ReadAll(response.Body); err != nil || !strings.Contains(string(text), "too many connections") {
		t.Errorf("%q %v", text, err)
	}
	if n := testutil.ToFloat64(c.all.refused); n != 1 {
		t.Errorf("%v refusals are counted", n)
	}
	if n := testutil.ToFloat64(c.all.active); n != 2 {
		t.Errorf("%v connections are counted", n)
	}
}

func TestAConnectionThatDoesNotSendItsBodyMakesRoom(t *testing.T) {
	c := newCrowd(t, 2, 0)
	for range 2 {
		conn := c.dial()
		_, _ = fmt.Fprint(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
	}
	c.await(2, sending)
	hubtest.Eventually(t, "a new connection gets in", func() bool { return c.request(c.dial(), "/") == http.StatusOK })
	c.await(1, sending)
	if n := testutil.ToFloat64(c.all.spared[sending]); n != 1 {
		t.Errorf("%v slow ones are counted", n)
	}
}

func TestAConnectionThatIsNotReadMakesRoom(t *testing.T) {
	c := newCrowd(t, 1, 0)
	conn := c.dial()
	_ = conn.(*net.TCPConn).SetReadBuffer(4 << 10)
	_, _ = fmt.Fprint(conn, "POST /long HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
	c.await(1, working)
	hubtest.Eventually(t, "a new connection gets in", func() bool { return c.request(c.dial(), "/") == http.StatusOK })
	if n := testutil.ToFloat64(c.all.spared[unread]); n != 1 {
		t.Errorf("%v unread ones are counted", n)
	}
}

func TestADescriptorBeyondTheReserveCountsAsFull(t *testing.T) {
	c := newCrowd(t, 1000, 1) // no descriptor is below 1
	if status := c.request(c.dial(), "/"); status != 0 && status != http.StatusServiceUnavailable {
		t.Errorf("the connection was accepted: %d", status)
	}
}

func TestDescriptorsAreDividedBetweenClientsOperatorsAndTheRest(t *testing.T) {
	for descriptors, want := range map[int]connectionPlan{
		0:       {1000, 125, 0, 0, 0},
		64:      {16, 4, 4, 16, 40},
		256:     {128, 16, 17, 128, 232},
		1024:    {512, 64, 84, 512, 1000},
		100_000: {1000, 125, 1608, 91_808, 99_976},
	} {
		if got := planConnections(1000, descriptors); got != want {
			t.Errorf("%d descriptors: %+v, want %+v", descriptors, got, want)
		}
	}
	if n := maxDescriptors(); n < 0 {
		t.Errorf("the process may have %d", n)
	}
}

func TestConnectionsThatEndAreForgotten(t *testing.T) {
	c := newCrowd(t, 10, 0)
	client := &http.Client{Transport: &http.Transport{}}
	ctx, cancel := context.WithCancel(t.Context())
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.address+"/wait", nil)
	if err != nil {
		t.Fatal(err)
	}
	failed := make(chan error, 1)
	go func() {
		response, err := client.Do(request)
		if err == nil {
			_ = response.Body.Close()
		}
		failed <- err
	}()
	c.await(1, streaming)
	cancel()
	if <-failed == nil {
		t.Error("the request got an answer")
	}
	c.dial().Close()
	c.release <- struct{}{}
	hubtest.Eventually(t, "no connection is left", func() bool { return testutil.ToFloat64(c.all.active) == 0 })
	c.all.mu.Lock()
	defer c.all.mu.Unlock()
	for use, left := range c.all.by {
		if left.Len() != 0 {
			t.Errorf("%d connections are %q", left.Len(), use)
		}
	}
}
