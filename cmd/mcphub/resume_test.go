package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// stream opens a stream and returns its lines, which end with it.
func (c *rawClient) stream(ctx context.Context, method, body, last string) *bufio.Scanner {
	c.t.Helper()
	r, err := http.NewRequestWithContext(ctx, method, c.url, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json, text/event-stream")
	r.Header.Set("Mcp-Session-Id", c.token)
	if last != "" {
		r.Header.Set("Last-Event-ID", last)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { response.Body.Close() })
	if kind := response.Header.Get("Content-Type"); response.StatusCode != http.StatusOK || kind != "text/event-stream" {
		b, _ := io.ReadAll(response.Body)
		c.t.Fatalf("not a stream: %d %s %s", response.StatusCode, kind, b)
	}
	return bufio.NewScanner(response.Body)
}

// field returns the value of the next line of that name; "" at the end of the
// stream.
func field(lines *bufio.Scanner, name string) string {
	for lines.Scan() {
		if value, ok := strings.CutPrefix(lines.Text(), name+": "); ok && value != "" {
			return value
		}
	}
	return ""
}

// slowCall takes ten steps a second.
func slowCall(seconds int) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":"slow","method":"tools/call","params":{"name":"demo__slow","arguments":{"seconds":%d,"steps":%d},"_meta":{"progressToken":1}}}`, seconds, 10*seconds)
}

func TestARequestThatAKill9InterruptedIsAnswered(t *testing.T) {
	hub := startHub(t, demoConfig, t.TempDir())
	c := connect(t, hub.url())
	s := c.stream(t.Context(), http.MethodPost, slowCall(10), "")
	first := field(s, "id")
	field(s, "data")
	last := field(s, "id")
	hub.kill()
	for s.Scan() { // to its end
	}

	hub = startHubAt(t, hub.listen, hub.side, demoConfig, hub.dataDir)
	for _, id := range []string{first, last} {
		again := c.stream(t.Context(), http.MethodGet, "", id)
		want := `{"jsonrpc":"2.0","id":"slow","error":{"code":-32603,"message":"the outcome of the request is not known: the hub was restarted, or what it kept is gone"}}`
		if got := field(again, "data"); got != want {
			t.Errorf("the answer is %s", got)
		}
		if again.Scan() && again.Text() != "" {
			t.Errorf("the stream goes on with %q", again.Text())
		}
	}
	if a := c.request("tools/call", `{"name":"demo__add","arguments":{"a":1,"b":2}}`); !strings.Contains(string(a.Result), `"sum":3`) {
		t.Errorf("the session answers %s %s", a.Result, a.Error)
	}
	if n := hub.metric(`mcphub_streams_resumed_total{outcome="unknown",stream="post_sse"}`); n != "2" {
		t.Errorf("%s unknown streams were counted", n)
	}
}

func TestACallGoesOnWithoutItsClient(t *testing.T) {
	hub := startHub(t, demoConfig, t.TempDir())
	c := connect(t, hub.url())
	ctx, cancel := context.WithCancel(t.Context())
	s := c.stream(ctx, http.MethodPost, slowCall(1), "")
	field(s, "data")
	progress := 0
	id := field(s, "id")
	_ = field(s, "data")
	progress += 2
	cancel()
	again := c.stream(t.Context(), http.MethodGet, "", id)
	for data := field(again, "data"); ; data = field(again, "data") {
		if strings.Contains(data, `"result"`) {
			break
		}
		if progress++; !strings.Contains(data, fmt.Sprintf(`"progress":%d`, progress)) {
			t.Fatalf("%d steps were heard of, then came %q", progress-1, data)
		}
	}
	if progress != 10 || field(again, "data") != "" {
		t.Errorf("%d steps were heard of, or the stream goes on", progress)
	}
}
