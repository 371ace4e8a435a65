package gateway

import "sync"

// rootsRequest is the state of roots/list of one session. The zero value is ready.
type rootsRequest struct {
	mu      sync.Mutex
	sent    bool // the client was asked while it read a stream
	waiting bool // one request at a time, however often the roots change
	stale   bool // the answer that is awaited may be out of date, or have no stream
}

// begin reports whether the client is to be asked now. again says that the roots have changed.
// hasStream says whether the client reads a stream: without one, the next stream asks again.
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

// end reports whether the client is to be asked again.
func (x *rootsRequest) end() (again bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	again = x.stale
	x.waiting, x.stale = false, false
	return again
}
