package transport

import (
	"sync"
	"time"
)

// How long a child may take to exit after each step of ending it, see specification 2025-11-25, basic/lifecycle, shutdown.
const (
	stdinGrace = 2 * time.Second // after its standard input was closed
	termGrace  = 2 * time.Second // after SIGTERM
	killGrace  = 2 * time.Second // a process that hangs in the kernel survives SIGKILL for a while
)

// Graces are how long children may take to exit. They can be made shorter for all children at once, those included
// that are being ended: the hub itself may have to end. A nil *Graces is never made shorter. It may be used concurrently.
type Graces struct {
	once    sync.Once
	longest time.Duration // set before shorter is closed
	shorter chan struct{}
}

// NewGraces makes Graces as the constants say.
func NewGraces() *Graces { return &Graces{shorter: make(chan struct{})} }

// Shorten makes each step of ending a child take longest at most, from now on. The first call counts.
func (g *Graces) Shorten(longest time.Duration) {
	g.once.Do(func() {
		g.longest = longest
		close(g.shorter)
	})
}

// await waits for the exit of a child. It reports false if that takes longer than the grace.
func (g *Graces) await(exited <-chan struct{}, grace time.Duration) bool {
	var shorter <-chan struct{}
	if g != nil {
		shorter = g.shorter
	}
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-exited:
		return true
	case <-timer.C:
		return false
	case <-shorter:
	}
	timer.Reset(min(grace, g.longest))
	select {
	case <-exited:
		return true
	case <-timer.C:
		return false
	}
}
