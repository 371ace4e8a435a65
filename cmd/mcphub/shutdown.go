package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// shutdown ends the requests, stores the sessions and ends the servers, within
// the configured budget. The sessions come before the servers: they must be
// stored even if a server takes longer to end than the budget allows.
func (h *hub) shutdown(ctx context.Context, w *workers, mcp *http.Server) error {
	budget := h.budget()
	end := time.Now().Add(budget)
	ctx, cancel := context.WithDeadline(ctx, end)
	defer cancel()
	h.gateway.Drain()
	drained := shutdownWithin(ctx, mcp, budget*4/10)
	h.pool.EndSoon(time.Until(end) - budget*3/10) // the sessions and the store need time, too
	err := w.sessions.end(ctx)
	err = errors.Join(err, h.sessions.Close(ctx)) // ends open calls with an error
	if drained != nil {
		if shutdownWithin(ctx, mcp, budget/5) != nil {
			_ = mcp.Close() // a client does not read its answer
		}
		// The last requests may have changed sessions after Close flushed them.
		err = errors.Join(err, h.sessions.Flush(ctx))
	}
	h.endServers(ctx, w, end.Add(-budget/10))
	// If the store still runs, it may be writing the index: do not close it, the end of the process does.
	if werr := w.others.end(ctx); werr != nil {
		return errors.Join(err, fmt.Errorf("the index of the sessions may still be being written: %w", werr))
	}
	return errors.Join(err, h.children.Close(), h.store.Close())
}

// endServers ends the connections to servers, those of the hub and those of
// the sessions at the same time. A server that takes too long is no failure of
// the hub: what is left of it is ended at the next start.
func (h *hub) endServers(ctx context.Context, w *workers, end time.Time) {
	ctx, cancel := context.WithDeadline(ctx, end)
	defer cancel()
	w.servers.stop()
	calls := h.gateway.Wait(ctx)
	servers := w.servers.end(ctx)
	if calls != nil || servers != nil {
		h.tel.Logger().Warn("some calls or servers did not end in time")
	}
}

// shutdownWithin waits up to d for the open requests of server.
func shutdownWithin(ctx context.Context, server *http.Server, d time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	return server.Shutdown(ctx)
}

// workers are the goroutines that serve no request. Those of the sessions end
// first: the sessions are flushed while the servers are still connected.
type workers struct{ sessions, servers, others workerGroup }

func newWorkers(ctx context.Context) *workers {
	return &workers{sessions: newWorkerGroup(ctx), servers: newWorkerGroup(ctx), others: newWorkerGroup(ctx)}
}

// workerGroup is a set of goroutines that are stopped together.
type workerGroup struct {
	ctx  context.Context //nolint:containedctx // ends the goroutines
	stop context.CancelFunc
	wg   *sync.WaitGroup
}

func newWorkerGroup(ctx context.Context) workerGroup {
	ctx, stop := context.WithCancel(ctx)
	return workerGroup{ctx: ctx, stop: stop, wg: &sync.WaitGroup{}}
}

// start runs a worker. Workers log their failures themselves, and return nil when ctx ends.
func (g workerGroup) start(run func(context.Context) error) { g.wg.Go(func() { _ = run(g.ctx) }) }

// end stops the goroutines and waits until they have ended or ctx ends.
func (g workerGroup) end(ctx context.Context) error {
	g.stop()
	return waitFor(ctx, g.wg)
}

// waitFor waits for wg until ctx ends.
func waitFor(ctx context.Context, wg *sync.WaitGroup) error {
	done := make(chan struct{})
	go func() { // if ctx ends first, this goroutine stays until wg or the process ends
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
