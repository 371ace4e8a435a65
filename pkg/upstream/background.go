package upstream

import (
	"context"
	"sync"
)

// background runs the goroutines that a connection starts by itself. They get a context that ends when the connection
// is closed, and closing waits for them. It may be used concurrently.
type background struct {
	ctx    context.Context //nolint:containedctx // the life of the connection
	cancel context.CancelFunc

	mu         sync.Mutex // held by stop, so that no goroutine starts after it
	goroutines sync.WaitGroup
}

// quota bounds the goroutines of one kind. It belongs to one background, whose mutex guards used.
type quota struct{ limit, used int }

func newBackground(ctx context.Context) *background {
	b := &background{}
	b.ctx, b.cancel = context.WithCancel(ctx)
	return b
}

// start runs fn on a goroutine of its own. It reports false, and does not run fn, after stop, or if as many goroutines
// run as q allows. A nil q has no limit.
func (b *background) start(q *quota, fn func(context.Context)) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stopped() || (q != nil && q.used >= q.limit) {
		return false
	}
	if q != nil {
		q.used++
	}
	b.goroutines.Go(func() {
		fn(b.ctx)
		if q != nil {
			b.mu.Lock()
			q.used--
			b.mu.Unlock()
		}
	})
	return true
}

// stop ends the context of the goroutines and lets no more start.
func (b *background) stop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cancel()
}

// stopped reports whether stop was called.
func (b *background) stopped() bool { return b.ctx.Err() != nil }

// wait waits for all goroutines. It is called after stop.
func (b *background) wait() { b.goroutines.Wait() }
