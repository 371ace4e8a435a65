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
	first, _ := s.Next() // has an id and no data
	s.NextData()
	last := s.NextData()
	hub.Kill()
	s.Drain()

	hub = hub.Restart()
	for _, id := range []string{first.ID, last.ID} {
		again := c.Stream(t.Context(), http.MethodGet, "", id)
		want := `{"jsonrpc":"2.0","id":"slow","error":{"code":-32603,` +
			`"message":"the outcome of the request is not known: the hub was restarted, or what it kept is gone"}}`
		if got := again.NextData().Data; got != want {
			t.Errorf("the answer is %s", got)
		}
		if e, ok := again.Next(); ok {
			t.Errorf("the stream goes on with %+v", e)
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
	s.NextData()
	id := s.NextData().ID
	progress := 2
	cancel()
	again := c.Stream(t.Context(), http.MethodGet, "", id)
	for data := again.NextData().Data; !strings.Contains(data, `"result"`); data = again.NextData().Data {
		if progress++; !strings.Contains(data, fmt.Sprintf(`"progress":%d`, progress)) {
			t.Fatalf("after %d steps came %q", progress-1, data)
		}
	}
	if e, more := again.Next(); progress != 10 || more {
		t.Errorf("%d steps came, then %+v", progress, e)
	}
}
