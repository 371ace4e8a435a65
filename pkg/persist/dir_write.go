package persist

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"sync/atomic"
)

// writers is the number of files of a batch that are written at a time. fsync waits
// for the disk, and disks are faster with several requests; more than this number
// gave no further gain.
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

// write writes the changes and adds those that fail to failed.
func (d *Dir) write(changes []Change, failed failures) {
	errs := d.writeChanges(changes)
	d.updateKeys(changes, errs)
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

// writeOne writes or deletes one record.
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

// updateKeys updates the list of keys after the changes without an error. It is
// called before the directory is synced, because the names are visible already.
func (d *Dir) updateKeys(changes []Change, errs []error) {
	d.mu.Lock()
	before := d.version
	for i, c := range changes {
		if errs[i] == nil {
			d.updateKey(c.Key, c.Value != nil)
		}
	}
	changed := d.version != before
	d.mu.Unlock()
	if changed {
		d.markStale()
	}
}

// updateKey adds or removes a key. The caller holds mu.
func (d *Dir) updateKey(key string, exists bool) {
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

// syncNames makes all names durable with one sync. After a failure the next batch
// tries again, even if it changes no name itself: a repeated deletion finds no file,
// but must still make the deletion durable.
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

// each calls f with 0 to n-1 on up to writers goroutines, and waits for them.
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
