package persist

import (
	"errors"
	"fmt"
	"time"
)

// One fsync per file makes the disk commit its journal again and again. From
// sharedFrom records on, a batch is written in steps instead, all files, one
// sync of the whole file system, all names: several times as many records a
// second. But that sync waits for whatever else is being written to the same
// file system; where it takes longer than it should, the next batches go
// without it for a while.
const (
	sharedFrom  = 8
	sharedPause = time.Minute
)

// patience is how long one sync of n records may take.
func patience(n int) time.Duration { return 25*time.Millisecond + time.Duration(n)*time.Millisecond }

// writeChanges writes each change and says what became of it. The names still
// have to be synced.
func (d *Dir) writeChanges(changes []Change) []error {
	if errs, ok := d.writeShared(changes); ok {
		return errs
	}
	errs := make([]error, len(changes))
	each(len(changes), func(i int) { errs[i] = d.writeOne(changes[i]) })
	return errs
}

// writeShared reports false if the batch is not one for it.
func (d *Dir) writeShared(changes []Change) ([]error, bool) {
	puts := 0
	for _, c := range changes {
		if c.Value != nil {
			puts++
		}
	}
	if puts < d.sharedFrom || time.Now().Before(d.sharedAgain) {
		return nil, false
	}
	syncAll, err := d.files.barrier()
	if err != nil { // not on this system, or out of descriptors: the other way will tell
		return nil, false
	}
	errs := make([]error, len(changes))
	temps := make([]string, len(changes))
	d.unsynced.Store(true)
	each(len(changes), func(i int) {
		if c := changes[i]; c.Value != nil {
			temps[i] = tempFor(fileOf(c.Key))
			errs[i] = writeNew(d.files, temps[i], c.Value, false)
		}
	})
	start := time.Now()
	synced := syncAll()
	if time.Since(start) > patience(puts) {
		d.sharedAgain = time.Now().Add(sharedPause)
	}
	each(len(changes), func(i int) {
		switch c := changes[i]; {
		case errs[i] != nil:
		case c.Value == nil:
			errs[i] = d.writeOne(c)
		case synced != nil:
			errs[i] = errors.Join(fmt.Errorf("sync: %w", synced), d.files.remove(temps[i]))
		default:
			errs[i] = named(d.files, temps[i], fileOf(c.Key))
		}
	})
	return errs, true
}
