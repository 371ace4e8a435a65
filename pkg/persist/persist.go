// Package persist keeps small named records on stable storage.
//
//	changes --Apply--> durable records --Keys, Get--> values
//	                          |
//	                          +--SetAside--> quarantine
//
// [Store] is the contract. [Dir] keeps each record in a file of its own. [Memory]
// keeps the records in memory, for as long as the process lives. Package
// persisttest contains the tests that every Store must pass.
//
// A Dir owns its directory, and holds the lock of it, from OpenDir to Close.
// OpenDir starts no goroutine. Dir.Run is the only long-lived one: it keeps the
// index file up to date. Apply uses up to 16 goroutines to write a batch and waits
// for them before it returns.
package persist

import (
	"context"
	"errors"
	"iter"
	"strings"
)

// MaxValue is the largest size of a value, in bytes.
const MaxValue = 1 << 20

// Errors that the methods of a Store wrap. Check for them with errors.Is.
var (
	ErrKey      = errors.New("not a usable key")
	ErrTooLarge = errors.New("value is larger than 1 MiB")
	ErrClosed   = errors.New("store is closed")
	ErrLocked   = errors.New("directory is in use")
)

// A Store keeps values under keys. It is safe for concurrent use. A call whose
// context has ended before it starts changes nothing and returns the error of the
// context. After Close every method returns ErrClosed.
type Store interface {
	// Get returns the value of key. For a missing key it returns ok == false and
	// no error. The caller owns the value. For an invalid key the error wraps
	// ErrKey. For a record larger than MaxValue, which only another program can
	// have written, it wraps ErrTooLarge.
	Get(ctx context.Context, key string) (value []byte, ok bool, err error)

	// Apply makes every change durable before it returns. Each record is written
	// as a whole or not at all; the batch is not a transaction. Of several changes
	// of one key the last one counts. If some changes fail, errors.As finds a
	// *BatchError with their keys in the error: each of these keys has its old or
	// its new value, and all other changes are durable. Any other error means that
	// nothing was changed. Apply does not retain the values.
	//
	// The context limits the wait for earlier batches. A batch that has started is
	// completed.
	Apply(ctx context.Context, changes []Change) error

	// Keys yields every key, in no particular order, without reading the values.
	// Keys that are added or deleted during the iteration may or may not be
	// yielded. An error ends the iteration.
	Keys(ctx context.Context) iter.Seq2[string, error]

	// SetAside moves a damaged record to the quarantine, together with the reason,
	// so that a person can examine it. A missing key is not an error.
	SetAside(ctx context.Context, key, reason string) error

	// Close waits for the batch that is being written and releases the resources
	// of the store.
	Close() error
}

// A Change sets Key to Value, of at most MaxValue bytes. A nil Value deletes the
// key; deleting a missing key is not an error. An empty Value that is not nil is
// stored.
type Change struct {
	Key   string
	Value []byte
}

const maxKey = 128 // bytes

// ValidKey reports whether key can be the key of a record: 1 to 128 ASCII letters,
// digits, '-' and '_', the first a letter or digit, and not "index" in any case,
// which a store uses itself. Such a key is a safe file name.
func ValidKey(key string) bool {
	if key == "" || len(key) > maxKey || !isAlnum(key[0]) {
		return false
	}
	for i := range len(key) {
		if c := key[i]; !isAlnum(c) && c != '-' && c != '_' {
			return false
		}
	}
	return !strings.EqualFold(key, "index")
}

func isAlnum(c byte) bool {
	return '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z'
}
