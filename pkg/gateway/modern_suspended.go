package gateway

import (
	"crypto/rand"
	"sync"
	"time"
)

// maxSuspendedCalls is the limit of the calls that wait for their clients.
const maxSuspendedCalls = 1000

// suspendedCalls holds the calls that wait for their clients, and issues the requestStates with which the
// clients come back. Its methods may be called concurrently.
type suspendedCalls[C interface{ stop(cause error) }] struct {
	stateSealer

	mu     sync.Mutex
	calls  map[string]C // by id
	closed bool         // the hub stops
}

func newSuspendedCalls[C interface{ stop(cause error) }]() *suspendedCalls[C] {
	return &suspendedCalls[C]{stateSealer: newStateSealer(), calls: map[string]C{}}
}

// add adds a call and returns its id, or an empty string if there are too many.
func (p *suspendedCalls[C]) add(c C) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.calls) >= maxSuspendedCalls {
		return ""
	}
	id := rand.Text()
	p.calls[id] = c
	return id
}

// remove removes the call with that id.
func (p *suspendedCalls[C]) remove(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.calls, id)
}

// find returns the call of a requestState, and the round in which the state was issued.
func (p *suspendedCalls[C]) find(sealed, principal string, digest []byte) (c C, round int, err error) {
	s, err := p.open(sealed, principal, digest)
	if err != nil {
		return c, 0, err
	}
	p.mu.Lock()
	found, ok := p.calls[s.ID]
	p.mu.Unlock()
	if !ok || time.Since(p.started).Milliseconds() > s.Expires {
		return c, 0, errStateExpired
	}
	return found, s.Round, nil
}

// stop ends every suspended call, and lets no call be suspended any more.
func (p *suspendedCalls[C]) stop() {
	p.mu.Lock()
	p.closed = true
	all := make([]C, 0, len(p.calls))
	for _, c := range p.calls {
		all = append(all, c)
	}
	p.mu.Unlock()
	for _, c := range all {
		c.stop(errStopping)
	}
}

// stopped reports whether stop was called.
func (p *suspendedCalls[C]) stopped() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closed
}
