package instrument

import (
	"slices"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mcphub-go/mcphub/pkg/instrument/instrumenttest"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

func TestInFlightCountsItsFirstEndOnly(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewPedanticRegistry()
	m := NewMessages(reg, "backend")
	request := jsonrpc.Message{ID: "1", Method: "ping"}
	messages := func(direction, kind string) float64 {
		return instrumenttest.Value(t, reg, "mcphub_messages_total", "hop", "backend", "direction", direction, "kind", kind)
	}
	inFlight := func() float64 { return instrumenttest.Value(t, reg, "mcphub_requests_in_flight", "direction", "out") }
	cancelled := func(reason CancelReason) float64 {
		return instrumenttest.Value(t, reg, "mcphub_requests_cancelled_total", "direction", "out", "reason", string(reason))
	}

	answered, timedOut, unknown := m.Begin(Out, request), m.Begin(Out, request), m.Begin(Out, request)
	if messages("out", "request") != 3 || inFlight() != 3 {
		t.Errorf("%v requests, %v in flight", messages("out", "request"), inFlight())
	}
	answered.Answer(jsonrpc.NewResult("1", []byte(`{}`)))
	answered.Cancel(TimedOut)
	answered.Answer(jsonrpc.NewError("1", jsonrpc.ErrBatch))
	timedOut.Cancel(TimedOut)
	timedOut.Answer(jsonrpc.NewResult("1", []byte(`{}`)))
	unknown.Cancel(Overloaded) // not a reason of this direction
	if messages("in", "response") != 1 || messages("in", "error") != 0 || cancelled(TimedOut) != 1 ||
		cancelled(Unexplained) != 1 || inFlight() != 0 {
		t.Errorf("%v responses, %v errors, %v and %v cancelled, %v in flight", messages("in", "response"), messages("in", "error"),
			cancelled(TimedOut), cancelled(Unexplained), inFlight())
	}
	var none InFlight
	none.Answer(jsonrpc.NewResult("1", []byte(`{}`)))
	none.Cancel(TimedOut)
	if n := messages("in", "response"); n != 1 {
		t.Errorf("%v responses", n)
	}
}

func TestCancelReasonsDependOnWhoSendsTheRequest(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		hop  string
		d    Direction
		want []CancelReason
	}{
		{HopDownstream, In, []CancelReason{Disconnected, Unexplained, Withdrawn}},
		{HopDownstream, Out, []CancelReason{Disconnected, Unexplained, SessionEnded, TimedOut, Withdrawn}},
		{HopBackend, In, []CancelReason{ConnectionLost, Unexplained, Overloaded, ProtocolError, Withdrawn}},
		{HopBackend, Out, []CancelReason{ConnectionLost, Unexplained, ProtocolError, SessionGone, TimedOut, Unreachable, Withdrawn}},
	} {
		if got := cancelReasons(test.hop, test.d); !slices.Equal(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(test.want))) {
			t.Errorf("%s %v: %v, want %v", test.hop, test.d, got, test.want)
		}
	}
}
