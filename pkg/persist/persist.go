// Package persist keeps small named records on stable storage.
//
//	changes --Apply--> durable records --Keys, Get--> values
//	                          |
//	                          +--SetAside--> quarantine
//
// [Store] is the contract, [Dir] keeps each record in a file of its own and
// [Memory] keeps them for as long as the process lives. Package persisttest
// holds every store to the contract.
package persist

import (
	"context"
	"errors"
	"iter"
	"strings"
)

// MaxValue is the size in bytes of the largest value that a store takes.
const MaxValue = 1 << 20

// Callers ask for these with errors.Is.
var (
	ErrKey      = errors.New("not a usable key")
	ErrTooLarge = errors.New("value is larger than 1 MiB")
	ErrClosed   = errors.New("store is closed")
	ErrLocked   = errors.New("directory is in use")
)

// A Store keeps values under keys. It is safe for concurrent use. A call whose
// context has ended before it starts changes nothing and returns the context's
// error; after Close every method returns ErrClosed.
type Store interface {
	// Get returns the value of key. A missing key is no error: it reports
	// ok == false. The caller owns the value. A key that could never have been
	// stored is an error wrapping ErrKey, a record that has outgrown MaxValue
	// (by another hand than the store's) one wrapping ErrTooLarge.
	Get(ctx context.Context, key string) (value []byte, ok bool, err error)

	// Apply makes every change durable before it returns. Each record is
	// written whole or not at all; the batch as a whole is not a transaction.
	// Of several changes of one key the last wins. When some changes failed
	// it returns an error in which errors.As finds a *BatchError naming their
	// keys: each of those holds its old or its new value, all the other
	// changes are durable. Any other error means that nothing was changed.
	// Values are read until Apply returns and not retained.
	//
	// The context bounds the wait for a turn. A batch that has started is
	// finished.
	Apply(ctx context.Context, changes []Change) error

	// Keys yields every key, in no particular order, without reading the
	// values. Keys that come or go during the iteration may be seen or missed.
	// An error ends the iteration.
	Keys(ctx context.Context) iter.Seq2[string, error]

	// SetAside takes a damaged record out of the store without destroying it,
	// together with the reason, so that a person can look at it. Setting aside
	// a missing key is no error.
	SetAside(ctx context.Context, key, reason string) error

	// Close waits for the batch that is being written and releases what the
	// store holds.
	Close() error
}

// A Change asks for Key to hold Value, at most MaxValue bytes. A nil Value
// deletes the key, and deleting a missing key is no error; an empty Value that
// is not nil is stored.
type Change struct {
	Key   string
	Value []byte
}

const maxKey = 128 // bytes

// ValidKey reports whether a record can have this key: 1 to 128 ASCII letters,
// digits, '-' and '_', the first a letter or digit, and not a name that a store
// keeps for itself ("index", in any case). Such a key is a safe file name.
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
