package gateway

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/gateway/stream"
	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/session"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

func TestAnExchangeTakesWhatBelongsToItsRequest(t *testing.T) {
	r := start(t, setup{})
	c := r.connect()
	c.post(pingBody)
	x := newExchange(t.Context(), c.live(), c.live().streamLog().NewPost(1, "1"))
	x.Notify(jsonMessage("notifications/tools/list_changed", `{}`))
	if len(x.out.Messages()) != 0 {
		t.Error("a change of a list, which the hub tells itself, is on the stream")
	}
	x.Notify(jsonMessage("notifications/message", `{"level":"info"}`))
	if len(x.out.Messages()) != 1 {
		t.Error("a log message is not on the stream")
	}
	for range 2 * stream.MaxQueuedMessages {
		x.Notify(jsonMessage("notifications/message", `{"level":"info"}`))
	}
	if got := r.dropped("slow_reader"); got != stream.MaxQueuedMessages+1 {
		t.Errorf("%v messages were dropped", got)
	}
	if _, err := x.Ask(t.Context(), jsonMessage("custom/ask", `{}`)); err == nil || !strings.Contains(err.Error(), "it does not read its stream") {
		t.Errorf("asked for: %v", err)
	}

	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "/", nil)
	if err != nil {
		t.Fatal(err)
	}
	x = newExchange(t.Context(), c.live(), c.live().streamLog().NewPost(1, "2"))
	x.finish(jsonMessage("", ""))
	r.gateway.sender.Respond(httptest.NewRecorder(), request, x.out, false)
	before := r.dropped("no_stream")
	x.Notify(jsonMessage("notifications/message", `{"level":"info"}`))
	if got := r.dropped("no_stream"); got != before+1 || len(x.out.Messages()) != 0 {
		t.Errorf("a message that nobody reads is kept")
	}
	if _, err := x.Ask(t.Context(), jsonMessage("custom/ask", `{}`)); err == nil || !strings.Contains(err.Error(), "it has no stream open") {
		t.Errorf("asked for: %v", err)
	}
}

func TestAServerStoppedByTheShutdownLeavesTheOutcomeUnknown(t *testing.T) {
	r := start(t, setup{})
	lost := fmt.Errorf("server %q %w", "one", upstream.ErrLost)
	if e := r.gateway.callError(lost, nil); e.Message != lost.Error() {
		t.Errorf("while it runs: %v", e)
	}
	r.gateway.Drain()
	if e := r.gateway.callError(lost, nil); !strings.Contains(e.Message, "whether the request was carried out is not known") {
		t.Errorf("while it stops: %v", e)
	}
	down := fmt.Errorf("server %q %w", "one", upstream.ErrDown)
	if e := r.gateway.callError(down, nil); e.Message != down.Error() {
		t.Errorf("a request that was not sent: %v", e)
	}
}

func TestACallThatTheHubHasEndedIsItsOwnDoingAndNoServers(t *testing.T) {
	r := start(t, setup{})
	lost := fmt.Errorf("server %q %w", "one", upstream.ErrLost)
	for _, x := range []struct {
		err, cause error
		want       instrument.Fault
	}{
		{lost, nil, instrument.FaultBackend},
		{lost, endedError{session.IdleTimeout}, instrument.FaultHub},
		{lost, endedError{session.ClientDelete}, instrument.FaultClient},
		{nil, endedError{session.IdleTimeout}, instrument.FaultNone}, // it was answered before
		{nil, endedError{session.ClientDelete}, instrument.FaultNone},
	} {
		if got := faultOf(jsonrpc.NewResult("1", nil), x.err, r.gateway.endCause(x.err, x.cause)); got != x.want {
			t.Errorf("%v, %v: the fault of %s, want %s", x.err, x.cause, got, x.want)
		}
	}
	r.gateway.Drain()
	if got := faultOf(jsonrpc.Message{}, lost, r.gateway.endCause(lost, nil)); got != instrument.FaultHub {
		t.Errorf("while it stops, a server that is lost is the fault of %s", got)
	}
}

// The calls of a session hear of its end by two ways, in either order.
func TestACallWhoseSessionEndsSaysSoHoweverItHears(t *testing.T) {
	spec := stdio(t, "one")
	spec.Isolation = upstream.PerSession
	r := start(t, setup{specs: []upstream.Spec{spec}})
	const n = 15
	for range n {
		c := r.connect()
		c.tool("one__echo", `{}`)
		answered := make(chan reply, 1)
		go func() { answered <- c.call("1", "tools/call", `{"name":"one__hang"}`) }()
		until(t, "the call is under way", func() bool { return r.metric("mcphub_requests_in_flight", "hop", "backend", "direction", "out") == 1 })
		if _, err := r.sessions.End(t.Context(), c.id, session.Admin); err != nil {
			t.Fatal(err)
		}
		<-answered
	}
	if got := r.metric("mcphub_operations_total", "fault", "hub", "mcp_method_name", "tools/call"); got != n {
		t.Errorf("%v of %d calls were ended by the hub; %v are the fault of servers, %v of clients", got, n,
			r.metric("mcphub_operations_total", "fault", "backend", "mcp_method_name", "tools/call"),
			r.metric("mcphub_operations_total", "fault", "client", "mcp_method_name", "tools/call"))
	}
}
