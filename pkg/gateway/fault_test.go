package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/gateway/observe"
	"github.com/mcphub-go/mcphub/pkg/hubtest"
	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/session"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

// A session that is not created is the fault of the client or of the hub, never that of a server.
func TestSessionThatIsNotCreatedIsTheFaultOfTheHubOrTheClient(t *testing.T) {
	for name, x := range map[string]struct {
		hub   setup
		fault instrument.Fault
	}{
		"a store that fails": {setup{store: &flakyStore{}}, instrument.FaultHub},
		"too many sessions":  {setup{sessions: func(c *session.Config) { c.MaxSessions = 1 }}, instrument.FaultHub},
		"too many sessions of the client": {setup{sessions: func(c *session.Config) { c.MaxSessionsPerClient = 1 }},
			instrument.FaultClient},
		"a client that is gone": {setup{}, instrument.FaultClient},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, x.hub)
			r.connect()
			if store, ok := r.store.(*flakyStore); ok {
				store.fails.Store(true)
				defer store.fails.Store(false)
			}
			ctx, leave := context.WithCancel(t.Context())
			defer leave()
			if name == "a client that is gone" {
				leave()
			}
			request := httptest.NewRequestWithContext(ctx, http.MethodPost, "/mcp", strings.NewReader(initializeBody))
			request.RemoteAddr = "127.0.0.1:1"
			request.Header.Set("Content-Type", "application/json")
			request.Header.Set("Accept", "application/json, text/event-stream")
			r.gateway.ServeHTTP(httptest.NewRecorder(), request)
			count := func(fault instrument.Fault) float64 {
				return r.metric("mcphub_operations_total", "fault", string(fault), "mcp_method_name", "initialize")
			}
			if count(x.fault) != 1 {
				t.Errorf("the fault is not %s: %v of the hub, %v of the client, %v of a server", x.fault,
					count(instrument.FaultHub), count(instrument.FaultClient), count(instrument.FaultBackend))
			}
		})
	}
}

func TestEveryRequestIsCountedByTheFaultOfItsOutcome(t *testing.T) {
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one"), absent("gone")}})
	c := r.connect()
	for _, x := range []struct {
		params string
		fault  instrument.Fault
	}{
		{`{"name":"one__echo"}`, instrument.FaultNone},
		{`{"name":"invented"}`, instrument.FaultClient},
		{`{"name":"one__fail"}`, instrument.FaultTool},
		{`{"name":"one__fail","arguments":{"error":{"code":-32000,"message":"no luck"}}}`, instrument.FaultBackend},
		{`{"name":"gone__x"}`, instrument.FaultBackend},
	} {
		count := func() float64 {
			return r.metric("mcphub_operations_total", "fault", string(x.fault), "mcp_method_name", "tools/call")
		}
		before := count()
		c.call("1", "tools/call", x.params)
		if after := count(); after != before+1 {
			t.Errorf("%s: faults of %s went from %v to %v", x.params, x.fault, before, after)
		}
	}
}

func TestCauseOfAServerLostWhileTheHubStopsIsTheStop(t *testing.T) {
	r := start(t, setup{})
	lost := fmt.Errorf("server %q %w", "one", upstream.ErrLost)
	ended := observe.EndedError{Reason: session.IdleTimeout}
	for _, cause := range []error{nil, ended} {
		if got := r.gateway.endCause(lost, cause); !errors.Is(got, cause) {
			t.Errorf("the cause %v becomes %v", cause, got)
		}
	}
	r.gateway.Drain()
	if got := r.gateway.endCause(lost, nil); !errors.Is(got, errStopping) {
		t.Errorf("while the hub stops, the cause is %v", got)
	}
	for _, x := range []struct{ err, cause error }{
		{nil, nil}, {nil, ended}, // answered
		{lost, observe.ErrClientCancelled},
		{context.Canceled, ended},
	} {
		if got := r.gateway.endCause(x.err, x.cause); !errors.Is(got, x.cause) || got == nil != (x.cause == nil) {
			t.Errorf("%v while the hub stops: the cause %v becomes %v", x.err, x.cause, got)
		}
	}
}

// The calls of a session learn of its end from their context and from their connection, in either order.
func TestCallOfAnEndedSessionIsTheFaultOfTheHub(t *testing.T) {
	spec := stdio(t, "one")
	spec.Isolation = upstream.PerSession
	r := start(t, setup{specs: []upstream.Spec{spec}})
	const n = 15
	for range n {
		c := r.connect()
		c.tool("one__echo", `{}`)
		answered := make(chan reply, 1)
		go func() { answered <- c.call("1", "tools/call", `{"name":"one__hang"}`) }()
		hubtest.Eventually(t, "the call is in flight", func() bool {
			return r.metric("mcphub_requests_in_flight", "hop", "backend", "direction", "out") == 1
		})
		if _, err := r.sessions.End(t.Context(), c.id, session.Admin); err != nil {
			t.Fatal(err)
		}
		<-answered
	}
	if got := r.metric("mcphub_operations_total", "fault", "hub", "mcp_method_name", "tools/call"); got != n {
		t.Errorf("%v of %d calls are the fault of the hub, %v of servers, %v of clients", got, n,
			r.metric("mcphub_operations_total", "fault", "backend", "mcp_method_name", "tools/call"),
			r.metric("mcphub_operations_total", "fault", "client", "mcp_method_name", "tools/call"))
	}
}
