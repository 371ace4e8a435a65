package gateway

import "sync"

// rootsRequest is the state of roots/list of one session. The zero value is ready.
type rootsRequest struct {
	mu      sync.Mutex
	sent    bool // the newest request was made while the client read a stream
	waiting bool // a request waits for its answer; there is one at a time
	stale   bool // that answer may be out of date, or the request may have had no stream
}

// begin reports whether a request must be sent now. again says that the roots have changed. hasStream says whether the
// client reads a stream: without one, the request is repeated for the next stream.
func (x *rootsRequest) begin(again, hasStream bool) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	skip := (x.sent && !again) || x.waiting
	if x.waiting && (again || !x.sent) {
		x.stale = true
	}
	x.sent = hasStream
	x.waiting = x.waiting || !skip
	return !skip
}

// end is called after the request has ended. It reports whether another must be sent.
func (x *rootsRequest) end() (again bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	again = x.stale
	x.waiting, x.stale = false, false
	return again
}
