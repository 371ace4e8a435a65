package upstream

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/instrument/instrumenttest"
)

func TestMetricsHaveTheirNamesAndLabelSetsFromTheStart(t *testing.T) {
	t.Parallel()
	e := newEnv(t, Spec{Name: "s", Command: "x"})
	want := `
# HELP mcphub_backend_connects_total Attempts to connect to the server.
# TYPE mcphub_backend_connects_total counter
mcphub_backend_connects_total{mcphub_backend="s",outcome="error"} 0
mcphub_backend_connects_total{mcphub_backend="s",outcome="ok"} 0
# HELP mcphub_backend_restarts_total Connections to the server that were lost and had to be made again.
# TYPE mcphub_backend_restarts_total counter
mcphub_backend_restarts_total{mcphub_backend="s",reason="exited"} 0
mcphub_backend_restarts_total{mcphub_backend="s",reason="session_gone"} 0
mcphub_backend_restarts_total{mcphub_backend="s",reason="unreachable"} 0
# HELP mcphub_backend_session_checks_total Checks whether the server, which refused a request, has forgotten the session.
# TYPE mcphub_backend_session_checks_total counter
mcphub_backend_session_checks_total{mcphub_backend="s",outcome="alive"} 0
mcphub_backend_session_checks_total{mcphub_backend="s",outcome="gone"} 0
mcphub_backend_session_checks_total{mcphub_backend="s",outcome="unknown"} 0
# HELP mcphub_backend_sessions Connections to the server: processes or HTTP sessions.
# TYPE mcphub_backend_sessions gauge
mcphub_backend_sessions{mcphub_backend="s"} 0
# HELP mcphub_backend_sessions_left_total Sessions that the hub could not end at the server, by who opened them.
# TYPE mcphub_backend_sessions_left_total counter
mcphub_backend_sessions_left_total{mcphub_backend="s",opener="bridge"} 0
mcphub_backend_sessions_left_total{mcphub_backend="s",opener="hub"} 0
mcphub_backend_sessions_left_total{mcphub_backend="s",opener="probe"} 0
mcphub_backend_sessions_left_total{mcphub_backend="s",opener="session"} 0
mcphub_backend_sessions_left_total{mcphub_backend="s",opener="shared"} 0
# HELP mcphub_backend_sessions_open Processes and sessions that the hub holds open at the server, by who opened them.
# TYPE mcphub_backend_sessions_open gauge
mcphub_backend_sessions_open{mcphub_backend="s",opener="bridge"} 0
mcphub_backend_sessions_open{mcphub_backend="s",opener="hub"} 0
mcphub_backend_sessions_open{mcphub_backend="s",opener="probe"} 0
mcphub_backend_sessions_open{mcphub_backend="s",opener="session"} 0
mcphub_backend_sessions_open{mcphub_backend="s",opener="shared"} 0
# HELP mcphub_backend_streams_total Requests for the stream on which the server sends what belongs to no request.
# TYPE mcphub_backend_streams_total counter
mcphub_backend_streams_total{mcphub_backend="s",outcome="opened"} 0
mcphub_backend_streams_total{mcphub_backend="s",outcome="refused"} 0
# HELP mcphub_backend_tools Tools that the server listed last.
# TYPE mcphub_backend_tools gauge
mcphub_backend_tools{mcphub_backend="s"} 0
# HELP mcphub_backend_up Whether the server is connected and listed.
# TYPE mcphub_backend_up gauge
mcphub_backend_up{mcphub_backend="s"} 0
# HELP mcphub_requests_cancelled_total Requests that ended without a response, by the direction of the request.
# TYPE mcphub_requests_cancelled_total counter
mcphub_requests_cancelled_total{direction="in",hop="backend",reason="connection_lost"} 0
mcphub_requests_cancelled_total{direction="in",hop="backend",reason="other"} 0
mcphub_requests_cancelled_total{direction="in",hop="backend",reason="overload"} 0
mcphub_requests_cancelled_total{direction="in",hop="backend",reason="protocol_error"} 0
mcphub_requests_cancelled_total{direction="in",hop="backend",reason="withdrawn"} 0
mcphub_requests_cancelled_total{direction="out",hop="backend",reason="connection_lost"} 0
mcphub_requests_cancelled_total{direction="out",hop="backend",reason="other"} 0
mcphub_requests_cancelled_total{direction="out",hop="backend",reason="protocol_error"} 0
mcphub_requests_cancelled_total{direction="out",hop="backend",reason="session_gone"} 0
mcphub_requests_cancelled_total{direction="out",hop="backend",reason="timeout"} 0
mcphub_requests_cancelled_total{direction="out",hop="backend",reason="unreachable"} 0
mcphub_requests_cancelled_total{direction="out",hop="backend",reason="withdrawn"} 0
# HELP mcphub_requests_in_flight Requests that wait for their response, by the direction of the request.
# TYPE mcphub_requests_in_flight gauge
mcphub_requests_in_flight{direction="in",hop="backend"} 0
mcphub_requests_in_flight{direction="out",hop="backend"} 0
# HELP mcphub_unmatched_responses_total Answers and progress that belong to no request under way, and answers that found no way back.
# TYPE mcphub_unmatched_responses_total counter
mcphub_unmatched_responses_total{hop="backend",reason="overload"} 0
mcphub_unmatched_responses_total{hop="backend",reason="progress"} 0
mcphub_unmatched_responses_total{hop="backend",reason="question"} 0
mcphub_unmatched_responses_total{hop="backend",reason="response"} 0
`
	if err := testutil.GatherAndCompare(e.reg, strings.NewReader(want), "mcphub_backend_connects_total", "mcphub_backend_restarts_total",
		"mcphub_backend_session_checks_total", "mcphub_backend_sessions_open", "mcphub_backend_sessions_left_total",
		"mcphub_backend_sessions", "mcphub_backend_tools", "mcphub_backend_up", "mcphub_requests_cancelled_total", "mcphub_requests_in_flight",
		"mcphub_unmatched_responses_total"); err != nil {
		t.Error(err)
	}
	for _, direction := range []string{"in", "out"} {
		for _, kind := range []string{"request", "notification", "response", "error"} {
			instrumenttest.Value(t, e.reg, "mcphub_messages_total", "hop", "backend", "direction", direction, "kind", kind)
			instrumenttest.Value(t, e.reg, "mcphub_message_bytes_total", "hop", "backend", "direction", direction, "kind", kind)
		}
	}
}

