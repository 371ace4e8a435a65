package upstream

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
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
# HELP mcphub_backend_sessions Connections to the server: processes or HTTP sessions.
# TYPE mcphub_backend_sessions gauge
mcphub_backend_sessions{mcphub_backend="s"} 0
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
		"mcphub_backend_sessions", "mcphub_backend_tools", "mcphub_backend_up", "mcphub_requests_cancelled_total", "mcphub_requests_in_flight",
		"mcphub_unmatched_responses_total"); err != nil {
		t.Error(err)
	}
	for _, direction := range []string{"in", "out"} {
		for _, kind := range []string{"request", "notification", "response", "error"} {
			value(t, e.reg, "mcphub_messages_total", "hop", "backend", "direction", direction, "kind", kind)
			value(t, e.reg, "mcphub_message_bytes_total", "hop", "backend", "direction", direction, "kind", kind)
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
	NewMessages(reg, "downstream")
	NewUnmatched(reg, "downstream", "response")
	NewServerOperations(reg)
	NewClientOperations(reg)
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
			return value(t, e.reg, "mcphub_messages_total", "direction", direction, "kind", kind)
		}
		requests, responses := count("out", "request"), count("in", "response")
		if requests != 1 || responses != 1 || count("out", "notification") != 1 { // the handshake
			t.Errorf("%v requests, %v responses", requests, responses)
		}
		bytes := value(t, e.reg, "mcphub_message_bytes_total", "direction", "out", "kind", "request")
		req := toolCall("ask", `{"text":"ping"}`)
		if _, err := c.Call(t.Context(), req); err != nil {
			t.Fatal(err)
		}
		tool(t, c, "absent", "")
		if count("out", "request") != 3 || count("in", "response") != 2 || count("in", "error") != 1 || count("in", "request") != 1 || count("out", "response") != 1 {
			t.Error("messages are not counted as they went")
		}
		want := bytes + float64(len(req.Params)+len(toolCall("absent", "").Params))
		if got := value(t, e.reg, "mcphub_message_bytes_total", "direction", "out", "kind", "request"); got != want {
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
		eventually(t, "the call is counted", func() bool { return value(t, e.reg, "mcphub_requests_in_flight") == 1 })
		tool(t, c, "release", `{"key":"k"}`)
		if err := wait(t, "the call returns", done); err != nil {
			t.Error(err)
		}
		if n := value(t, e.reg, "mcphub_requests_in_flight"); n != 0 {
			t.Errorf("%v calls are in flight", n)
		}
	})
}
