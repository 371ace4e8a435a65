package session

import (
	"context"
	"sync"
)

// singleFlight runs at most one call per key at a time; concurrent callers of
// the same key share its result. The zero value is ready to use.
type singleFlight struct {
	mu    sync.Mutex
	calls map[string]*call // in progress, by key
}

type call struct {
	done chan struct{} // closed when err is set
	err  error
}

// do calls fn, unless a call for key is in progress: then it waits for the
// result of that call, but no longer than ctx. fn gets the context of the first
// caller without its cancellation, because other callers may be waiting for the
// result. So fn must limit its own duration.
func (f *singleFlight) do(ctx context.Context, key string, fn func(context.Context) error) error {
	f.mu.Lock()
	c := f.calls[key]
	if c != nil {
		f.mu.Unlock()
		select {
		case <-c.done:
			return c.err
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	c = &call{done: make(chan struct{})}
	if f.calls == nil {
		f.calls = map[string]*call{}
	}
	f.calls[key] = c
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		delete(f.calls, key)
		f.mu.Unlock()
		close(c.done)
	}()
	c.err = fn(context.WithoutCancel(ctx))
	return c.err
}
