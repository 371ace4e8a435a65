package upstream

import (
	"context"
	"sync"
	"time"

	"github.com/mcphub-go/mcphub/pkg/upstream/transport"
)

// The pauses between readings of the lists because of unknown names: clients choose names, and models invent some.
const (
	unknownPause    = 5 * time.Second
	maxUnknownPause = time.Minute

	// unknownPatience is how long requests wait for such a reading, from its begin: one that is not answered must not
	// delay each of them.
	unknownPatience = 5 * time.Second
)

// relistRequests are the wishes that the lists of one server be read again. Several that come before a reading begins
// share it. They may be used concurrently.
type relistRequests struct {
	wake chan struct{} // receives when there is a new one

	mu      sync.Mutex
	pending *relistRequest // for the next reading; nil: there is none
	unknown *relistRequest // the last one because of an unknown name
	next    time.Time      // no other one because of an unknown name before
	pauses  transport.Backoff
}

// relistRequest is a reading of the lists that somebody waits for.
type relistRequest struct {
	why   relistReason
	since time.Time
	done  chan struct{}
	err   error // set before done is closed
}

func newRelistRequests() *relistRequests {
	return &relistRequests{wake: make(chan struct{}, 1), pauses: transport.Backoff{First: unknownPause, Max: maxUnknownPause}}
}

// add asks for a reading that begins after now.
func (x *relistRequests) add(why relistReason) *relistRequest {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.addLocked(why)
}

// addLocked is add with mu held.
func (x *relistRequests) addLocked(why relistReason) *relistRequest {
	if x.pending == nil {
		x.pending = &relistRequest{why: why, since: time.Now(), done: make(chan struct{})}
		select {
		case x.wake <- struct{}{}:
		default:
		}
	}
	return x.pending
}

// addUnknown asks for a reading because of an unknown name, unless there was one a short time ago. It returns the one
// to wait for, which may be over.
func (x *relistRequests) addUnknown(now time.Time) *relistRequest {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.unknown == nil || !now.Before(x.next) {
		if now.Sub(x.next) > maxUnknownPause {
			x.pauses.Reset()
		}
		x.next = now.Add(x.pauses.Next())
		x.unknown = x.addLocked(relistUnknown)
	}
	return x.unknown
}

// helped notes that a reading has brought something new: the next unknown name may be new, too.
func (x *relistRequests) helped() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.pauses.Reset()
}

// take returns the request for the next reading, or nil.
func (x *relistRequests) take() *relistRequest {
	x.mu.Lock()
	defer x.mu.Unlock()
	r := x.pending
	x.pending = nil
	return r
}

// giveBack makes a request wait for the next reading again, or for the next connection. If there is another one already,
// that one is kept.
func (x *relistRequests) giveBack(r *relistRequest) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.pending == nil {
		x.pending = r
		return
	}
	r.end(ErrDown)
}

// end ends a request. One that is nil is none.
func (r *relistRequest) end(err error) {
	if r != nil {
		r.err = err
		close(r.done)
	}
}

// wait waits until the request is over.
func (r *relistRequest) wait(ctx context.Context) error {
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
