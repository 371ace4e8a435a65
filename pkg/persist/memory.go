package persist

import (
	"bytes"
	"context"
	"iter"
	"maps"
	"slices"
	"sync"
)

// Memory is a Store in memory, for tests and for programs whose sessions need not
// survive a restart. Its zero value is empty and ready to use; it must not be copied
// after its first use.
type Memory struct {
	mu      sync.RWMutex
	records map[string][]byte
	aside   []Aside
	closed  bool
}

var _ Store = (*Memory)(nil)

// An Aside is a record that was set aside.
type Aside struct {
	Key, Reason string
	Value       []byte
}

// Get implements Store.
func (m *Memory) Get(ctx context.Context, key string) ([]byte, bool, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if err := m.check(ctx); err != nil {
		return nil, false, err
	}
	if err := checkKey(key); err != nil {
		return nil, false, err
	}
	value, ok := m.records[key]
	return bytes.Clone(value), ok, nil
}

// Apply implements Store.
func (m *Memory) Apply(ctx context.Context, changes []Change) error {
	wanted, failed := plan(changes)
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.check(ctx); err != nil {
		return err
	}
	if m.records == nil {
		m.records = make(map[string][]byte)
	}
	for _, c := range wanted {
		if c.Value == nil {
			delete(m.records, c.Key)
		} else {
			m.records[c.Key] = bytes.Clone(c.Value)
		}
	}
	return failed.err()
}

// Keys implements Store. It yields the keys that exist when the iteration starts.
func (m *Memory) Keys(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		keys, err := m.snapshot(ctx)
		if err != nil {
			yield("", err)
			return
		}
		yieldKeys(ctx, keys, yield)
	}
}

func (m *Memory) snapshot(ctx context.Context) ([]string, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if err := m.check(ctx); err != nil {
		return nil, err
	}
	return slices.Collect(maps.Keys(m.records)), nil
}

// SetAside implements Store; Asides returns the records set aside.
func (m *Memory) SetAside(ctx context.Context, key, reason string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.check(ctx); err != nil {
		return err
	}
	if err := checkKey(key); err != nil {
		return err
	}
	if value, ok := m.records[key]; ok {
		m.aside = append(m.aside, Aside{Key: key, Reason: reason, Value: value})
		delete(m.records, key)
	}
	return nil
}

// Asides returns the records set aside, oldest first, also after Close. The caller
// must not change the values.
func (m *Memory) Asides() []Aside {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return slices.Clone(m.aside)
}

// Close implements Store.
func (m *Memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return ErrClosed
	}
	m.closed = true
	return nil
}

// check returns ErrClosed after Close, otherwise the error of ctx. The caller holds mu.
func (m *Memory) check(ctx context.Context) error {
	if m.closed {
		return ErrClosed
	}
	return ctx.Err()
}

// yieldKeys yields keys until the caller stops or ctx ends.
func yieldKeys(ctx context.Context, keys []string, yield func(string, error) bool) {
	for _, key := range keys {
		if err := ctx.Err(); err != nil {
			yield("", err)
			return
		}
		if !yield(key, nil) {
			return
		}
	}
}
