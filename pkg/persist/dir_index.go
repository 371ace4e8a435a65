package persist

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

const (
	indexFile  = "index" + extension
	indexDelay = 200 * time.Millisecond // from a change to the update of the index
	indexShare = 100                    // at most 1/100 of the time is spent on writing the index
	indexRetry = 10 * time.Second       // after a failure
)

// Run keeps index.json up to date until ctx ends, and then returns nil; Close writes
// the last changes. Run rewrites the index 200 ms after keys were added or deleted,
// and less often if that would take more than 1 % of the time. It logs a failure and
// tries again; only the index is affected. It returns ErrClosed if the store is
// closed before ctx ends.
func (d *Dir) Run(ctx context.Context) error {
	delay := indexDelay
	for {
		err := d.awaitStale(ctx, delay)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // Run ends with ctx, which is not an error
		}
		if err != nil {
			return err
		}
		started := time.Now()
		if err := d.refreshIndex(); err != nil {
			d.log.Warn("index of the store not written; no record is affected", "dir", d.path, "err", err)
			d.markStale()
			delay = indexRetry
			continue
		}
		delay = delayAfter(time.Since(started))
	}
}

// delayAfter returns the pause before the next write of the index, after a write
// that took this long.
func delayAfter(took time.Duration) time.Duration {
	return max(indexDelay, (indexShare-1)*took)
}

// awaitStale returns delay after the next change, or when ctx has ended. It returns
// ErrClosed if the store is closed.
func (d *Dir) awaitStale(ctx context.Context, delay time.Duration) error {
	select {
	case <-ctx.Done():
		return nil
	case <-d.closed:
		return ErrClosed
	case <-d.stale:
	}
	select {
	case <-ctx.Done():
		return nil
	case <-d.closed:
		return ErrClosed
	case <-time.After(delay):
		return nil
	}
}

// markStale wakes Run.
func (d *Dir) markStale() {
	select {
	case d.stale <- struct{}{}:
	default: // a message is waiting for Run already
	}
}

// refreshIndex is writeIndex with the indexing token.
func (d *Dir) refreshIndex() error {
	select {
	case <-d.closed:
		return nil // Close writes it
	case d.indexing <- struct{}{}:
	}
	defer func() { <-d.indexing }()
	return d.writeIndex()
}

// writeIndex writes the index if it is out of date. The caller holds the indexing
// token.
func (d *Dir) writeIndex() error {
	if d.indexIsCurrent() {
		return nil
	}
	keys, version := d.snapshot()
	data, err := d.encodeIndex(keys)
	if err != nil {
		return err
	}
	if err := replace(d.files, indexFile, data); err != nil {
		return fmt.Errorf("write index: %w", err)
	}
	if err := d.files.syncDir("."); err != nil {
		return fmt.Errorf("write index: %w", err)
	}
	d.mu.Lock()
	d.indexed = version
	d.mu.Unlock()
	return nil
}

func (d *Dir) indexIsCurrent() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.indexed == d.version
}

func (d *Dir) encodeIndex(keys []string) ([]byte, error) {
	slices.Sort(keys)
	return json.Marshal(map[string][]string{d.field: keys})
}
