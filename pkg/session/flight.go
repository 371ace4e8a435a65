package session

import (
	"context"
	"sync"
)

// flights lets one caller per key work while the others wait for its result.
// The zero value is ready.
type flights struct {
	mu sync.Mutex
	by map[string]*flight
}

type flight struct {
	done chan struct{}
	err  error
}

// do calls fn unless somebody does for key already; then it waits for that
// one's result, no longer than ctx. Others may be waiting for the first caller,
// so fn gets its ctx without the cancellation and must bound itself.
func (f *flights) do(ctx context.Context, key string, fn func(context.Context) error) error {
	f.mu.Lock()
	fl := f.by[key]
	if fl != nil {
		f.mu.Unlock()
		select {
		case <-fl.done:
			return fl.err
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	fl = &flight{done: make(chan struct{})}
	if f.by == nil {
		f.by = map[string]*flight{}
	}
	f.by[key] = fl
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		delete(f.by, key)
		f.mu.Unlock()
		close(fl.done)
	}()
	fl.err = fn(context.WithoutCancel(ctx))
	return fl.err
}
