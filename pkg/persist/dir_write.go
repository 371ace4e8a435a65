package persist

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"sync/atomic"
)

// writers is how many files of a batch are written at a time. fsync waits for
// the disk, and disks like company; beyond this number they gain nothing.
const writers = 16

// Apply implements Store. One batch is written at a time.
func (d *Dir) Apply(ctx context.Context, changes []Change) error {
	wanted, failed := plan(changes)
	if err := d.begin(ctx); err != nil {
		return err
	}
	defer d.end()
	d.write(wanted, failed)
	return failed.err()
}

// write adds to failed what did not work.
func (d *Dir) write(changes []Change, failed failures) {
	errs := d.writeChanges(changes)
	d.remember(changes, errs)
	for i, err := range errs {
		if err != nil {
			failed[changes[i].Key] = err
		}
	}
	if err := d.syncNames(); err != nil {
		for _, c := range changes {
			failed[c.Key] = errors.Join(failed[c.Key], err)
		}
	}
}

func (d *Dir) writeOne(c Change) error {
	name := fileOf(c.Key)
	if c.Value != nil {
		d.unsynced.Store(true)
		return replace(d.files, name, c.Value)
	}
	err := d.files.remove(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	d.unsynced.Store(true)
	return err
}

// remember notes which keys came and went. It does not wait for the directory
// to be synced, since the names can be seen from now on.
func (d *Dir) remember(changes []Change, errs []error) {
	d.mu.Lock()
	before := d.version
	for i, c := range changes {
		if errs[i] == nil {
			d.note(c.Key, c.Value != nil)
		}
	}
	changed := d.version != before
	d.mu.Unlock()
	if changed {
		d.markStale()
	}
}

// note is called with mu held.
func (d *Dir) note(key string, exists bool) {
	if _, known := d.keys[key]; known == exists {
		return
	}
	if exists {
		d.keys[key] = struct{}{}
	} else {
		delete(d.keys, key)
	}
	d.version++
}

// syncNames makes all names durable at once. After a failure the next batch
// tries again, even one that changes no name itself: a deletion that is
// repeated finds nothing to delete and still must become durable.
func (d *Dir) syncNames() error {
	if !d.unsynced.Load() {
		return nil
	}
	if err := d.files.syncDir("."); err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	d.unsynced.Store(false)
	return nil
}

// each calls f with 0 to n-1, by several goroutines, and waits for them.
func each(n int, f func(i int)) {
	var (
		next atomic.Int64
		done sync.WaitGroup
	)
	work := func() {
		for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
			f(int(i))
		}
	}
	for range min(n, writers) - 1 {
		done.Go(work)
	}
	work()
	done.Wait()
}