func TestMetricsAreClean(t *testing.T) {
	t.Parallel()
	e := newEnv(t, newHTTPScript(t).spec())
	tool(t, e.connect(t, nil), "echo", "")
	problems, err := testutil.GatherAndLint(e.reg)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestBothHopsFitIntoOneRegistry(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	NewPool(nil, Config{Registerer: reg})
	instrument.NewMessages(reg, "downstream")
	instrument.NewUnmatched(reg, "downstream", "response")
	instrument.NewServerOperations(reg)
	instrument.NewClientOperations(reg)
	if _, err := reg.Gather(); err != nil {
		t.Error(err)
	}
}

func TestMessagesAndBytesAreCounted(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, spec Spec) {
		e := newEnv(t, spec)
		c := e.connect(t, nil)
		count := func(direction, kind string) float64 {
			return instrumenttest.Value(t, e.reg, "mcphub_messages_total", "direction", direction, "kind", kind)
		}
		requests, responses := count("out", "request"), count("in", "response")
		if requests != 1 || responses != 1 || count("out", "notification") != 1 { // the handshake
			t.Errorf("%v requests, %v responses", requests, responses)
		}
		bytes := instrumenttest.Value(t, e.reg, "mcphub_message_bytes_total", "direction", "out", "kind", "request")
		req := toolCall("ask", `{"text":"ping"}`)
		if _, err := c.Call(t.Context(), req); err != nil {
			t.Fatal(err)
		}
		tool(t, c, "absent", "")
		if count("out", "request") != 3 || count("in", "response") != 2 || count("in", "error") != 1 || count("in",
			"request") != 1 || count("out", "response") != 1 {
			t.Error("messages are not counted as they went")
		}
		want := bytes + float64(len(req.Params)+len(toolCall("absent", "").Params))
		if got := instrumenttest.Value(t, e.reg, "mcphub_message_bytes_total", "direction", "out", "kind", "request"); got != want {
			t.Errorf("%v bytes, want %v", got, want)
		}
	})
}

