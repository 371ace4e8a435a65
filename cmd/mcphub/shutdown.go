package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// shutdown ends the requests, writes what is left to write, and ends the rest,
// within the configured budget. What matters most comes first: however long
// servers take to end, the sessions are stored.
func (h *hub) shutdown(ctx context.Context, w *workers, mcp *http.Server) error {
	budget := h.budget()
	ctx, cancel := context.WithTimeout(ctx, budget)
	defer cancel()
	h.gateway.Drain()
	drained := shutdownWithin(ctx, mcp, budget*4/10)
	err := w.sessions.end(ctx)
	err = errors.Join(err, h.sessions.Close(ctx)) // calls still under way get an error now
	if drained != nil {
		if shutdownWithin(ctx, mcp, budget/4) != nil {
			_ = mcp.Close() // a reader that never reads
		}
		// What the last requests changed after the flush.
		err = errors.Join(err, h.sessions.Flush(ctx))
	}
	if h.gateway.Wait(ctx) != nil {
		h.tel.Logger().Warn("some calls did not end in time")
	}
	if werr := w.others.end(ctx); werr != nil { // the index may still be written: leave the store to the system
		return errors.Join(err, fmt.Errorf("some servers may still be running: %w", werr))
	}
	return errors.Join(err, h.store.Close())
}

func shutdownWithin(ctx context.Context, server *http.Server, d time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	return server.Shutdown(ctx)
}

// workers are what runs besides requests. Sessions are flushed while servers
// are still there, so they end first.
type workers struct{ sessions, others crew }

func newWorkers(ctx context.Context) *workers {
	return &workers{sessions: newCrew(ctx), others: newCrew(ctx)}
}

// crew is some goroutines that end together.
type crew struct {
	ctx  context.Context //nolint:containedctx // the life of the goroutines
	stop context.CancelFunc
	wg   *sync.WaitGroup
}

func newCrew(ctx context.Context) crew {
	ctx, stop := context.WithCancel(ctx)
	return crew{ctx: ctx, stop: stop, wg: &sync.WaitGroup{}}
}

func (c crew) start(run func(context.Context) error) { c.wg.Go(func() { _ = run(c.ctx) }) }

// end tells the goroutines to end and waits for them no longer than ctx.
func (c crew) end(ctx context.Context) error {
	c.stop()
	return waitFor(ctx, c.wg)
}

func waitFor(ctx context.Context, wg *sync.WaitGroup) error {
	done := make(chan struct{})
	go func() { // ends with wg or with the process
		wg.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return errors.New("the shutdown took longer than limits.shutdownTimeout")
	}
}
