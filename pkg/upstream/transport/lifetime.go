package transport

import (
	"context"
	"fmt"
	"sync"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

// lifetime is the part of a transport that its implementations have in common: it is lost once, for one reason, and
// its goroutines end before it is closed. It may be used concurrently.
type lifetime struct {
	done   chan struct{}
	once   sync.Once
	reason error       // set before done is closed
	onLost func(error) // called once, after done is closed

	mu         sync.Mutex
	closed     bool // no more goroutines
	goroutines sync.WaitGroup
}

func newLifetime(onLost func(reason error)) *lifetime {
	return &lifetime{done: make(chan struct{}), onLost: onLost}
}

// Done implements Transport.
func (l *lifetime) Done() <-chan struct{} { return l.done }

// Err implements Transport.
func (l *lifetime) Err() error { return l.reason }

// lose ends the connection. The first reason counts.
func (l *lifetime) lose(reason error) {
	l.once.Do(func() {
		l.reason = reason
		close(l.done)
		l.onLost(reason)
	})
}

// Abandon implements Transport.
func (l *lifetime) Abandon(reason error) { l.lose(reason) }

// isLost reports whether the connection is lost or closed.
func (l *lifetime) isLost() bool { return isClosed(l.done) }

// start runs fn on a goroutine that wait waits for. It reports false, and does not run fn, after refuse.
func (l *lifetime) start(fn func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.goroutines.Go(fn)
	}
	return !l.closed
}

// refuse makes start refuse from now on.
func (l *lifetime) refuse() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
}

// wait waits for the goroutines of start. It is called after refuse.
func (l *lifetime) wait() { l.goroutines.Wait() }

// awaitReply waits for the response that Handler.Deliver puts into call.Reply, until ctx ends or the connection is lost.
func (l *lifetime) awaitReply(ctx context.Context, call *Call) (jsonrpc.Message, error) {
	select {
	case r := <-call.Reply:
		return r.Message, r.Err
	case <-ctx.Done():
		return jsonrpc.Message{}, context.Cause(ctx)
	case <-l.done:
		return call.replyOr(fmt.Errorf("%w: %w", ErrLost, l.reason))
	}
}

func isClosed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}
