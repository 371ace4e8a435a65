package gateway

import (
	"sync"
	"time"
)

// changePause is the time for which changes of a list are collected after a notification.
const changePause = 250 * time.Millisecond

// listChanges collects the list_changed notifications for one client. The zero value is ready.
type listChanges struct {
	mu      sync.Mutex
	pending map[string]bool // by method, while they are collected; true: one has come since
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
