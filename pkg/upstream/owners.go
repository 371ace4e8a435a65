package upstream

import (
	"maps"
	"sync"
	"time"
)

// owners has the connections to a server that are held for one client session, until nothing of them is left. It may
// be used concurrently.
type owners struct {
	mu     sync.Mutex
	byConn map[*Conn]owner
}

type owner struct {
	session string
	missing time.Time // since when the session has been known to be gone; zero: it is there
}

func newOwners() *owners { return &owners{byConn: map[*Conn]owner{}} }

// add notes that c is held for the session, if that is not empty.
func (o *owners) add(c *Conn, session string) {
	if session == "" {
		return // c is the hub's, or that of several clients
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.byConn[c] = owner{session: session}
}

// remove notes that nothing of c is left.
func (o *owners) remove(c *Conn) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.byConn, c)
}

// orphaned counts the connections whose session has been gone for grace.
func (o *owners) orphaned(exists func(session string) bool, now time.Time, grace time.Duration) (n int) {
	o.mu.Lock()
	held := maps.Clone(o.byConn)
	o.mu.Unlock()
	for c, own := range held { // without mu: exists may wait for locks of its own
		switch {
		case exists(own.session):
			own.missing = time.Time{}
		case own.missing.IsZero():
			own.missing = now
		}
		held[c] = own
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for c, own := range held {
		if _, still := o.byConn[c]; !still {
			continue
		}
		o.byConn[c] = own
		if !own.missing.IsZero() && now.Sub(own.missing) >= grace {
			n++
		}
	}
	return n
}
