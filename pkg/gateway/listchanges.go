package gateway

import (
	"sync"
	"time"
)

// changePause is the time for which changes of a list are collected after a notification. It doubles while they go on,
// up to maxChangePause.
const (
	changePause    = 250 * time.Millisecond
	maxChangePause = 2 * time.Second
)

// listChanges collects the list_changed notifications for one client. The zero value is ready.
type listChanges struct {
	mu      sync.Mutex
	pending map[string]bool // methods that are being collected; true: one has come since the notification was sent
}

// first reports whether no notification of method is being collected. If one is, the method is marked
// to be sent again.
func (x *listChanges) first(method string) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	_, collecting := x.pending[method]
	put(&x.pending, method, collecting)
	return !collecting
}

// end stops collecting, and reports whether one has come meanwhile.
func (x *listChanges) end(method string) (again bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	again = x.pending[method]
	delete(x.pending, method)
	return again
}
