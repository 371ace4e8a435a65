package persist

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// A BatchError contains the keys whose change failed, each with its cause. Every
// other change of the batch is durable. errors.Is and errors.As examine the causes.
type BatchError struct {
	Failed map[string]error
}

// Error describes the failures of the first few keys in alphabetical order.
func (e *BatchError) Error() string {
	const maxKeys = 3
	var b strings.Builder
	fmt.Fprintf(&b, "%d records not stored", len(e.Failed))
	for i, key := range e.keys() {
		if i == maxKeys {
			b.WriteString("; ...")
			break
		}
		fmt.Fprintf(&b, "; %.40q: %v", key, e.Failed[key])
	}
	return b.String()
}

// Unwrap returns the causes in the order of their keys.
func (e *BatchError) Unwrap() []error {
	errs := make([]error, 0, len(e.Failed))
	for _, key := range e.keys() {
		errs = append(errs, e.Failed[key])
	}
	return errs
}

func (e *BatchError) keys() []string { return slices.Sorted(maps.Keys(e.Failed)) }

// failures maps keys to the causes of their failures while a batch is written.
type failures map[string]error

func (f failures) err() error {
	if len(f) == 0 {
		return nil
	}
	return &BatchError{Failed: f}
}

// plan returns the last change of each key, in order. Invalid changes are returned
// as failures instead.
func plan(changes []Change) (wanted []Change, failed failures) {
	failed = make(failures)
	wanted = make([]Change, 0, len(changes))
	seen := make(map[string]bool, len(changes))
	for _, c := range slices.Backward(changes) {
		if seen[c.Key] {
			continue
		}
		seen[c.Key] = true
		if err := c.check(); err != nil {
			failed[c.Key] = err
			continue
		}
		wanted = append(wanted, c)
	}
	slices.Reverse(wanted)
	return wanted, failed
}

func (c Change) check() error {
	if len(c.Value) > MaxValue {
		return fmt.Errorf("%w: %d bytes", ErrTooLarge, len(c.Value))
	}
	return checkKey(c.Key)
}

func checkKey(key string) error {
	if !ValidKey(key) {
		return fmt.Errorf("%w: %.40q", ErrKey, key)
	}
	return nil
}