func TestCallsInFlightAreCounted(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, spec Spec) {
		e := newEnv(t, spec)
		c := e.connect(t, nil)
		done := make(chan error, 1)
		go func() {
			_, err := c.Call(t.Context(), toolCall("hold", `{"key":"k"}`))
			done <- err
		}()
		hubtest.Eventually(t, "the call is counted", func() bool { return instrumenttest.Value(t, e.reg, "mcphub_requests_in_flight") == 1 })
		tool(t, c, "release", `{"key":"k"}`)
		if err := wait(t, "the call returns", done); err != nil {
			t.Error(err)
		}
		if n := instrumenttest.Value(t, e.reg, "mcphub_requests_in_flight"); n != 0 {
			t.Errorf("%v calls are in flight", n)
		}
	})
}

func TestServerRequestsAndNotificationsAreMeasuredAsOperationsOfTheHub(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, spec Spec) {
		e := newEnv(t, spec)
		c := e.connect(t, nil)
		if _, err := c.Call(t.Context(), toolCall("ask", `{"text":"ping"}`)); err != nil {
			t.Fatal(err)
		}
		transport := c.tel.network
		hubtest.Eventually(t, "the request is measured", func() bool {
			return instrumenttest.Value(t, e.reg, "mcp_server_operation_duration_seconds", "network_transport", transport,
				"mcp_protocol_version", "2025-11-25", "gen_ai_tool_name", "") == 1
		})
		if n := instrumenttest.Value(t, e.reg, "mcp_client_operation_duration_seconds", "mcp_method_name",
			"notifications/initialized", "network_transport", transport); n != 1 {
			t.Errorf("%v notifications are measured", n)
		}
	})
}

func TestDurationOfAConnectionIsMeasuredAtItsEnd(t *testing.T) {
	t.Parallel()
	e := newEnv(t, childSpec(t, "script"))
	lives := func(kind string) float64 {
		return instrumenttest.Value(t, e.reg, "mcp_client_session_duration_seconds", "error_type", kind,
			"mcp_protocol_version", "2025-11-25", "mcphub_backend", "child")
	}
	closed, lost := e.connect(t, nil), e.connect(t, nil)
	if lives("") != 0 || lives(durationLost) != 0 || lives(durationSessionGone) != 0 {
		t.Error("a connection that is there is measured, or series are missing")
	}
	closed.close(true)
	if lives("") != 1 || lives(durationLost) != 0 {
		t.Errorf("%v closed, %v lost", lives(""), lives(durationLost))
	}
	_, _ = lost.Call(t.Context(), toolCall("crash", ""))
	hubtest.Eventually(t, "the loss is measured", func() bool { return lives(durationLost) == 1 })
	lost.close(true)
	if lives("") != 1 {
		t.Error("the lost connection is measured twice")
	}
}

func TestToolHeadersHaveToolsWithInvalidSchemas(t *testing.T) {
	t.Parallel()
	var p toolHeaders
	if p.has("a") {
		t.Error("there is a tool before there is a list")
	}
	p.set([]json.RawMessage{[]byte(`{"name":"a"}`),
		[]byte(`{"name":"b","inputSchema":{"properties":{"x":{"type":"string","x-mcp-header":"\u0000"}}}}`), []byte(`7`)})
	if !p.has("a") || !p.has("b") || p.has("c") {
		t.Error("tools are not listed")
	}
	p.set(nil)
	if p.has("a") {
		t.Error("a tool is listed that is gone")
	}
}
