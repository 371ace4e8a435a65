package upstream

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

func TestAFlightHasOneEndAndTheFirstCounts(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewPedanticRegistry()
	x := NewMessages(reg, "backend")
	request := jsonrpc.Message{ID: "1", Method: "ping"}
	messages := func(direction, kind string) float64 {
		return value(t, reg, "mcphub_messages_total", "hop", "backend", "direction", direction, "kind", kind)
	}
	inFlight := func() float64 { return value(t, reg, "mcphub_requests_in_flight", "direction", "out") }
	cancelled := func(reason CancelReason) float64 {
		return value(t, reg, "mcphub_requests_cancelled_total", "direction", "out", "reason", string(reason))
	}

	answered, given, unknown := x.Begin(Out, request), x.Begin(Out, request), x.Begin(Out, request)
	if messages("out", "request") != 3 || inFlight() != 3 {
		t.Errorf("%v requests, %v in flight", messages("out", "request"), inFlight())
	}
	answered.Answer(jsonrpc.NewResult("1", []byte(`{}`)))
	answered.Cancel(TimedOut)
	answered.Answer(jsonrpc.NewError("1", jsonrpc.ErrBatch))
	given.Cancel(TimedOut)
	given.Answer(jsonrpc.NewResult("1", []byte(`{}`)))
	unknown.Cancel(Overloaded) // is no reason in this direction
	if messages("in", "response") != 1 || messages("in", "error") != 0 || cancelled(TimedOut) != 1 || cancelled(Unexplained) != 1 || inFlight() != 0 {
		t.Errorf("%v responses, %v errors, %v and %v cancelled, %v in flight", messages("in", "response"), messages("in", "error"),
			cancelled(TimedOut), cancelled(Unexplained), inFlight())
	}
	var none Flight
	none.Answer(jsonrpc.NewResult("1", []byte(`{}`)))
	none.Cancel(TimedOut)
	if n := messages("in", "response"); n != 1 {
		t.Errorf("%v responses", n)
	}
}

func TestQuestionsAndNotificationsOfServersAreMeasuredAsOperationsOfTheHub(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, spec Spec) {
		e := newEnv(t, spec)
		c := e.connect(t, nil)
		if _, err := c.Call(t.Context(), toolCall("ask", `{"text":"ping"}`)); err != nil {
			t.Fatal(err)
		}
		transport := networkTransport(spec)
		eventually(t, "the question is measured", func() bool {
			return value(t, e.reg, "mcp_server_operation_duration_seconds", "network_transport", transport, "mcp_protocol_version", "2025-11-25", "gen_ai_tool_name", "") == 1
		})
		if n := value(t, e.reg, "mcp_client_operation_duration_seconds", "mcp_method_name", "notifications/initialized", "network_transport", transport); n != 1 {
			t.Errorf("%v notifications are measured", n)
		}
	})
}

func TestTheLifeOfAConnectionIsMeasuredAtItsEnd(t *testing.T) {
	t.Parallel()
	e := newEnv(t, childSpec(t, "script"))
	lives := func(kind string) float64 {
		return value(t, e.reg, "mcp_client_session_duration_seconds", "error_type", kind, "mcp_protocol_version", "2025-11-25", "mcphub_backend", "child")
	}
	closed, lost := e.connect(t, nil), e.connect(t, nil)
	if lives("") != 0 || lives(lifeLost) != 0 || lives(lifeGone) != 0 {
		t.Error("a connection that is there is measured, or series are missing")
	}
	closed.Close(true)
	if lives("") != 1 || lives(lifeLost) != 0 {
		t.Errorf("%v closed, %v lost", lives(""), lives(lifeLost))
	}
	_, _ = lost.Call(t.Context(), toolCall("crash", ""))
	eventually(t, "the loss is measured", func() bool { return lives(lifeLost) == 1 })
	lost.Close(true)
	if lives("") != 1 {
		t.Error("the lost connection is measured twice")
	}
}
