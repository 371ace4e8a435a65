package persist

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Dir is a Store that keeps each record in a file of its own, readable with
// cat and jq:
//
//	<key>.json        one record, its bytes as they were given
//	index.json        {"sessions": [keys]}, derived from the files and never read
//	quarantine/       records set aside, each with a .reason file beside it
//	.lock             says which process has the directory
//
// The directory is 0700 and the files it writes are 0600. The files are the
// truth; what is no regular file under the name of a valid key is left alone.
// While a Dir is open it expects nobody else to add or remove records, but
// survives it: Get always asks the file, only Keys shows what Dir knows.
//
// The file system must tell upper from lower case if the keys differ in
// nothing else.
type Dir struct {
	path  string
	field string // the name in index.json
	log   *slog.Logger
	root  *os.Root
	lock  *os.File
	files files

	// Tokens rather than mutexes, because they are held over I/O. Who takes
	// both takes writing first. Close keeps them, so nothing follows it.
	writing  chan struct{} // Apply and SetAside take turns
	indexing chan struct{} // writing the index takes turns with itself, not with Apply
	closed   chan struct{}
	stale    chan struct{} // wakes Run; holds at most one message
	unsynced atomic.Bool   // a name changed since the directory was last synced

	sharedFrom    int       // records of a batch that are synced together
	sharedAgain   time.Time // when batches may be synced together again; belongs to the writing token
	asideUnsynced bool      // the same for the quarantine; belongs to the writing token

	mu      sync.Mutex
	keys    map[string]struct{}
	version uint64 // counts the changes of keys
	indexed uint64 // the version that index.json shows
}

var _ Store = (*Dir)(nil)

// DirConfig is what a Dir can be told. The zero value works.
type DirConfig struct {
	Logger    *slog.Logger // default: discard
	IndexName string       // the field of index.json that lists the keys; default "sessions"
}

func (c DirConfig) logger() *slog.Logger {
	if c.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return c.Logger
}

// OpenDir opens the directory at path and creates it when it is missing. It
// takes the directory's lock: when another Dir has it, in this process or
// another, the error wraps ErrLocked. A directory that others can enter is
// tightened to 0700, temporary files of an earlier crash are removed, and the
// names of the records are listed; no record is read. It starts no goroutine.
func OpenDir(path string, cfg DirConfig) (*Dir, error) {
	if err := makeDir(filepath.Clean(path)); err != nil {
		return nil, fmt.Errorf("create store directory: %w", err)
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, fmt.Errorf("open store directory: %w", err)
	}
	lock, err := takeLock(root)
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}
	d := newDir(root, lock, cfg)
	if err := d.settle(); err != nil {
		return nil, errors.Join(fmt.Errorf("open store directory: %w", err), root.Close(), releaseLock(lock))
	}
	return d, nil
}

func newDir(root *os.Root, lock *os.File, cfg DirConfig) *Dir {
	field := cfg.IndexName
	if field == "" {
		field = "sessions"
	}
	return &Dir{
		path:     root.Name(),
		field:    field,
		log:      cfg.logger(),
		root:     root,
		lock:     lock,
		files:    osFiles{root},
		writing:  make(chan struct{}, 1),
		indexing: make(chan struct{}, 1),
		closed:   make(chan struct{}),
		stale:    make(chan struct{}, 1),
		keys:     make(map[string]struct{}),

		sharedFrom: sharedFrom,
	}
}

// Get implements Store. It does not wait for a batch that is being written.
func (d *Dir) Get(ctx context.Context, key string) ([]byte, bool, error) {
	if err := d.check(ctx); err != nil {
		return nil, false, err
	}
	if err := checkKey(key); err != nil {
		return nil, false, err
	}
	value, err := d.read(fileOf(key))
	switch {
	case err == nil:
		return value, true, nil
	case errors.Is(err, fs.ErrNotExist):
		return nil, false, nil
	case errors.Is(err, fs.ErrClosed): // Close was quicker
		return nil, false, ErrClosed
	}
	return nil, false, fmt.Errorf("read record %q: %w", key, err)
}

// read returns fs.ErrNotExist for what is no regular file.
func (d *Dir) read(name string) ([]byte, error) {
	// Asked first because os.Root follows a symbolic link that stays inside
	// the directory, whatever the flags say, and because opening a pipe waits.
	if ok, err := d.isRecord(name); err != nil {
		return nil, err
	} else if !ok {
		return nil, fs.ErrNotExist
	}
	f, err := d.root.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // read only: nothing to lose
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() > MaxValue {
		return nil, fmt.Errorf("%w: %d bytes", ErrTooLarge, info.Size())
	}
	value := make([]byte, info.Size())
	_, err = io.ReadFull(f, value)
	return value, err
}

func (d *Dir) isRecord(name string) (bool, error) {
	info, err := d.root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && info.Mode().IsRegular(), err
}

// Keys implements Store. It yields the keys of the moment when the iteration
// starts.
func (d *Dir) Keys(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if err := d.check(ctx); err != nil {
			yield("", err)
			return
		}
		keys, _ := d.snapshot()
		yieldKeys(ctx, keys, yield)
	}
}

// snapshot never returns nil keys.
func (d *Dir) snapshot() (keys []string, version uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	// Grown to size at once: with 100,000 keys that shortens the time that the
	// mutex is held from 11 ms to 2 ms.
	keys = make([]string, 0, len(d.keys))
	return slices.AppendSeq(keys, maps.Keys(d.keys)), d.version
}

// Close implements Store. It writes the index a last time if it is stale and
// releases the lock of the directory, also when it returns an error.
func (d *Dir) Close() error {
	select {
	case <-d.closed:
		return ErrClosed
	case d.writing <- struct{}{}:
	}
	close(d.closed)
	d.indexing <- struct{}{}
	err := errors.Join(d.writeIndex(), d.root.Close(), releaseLock(d.lock))
	if err != nil {
		return fmt.Errorf("close store directory: %w", err)
	}
	return nil
}

func (d *Dir) check(ctx context.Context) error {
	select {
	case <-d.closed:
		return ErrClosed
	default:
		return ctx.Err()
	}
}

// begin waits for the turn to write, end gives it to the next.
func (d *Dir) begin(ctx context.Context) error {
	if err := d.check(ctx); err != nil {
		return err
	}
	select {
	case <-d.closed:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	case d.writing <- struct{}{}:
	}
	if err := ctx.Err(); err != nil { // both were ready
		d.end()
		return err
	}
	return nil
}

func (d *Dir) end() { <-d.writing }
