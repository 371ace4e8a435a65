package gateway

import (
	"context"
	"sync"
)

// background runs functions on goroutines and waits for them. Unlike a sync.WaitGroup it accepts
// new ones while somebody waits, and the wait can be given up. The zero background is ready. Its methods may be called concurrently.
type background struct {
	mu   sync.Mutex
	n    int           // running functions
	idle chan struct{} // closed when n becomes 0; nil: nobody waits
}

// Go runs fn on a goroutine of its own.
func (b *background) Go(fn func()) {
	b.mu.Lock()
	b.n++
	b.mu.Unlock()
	go func() { // ends with fn
		defer b.done()
		fn()
	}()
}

func (b *background) done() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.n--; b.n == 0 && b.idle != nil {
		close(b.idle)
		b.idle = nil
	}
}

// wait waits until no function runs, or until ctx ends, whose cause it returns.
func (b *background) wait(ctx context.Context) error {
	b.mu.Lock()
	if b.n == 0 {
		b.mu.Unlock()
		return nil
	}
	if b.idle == nil {
		b.idle = make(chan struct{})
	}
	idle := b.idle
	b.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
