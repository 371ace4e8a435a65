package gateway

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

// text returns an argument of that many bytes.
func text(n int) string { return `{"x":"` + strings.Repeat("x", n) + `"}` }

// neverEnding is a body whose bytes do not come.
type neverEnding struct{ closed chan struct{} }

func (b neverEnding) Read([]byte) (int, error) {
	<-b.closed
	return 0, io.ErrUnexpectedEOF
}

func TestTheBodyOfARequestForNoSessionIsNotAwaited(t *testing.T) {
	r := start(t, setup{})
	for name, length := range map[string]int64{"announced": 1 << 20, "chunked": -1} {
		body := neverEnding{make(chan struct{})}
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.url, body)
		if err != nil {
			t.Fatal(err)
		}
		request.ContentLength = length
		for header, value := range map[string]string{"Content-Type": "application/json", "Accept": "*/*",
			"Mcp-Session-Id": "aaaaaaaaaaaaaaaa.wrong"} {
			request.Header.Set(header, value)
		}
		response, err := r.client.Do(request)
		close(body.closed)
		if err != nil || response.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %v %v", name, response, err)
			continue
		}
		_ = response.Body.Close()
	}
	p := r.send(http.MethodPost, request(`"my id"`, "ping", `{}`), "Mcp-Session-Id: aaaaaaaaaaaaaaaa.wrong")
	if p.status != http.StatusNotFound || p.response(t).ID != `"my id"` {
		t.Errorf("the answer to a short request is %d %s", p.status, p.body)
	}
}

