package session

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"unicode/utf8"
)

// Limits of the metadata of a session.
const (
	maxMetadata    = 64 << 10 // bytes of all keys and values
	maxMetadataKey = 128      // bytes
)

// ErrMetadata is returned for metadata that cannot be stored: it is too large, or
// a value is not valid JSON.
var ErrMetadata = errors.New("metadata cannot be kept")

// UpdateMetadata merges metadata into that of the session; a nil value or a JSON
// null removes its key. It fails with ErrMetadata and changes nothing if a key or
// value is invalid or if the total would grow beyond 64 KiB.
func (m *Manager) UpdateMetadata(ctx context.Context, id string, metadata map[string]json.RawMessage) error {
	for key, value := range metadata {
		switch {
		case key == "" || len(key) > maxMetadataKey || !utf8.ValidString(key):
			return fmt.Errorf("%w: a key must have 1 to %d bytes of UTF-8", ErrMetadata, maxMetadataKey)
		case value != nil && !storable(value):
			return fmt.Errorf("%w: the value of %q is not valid JSON, or is nested too deeply", ErrMetadata, key)
		}
	}
	e, err := m.lookup(ctx, id)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.unlock()
	merged := merge(e.s.Metadata, metadata)
	// An imported session may exceed the limit; it must be allowed to shrink.
	if size := sizeOf(merged); size > maxMetadata && size > sizeOf(e.s.Metadata) {
		return fmt.Errorf("%w: it would have %d bytes, the limit is %d", ErrMetadata, size, maxMetadata)
	}
	return m.change(e, func(s *Session) { s.Metadata = merged })
}

// storable reports whether value is JSON that can be read again inside a record:
// encoding/json limits the nesting.
func storable(value json.RawMessage) bool {
	return json.Valid(value) && json.Valid(slices.Concat([]byte("[["), value, []byte("]]")))
}

// sizeOf returns the bytes of all keys and values.
func sizeOf(metadata map[string]json.RawMessage) (bytes int) {
	for key, value := range metadata {
		bytes += len(key) + len(value)
	}
	return bytes
}

// merge returns old with the changes of with; it modifies neither.
func merge(old, with map[string]json.RawMessage) map[string]json.RawMessage {
	merged := make(map[string]json.RawMessage, len(old)+len(with))
	maps.Copy(merged, old)
	for key, value := range with {
		if value == nil || string(bytes.TrimSpace(value)) == "null" {
			delete(merged, key)
			continue
		}
		merged[key] = bytes.Clone(value)
	}
	return merged
}
