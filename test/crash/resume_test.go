package crash

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
)

// slowCall takes ten steps a second.
func slowCall(seconds int) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":"slow","method":"tools/call","params":{"name":"demo__slow",`+
		`"arguments":{"seconds":%d,"steps":%d},"_meta":{"progressToken":1}}}`, seconds, 10*seconds)
}

func TestARequestThatAKill9InterruptedIsAnswered(t *testing.T) {
	hub := hubtest.StartHub(t, hubtest.Options{Config: hubtest.DemoConfig})
	c := hubtest.Connect(t, hub.URL())
	s := c.Stream(t.Context(), http.MethodPost, slowCall(10), "")
	first := hubtest.NextField(s, "id")
	hubtest.NextField(s, "data")
	last := hubtest.NextField(s, "id")
	hub.Kill()
	for s.Scan() { // to its end
	}

	hub = hub.Restart()
	for _, id := range []string{first, last} {
		again := c.Stream(t.Context(), http.MethodGet, "", id)
		want := `{"jsonrpc":"2.0","id":"slow","error":{"code":-32603,` +
			`"message":"the outcome of the request is not known: the hub was restarted, or what it kept is gone"}}`
		if got := hubtest.NextField(again, "data"); got != want {
			t.Errorf("the answer is %s", got)
		}
		if again.Scan() && again.Text() != "" {
			t.Errorf("the stream goes on with %q", again.Text())
		}
	}
	if a := c.Request("tools/call", `{"name":"demo__add","arguments":{"a":1,"b":2}}`); !strings.Contains(string(a.Result), `"sum":3`) {
		t.Errorf("the session answers %s %s", a.Result, a.Error)
	}
	if n := hub.Metric(`mcphub_streams_resumed_total{outcome="unknown",stream="post_sse"}`); n != "2" {
		t.Errorf("%s unknown streams were counted", n)
	}
}

func TestACallGoesOnWithoutItsClient(t *testing.T) {
	hub := hubtest.StartHub(t, hubtest.Options{Config: hubtest.DemoConfig})
	c := hubtest.Connect(t, hub.URL())
	ctx, cancel := context.WithCancel(t.Context())
	s := c.Stream(ctx, http.MethodPost, slowCall(1), "")
	hubtest.NextField(s, "data")
	progress := 0
	id := hubtest.NextField(s, "id")
	_ = hubtest.NextField(s, "data")
	progress += 2
	cancel()
	again := c.Stream(t.Context(), http.MethodGet, "", id)
	for data := hubtest.NextField(again, "data"); ; data = hubtest.NextField(again, "data") {
		if strings.Contains(data, `"result"`) {
			break
		}
		if progress++; !strings.Contains(data, fmt.Sprintf(`"progress":%d`, progress)) {
			t.Fatalf("%d steps were heard of, then came %q", progress-1, data)
		}
	}
	if progress != 10 || hubtest.NextField(again, "data") != "" {
		t.Errorf("%d steps were heard of, or the stream goes on", progress)
	}
}
