package persist

import (
	"errors"
	"fmt"
	"time"
)

// With one fsync per file the disk commits its journal once per file. A batch with at
// least sharedMin values is therefore written in three steps: all files, one sync of
// the whole file system, all names. This writes several times as many records per
// second. But that sync also waits for the data of other programs on the same file
// system. If it takes longer than maxSyncTime, batches do without it for sharedPause.
const (
	sharedMin   = 8
	sharedPause = time.Minute
)

// maxSyncTime returns how long one sync of n records may take.
func maxSyncTime(n int) time.Duration { return 25*time.Millisecond + time.Duration(n)*time.Millisecond }

// writeChanges writes each change and returns an error for each. The caller must
// still sync the names.
func (d *Dir) writeChanges(changes []Change) []error {
	if errs, ok := d.writeShared(changes); ok {
		return errs
	}
	errs := make([]error, len(changes))
	each(len(changes), func(i int) { errs[i] = d.writeOne(changes[i]) })
	return errs
}

// writeShared is writeChanges with one sync for all files. It reports false, and
// writes nothing, if it cannot be used for this batch.
func (d *Dir) writeShared(changes []Change) ([]error, bool) {
	puts := 0
	for _, c := range changes {
		if c.Value != nil {
			puts++
		}
	}
	if puts < d.sharedMin || time.Now().Before(d.sharedAgain) {
		return nil, false
	}
	syncAll, err := d.files.barrier()
	if err != nil { // not supported, or out of descriptors: then writeOne reports it
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
	if time.Since(start) > maxSyncTime(puts) {
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
			errs[i] = renameTemp(d.files, temps[i], fileOf(c.Key))
		}
	})
	return errs, true
}
