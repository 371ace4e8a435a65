package gateway

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/upstream"
)

func TestExchangeSendsTheMessagesOfItsRequest(t *testing.T) {
	r := start(t, setup{})
	c := r.connect()
	c.post(pingBody)
	x := newExchange(t.Context(), c.live(), c.live().streamLog().NewPost(1, "1"))
	x.Notify(jsonMessage("notifications/tools/list_changed", `{}`))
	if len(x.out.Messages()) != 0 {
		t.Error("list_changed, which the hub sends itself, is on the stream")
	}
	x.Notify(jsonMessage("notifications/message", `{"level":"info"}`))
	if len(x.out.Messages()) != 1 {
		t.Error("a log message is not on the stream")
	}
	for range 2 * maxQueuedMessages {
		x.Notify(jsonMessage("notifications/message", `{"level":"info"}`))
	}
	if got := r.dropped("slow_reader"); got != maxQueuedMessages+1 {
		t.Errorf("%v messages were dropped", got)
	}
	if _, err := x.Ask(t.Context(), jsonMessage("custom/ask", `{}`)); err == nil ||
		!strings.Contains(err.Error(), "it does not read its stream") {
		t.Errorf("the server request: %v", err)
	}

	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "/", nil)
	if err != nil {
		t.Fatal(err)
	}
	x.finish(jsonMessage("", ""))
	r.gateway.sender.Respond(httptest.NewRecorder(), request, x.out, false)

	x = newExchange(t.Context(), c.live(), c.live().streamLog().NewPost(1, "2"))
	x.finish(jsonMessage("", ""))
	r.gateway.sender.Respond(httptest.NewRecorder(), request, x.out, false)
	before := r.dropped("no_stream")
	x.Notify(jsonMessage("notifications/message", `{"level":"info"}`))
	if got := r.dropped("no_stream"); got != before+1 || len(x.out.Messages()) != 0 {
		t.Errorf("a message for a stream without reader is kept")
	}
	if _, err := x.Ask(t.Context(), jsonMessage("custom/ask", `{}`)); err == nil ||
		!strings.Contains(err.Error(), "it has no stream open") {
		t.Errorf("the server request: %v", err)
	}
}

func TestServerStoppedByTheShutdownLeavesTheOutcomeUnknown(t *testing.T) {
	r := start(t, setup{})
	lost := fmt.Errorf("server %q %w", "one", upstream.ErrLost)
	if e := r.gateway.callError(lost, nil); e.Message != lost.Error() {
		t.Errorf("while the hub runs: %v", e)
	}
	r.gateway.Drain()
	if e := r.gateway.callError(lost, nil); !strings.Contains(e.Message, "whether the request was carried out is not known") {
		t.Errorf("while the hub stops: %v", e)
	}
	down := fmt.Errorf("server %q %w", "one", upstream.ErrDown)
	if e := r.gateway.callError(down, nil); e.Message != down.Error() {
		t.Errorf("a request that was not sent: %v", e)
	}
}