func TestABodyTakesTheMemoryThatHasArrived(t *testing.T) {
	r := start(t, setup{})
	c := r.connect()
	conn, err := net.Dial("tcp", r.server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_, _ = fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAccept: */*\r\n"+
		"Mcp-Session-Id: %s\r\nContent-Length: 4000000\r\n\r\n%s", c.token, strings.Repeat(" ", 100<<10))
	hubtest.Eventually(t, "the bytes that have arrived are counted", func() bool {
		used := c.live().memory.Used()
		return used > 100<<10 && used <= 256<<10
	})
	_ = conn.Close()
	hubtest.Eventually(t, "the memory is given back", func() bool { return r.memory.Used() == 0 })
}

func TestASessionOverItsShareGetsErrorsAndTheOthersAnswers(t *testing.T) {
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one")}, memory: 8 << 20})
	hog, other := r.connect(), r.connect()
	modern := r.modern(`{}`)
	account := hog.live().memory
	account.Force(5 << 20)
	p := hog.call("1", "tools/call", `{"name":"one__echo"}`)
	if e := p.rpcError(t); p.status != http.StatusOK || p.response(t).ID != "1" || !strings.Contains(e.Message, "limits.memory") {
		t.Errorf("the session over its share: %d %s", p.status, p.body)
	}
	batch := r.connectWith(strings.Replace(initializeBody, "2025-11-25", "2025-03-26", 1))
	batch.live().memory.Force(1)
	if p := batch.post(`[` + pingBody + `]`); p.status != http.StatusOK || strings.Contains(p.body, "error") {
		t.Errorf("a batch of another session: %d %s", p.status, p.body)
	}
	batch.live().memory.Release(1)
	if p := other.call("1", "tools/call", `{"name":"one__echo","arguments":`+text(100<<10)+`}`); p.response(t).Error != nil {
		t.Errorf("another session: %s", p.body)
	}
	if p := modern.tool("1", "one__echo", text(100<<10)); p.response(t).Error != nil {
		t.Errorf("a modern client: %s", p.body)
	}
	r.connect() // a new session
	account.Release(5 << 20)
	if p := hog.call("2", "tools/call", `{"name":"one__echo"}`); p.response(t).Error != nil {
		t.Errorf("the session under its share again: %s", p.body)
	}
}

func TestAnAnswerWithoutMemoryBecomesAnError(t *testing.T) {
	for _, isolation := range []upstream.Isolation{upstream.Shared, upstream.PerSession} {
		t.Run(string(isolation), func(t *testing.T) {
			one := stdio(t, "one")
			one.Isolation = isolation
			r := start(t, setup{specs: []upstream.Spec{one}, memory: 3 << 20})
			for name, call := range map[string]func(size int) reply{
				"legacy": func(size int) reply {
					return r.connect().call("1", "tools/call", `{"name":"one__fail","arguments":{"error":{"code":1,"message":"x","data":`+text(size)+`}}}`)
				},
				"modern": func(size int) reply {
					return r.modern(`{}`).tool("1", "one__fail", `{"error":{"code":1,"message":"x","data":`+text(size)+`}}`)
				},
			} {
				if p := call(100 << 10); p.rpcError(t).Code != 1 {
					t.Errorf("%s: the answer that fits is %d %.200s", name, p.status, p.body)
				}
				if e := call(500 << 10).rpcError(t); e.Code == 1 || !strings.Contains(e.Message, "limits.memory") {
					t.Errorf("%s: the answer that does not fit is %v", name, e)
				}
			}
		})
	}
}

func TestWhenTheWholeMemoryIsUsedRequestsComeAgainLater(t *testing.T) {
	r := start(t, setup{memory: 8 << 20})
	c, modern := r.connect(), r.modern(`{}`)
	hogs := r.memory.Account()
	hogs.Force(8 << 20)
	for name, p := range map[string]reply{
		"legacy":     c.call("1", "ping", `{}`),
		"initialize": r.send(http.MethodPost, initializeBody),
		"modern":     modern.call("1", "tools/list", `{}`),
	} {
		if p.status != http.StatusServiceUnavailable || p.header.Get("Retry-After") == "" || !strings.Contains(p.body, "limits.memory") {
			t.Errorf("%s: %d %s", name, p.status, p.body)
		}
	}
	hogs.Release(2 << 10)
	if p := c.call("1", "ping", `{}`); p.status != http.StatusServiceUnavailable || p.header.Get("Retry-After") == "" ||
		p.response(t).ID != "1" {
		t.Errorf("almost all is used: %d %s", p.status, p.body)
	}
	hogs.Release(8<<20 - 2<<10)
	if p := c.call("1", "ping", `{}`); p.status != http.StatusOK {
		t.Errorf("later: %d %s", p.status, p.body)
	}
}

func TestUnreadAnswersOfOneSessionTakeItsShareOnly(t *testing.T) {
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one")}, memory: 32 << 20})
	hog, other := r.connect(), r.connect()
	body := `{"name":"one__echo","arguments":` + text(3<<20) + `}`
	for i := range 30 {
		conn, err := net.Dial("tcp", r.server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		_ = conn.(*net.TCPConn).SetReadBuffer(4 << 10)
		message := request(fmt.Sprint(i), "tools/call", body)
		_, _ = fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAccept: */*\r\n"+
			"Mcp-Session-Id: %s\r\nContent-Length: %d\r\n\r\n%s", hog.token, len(message), message)
		if used := hog.live().memory.Used(); used > 32<<20/3 {
			t.Fatalf("after %d calls the session has %d bytes", i, used)
		}
		if p := other.call("1", "tools/call", `{"name":"one__echo","arguments":`+text(100<<10)+`}`); p.response(t).Error != nil {
			t.Fatalf("another session after %d calls: %s", i, p.body)
		}
	}
}

func TestAnswersToSuspendedCallsTakeMemoryUntilTheyAreOver(t *testing.T) {
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one")}})
	c := r.modern(canElicit)
	p := c.tool("1", "one__request", `{"method":"elicitation/create","params":{"message":"`+strings.Repeat("x", 200<<10)+`"}}`)
	if !strings.Contains(p.body, `"input_required"`) {
		t.Fatalf("%d %.200s", p.status, p.body)
	}
	if used := r.memory.Used(); used < 200<<10 {
		t.Errorf("the suspended call takes %d bytes", used)
	}
	r.gateway.Drain()
	hubtest.Eventually(t, "the memory is given back", func() bool { return r.memory.Used() == 0 })
}

func TestNotificationsForASubscriptionTakeMemoryUntilTheyAreWritten(t *testing.T) {
	var x subscriptionMemory
	r := start(t, setup{memory: 1 << 20})
	account := r.memory.Account()
	x.held.On(account)
	for range 3 {
		if !x.add(90 << 10) {
			t.Fatal("there is no memory for a message")
		}
	}
	if x.add(90 << 10) {
		t.Error("a fourth message fits")
	}
	x.remove(90 << 10)
	if !x.add(90 << 10) {
		t.Error("what was written still takes memory")
	}
	x.close()
	x.remove(90 << 10)
	if x.add(1) || account.Used() != 0 {
		t.Errorf("%d bytes are used after the end", account.Used())
	}
}
