package instrument

import "github.com/mcphub-go/mcphub/pkg/jsonrpc"

// CancelReason is the reason why a request ended without a response.
type CancelReason string

// The reasons.
const (
	Withdrawn      CancelReason = "withdrawn"       // the sender cancelled the request
	Disconnected   CancelReason = "disconnect"      // the client disconnected, which cancels the request
	TimedOut       CancelReason = "timeout"         // no response arrived in time
	SessionEnded   CancelReason = "session_end"     // the client's session ended before the client responded
	ConnectionLost CancelReason = "connection_lost" // the connection with the server ended before the response
	Unreachable    CancelReason = "unreachable"     // the server was unreachable, so the request was not sent
	SessionGone    CancelReason = "session_gone"    // the server does not know its session any more; the request is sent again
	ProtocolError  CancelReason = "protocol_error"  // the response was invalid, or the server must not send this request
	Overloaded     CancelReason = "overload"        // too many responses wait to be sent
	Unexplained    CancelReason = "other"
)

// requests is a set of kinds of requests, by who sends them to whom.
type requests int

const (
	fromClients requests = 1 << iota
	toClients
	fromServers
	toServers
)

// possible says for which requests each reason is possible. Their counters exist from the start; another reason counts as
// Unexplained.
var possible = map[CancelReason]requests{
	Withdrawn:      fromClients | toClients | fromServers | toServers,
	Disconnected:   fromClients | toClients,
	TimedOut:       toClients | toServers,
	SessionEnded:   toClients,
	ConnectionLost: fromServers | toServers,
	Unreachable:    toServers,
	SessionGone:    toServers,
	ProtocolError:  fromServers | toServers,
	Overloaded:     fromServers,
	Unexplained:    fromClients | toClients | fromServers | toServers,
}

// cancelReasons returns the reasons that are possible for the requests of a hop in one direction.
func cancelReasons(hop string, d Direction) (reasons []CancelReason) {
	kind := map[string][2]requests{HopDownstream: {In: fromClients, Out: toClients}, HopBackend: {In: fromServers, Out: toServers}}[hop][d]
	for reason, of := range possible {
		if of&kind != 0 {
			reasons = append(reasons, reason)
		}
	}
	return reasons
}

// InFlight is a counted request that has not ended yet. It ends once, with its response or without one, and the end is
// counted; later calls of Answer and Cancel do nothing. The zero InFlight stands for no request, and its methods do
// nothing. An InFlight must not be copied once Answer or Cancel may be called. Its methods may be called concurrently.
type InFlight struct {
	messages  *Messages
	direction Direction // of the request
	ended     bool      // guarded by messages.mu
}

// Begin counts a request, which is in flight until Answer or Cancel is called.
func (m *Messages) Begin(d Direction, request jsonrpc.Message) InFlight {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.add(d, request)
	m.inFlight[d]++
	return InFlight{messages: m, direction: d}
}

// Answer ends the request with its response and counts the response.
func (f *InFlight) Answer(response jsonrpc.Message) {
	m := f.endAndLock()
	if m == nil {
		return
	}
	defer m.mu.Unlock()
	m.add(1-f.direction, response)
}

// Cancel ends the request without a response. A reason that requests of this hop and direction cannot have counts as
// Unexplained.
func (f *InFlight) Cancel(reason CancelReason) {
	m := f.endAndLock()
	if m == nil {
		return
	}
	defer m.mu.Unlock()
	if _, known := m.cancelled[f.direction][reason]; !known {
		reason = Unexplained
	}
	m.cancelled[f.direction][reason]++
}

// endAndLock ends the request and returns its Messages with mu locked. It returns nil if there is no request or it has
// ended before; then nothing is locked.
func (f *InFlight) endAndLock() *Messages {
	m := f.messages
	if m == nil {
		return nil
	}
	m.mu.Lock()
	if f.ended {
		m.mu.Unlock()
		return nil
	}
	f.ended = true
	m.inFlight[f.direction]--
	return m
}
