package instrument

import (
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

// CancelReason says why a request ended without a response.
type CancelReason string

// The reasons.
const (
	Withdrawn      CancelReason = "withdrawn"       // whoever sent it took it back
	Disconnected   CancelReason = "disconnect"      // the client went away, and that ends the request
	TimedOut       CancelReason = "timeout"         // nobody answered in time
	SessionEnded   CancelReason = "session_end"     // the client's session ended before the client answered
	ConnectionLost CancelReason = "connection_lost" // with the server, before the answer
	Unreachable    CancelReason = "unreachable"     // the server was, so that the request was not sent
	SessionGone    CancelReason = "session_gone"    // the server does not know its session any more; the request is sent again
	ProtocolError  CancelReason = "protocol_error"  // what came was no answer, or the question must not be asked
	Overloaded     CancelReason = "overload"        // too many answers wait to be sent
	Unexplained    CancelReason = "other"
)

// cancelReasons are the reasons for which requests of a hop in one direction
// end. All of them are counted from the start.
func cancelReasons(hop string, d Direction) []CancelReason {
	switch {
	case hop == "downstream" && d == In:
		return []CancelReason{Withdrawn, Disconnected, Unexplained}
	case hop == "downstream":
		return []CancelReason{Withdrawn, Disconnected, TimedOut, SessionEnded, Unexplained}
	case d == In:
		return []CancelReason{Withdrawn, ConnectionLost, ProtocolError, Overloaded, Unexplained}
	}
	return []CancelReason{Withdrawn, TimedOut, ConnectionLost, Unreachable, SessionGone, ProtocolError, Unexplained}
}

// Flight is a request that was counted and has one end, which is counted with
// it: its response, or that there is none. The first end counts. The zero Flight
// is none, and nothing is counted of it. A Flight must not be copied once
// it may end.
type InFlight struct {
	messages  *Messages
	direction Direction
	over      bool
}

// Begin counts a request, which is in flight from now on.
func (x *Messages) Begin(d Direction, request jsonrpc.Message) InFlight {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.add(d, request)
	x.inFlight[d]++
	return InFlight{messages: x, direction: d}
}

// Answer ends the flight with its response, and counts that.
func (f *InFlight) Answer(response jsonrpc.Message) {
	if x := f.land(); x != nil {
		defer x.mu.Unlock()
		x.add(1-f.direction, response)
	}
}

// Cancel ends the flight without a response.
func (f *InFlight) Cancel(reason CancelReason) {
	x := f.land()
	if x == nil {
		return
	}
	defer x.mu.Unlock()
	if _, known := x.cancelled[f.direction][reason]; !known {
		reason = Unexplained
	}
	x.cancelled[f.direction][reason]++
}

// land returns where the end is to be counted, locked; nil if there is nothing
// to count.
func (f *InFlight) land() *Messages {
	x := f.messages
	if x == nil {
		return nil
	}
	x.mu.Lock()
	if f.over {
		x.mu.Unlock()
		return nil
	}
	f.over = true
	x.inFlight[f.direction]--
	return x
}
