package catalog

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
)

// ErrCursor is reported by [Snapshot.Page] for a cursor that it did not give,
// or whose item is gone.
var ErrCursor = errors.New("invalid cursor; ask for the list again from its start")

// maxCursorName is the length in bytes of the longest name that a page ends on.
// It bounds the cursors.
const maxCursorName = 8192

// A cursor is the base64 of the exposed name of the last item that was given,
// behind some bytes that tell its server: a name that has gone over to another
// server stands elsewhere in the list, and items would be passed over.
const serverMark = 4

// Page returns at most size items of kind k as the result of a list request:
// those after cursor, or from the start if it is empty. It has a nextCursor if
// there are more. A size of 0 or less means all. Where the whole list fits, the
// result is List itself, shared and not to be written to; any other result is
// the caller's.
//
// A cursor holds for every later Snapshot, also after a restart, as long as
// its item is there: what came or went meanwhile changes nothing about the
// others, which the caller gets once each. Cursors are bounded, so a page goes
// on beyond size where it would end on a name of more than 8 KiB.
func (s *Snapshot) Page(k Kind, cursor string, size int) (json.RawMessage, error) {
	m := &s.merged[k]
	start, err := m.after(cursor)
	if err != nil {
		return nil, err
	}
	end := len(m.items)
	if size > 0 && size < end-start {
		end = start + size
	}
	for end < len(m.items) && len(m.items[end-1].Exposed) > maxCursorName {
		end++
	}
	if start == 0 && end == len(m.items) {
		return m.list, nil
	}
	return m.page(k, start, end), nil
}

// after returns the index of the item after the one that cursor names.
func (m *merged) after(cursor string) (int, error) {
	if cursor == "" {
		return 0, nil
	}
	if len(cursor) > base64.RawURLEncoding.EncodedLen(serverMark+maxCursorName) {
		return 0, ErrCursor
	}
	decoded, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil || len(decoded) < serverMark {
		return 0, ErrCursor
	}
	i, ok := m.index[string(decoded[serverMark:])]
	if !ok || cursor != newCursor(m.items[i]) {
		return 0, ErrCursor
	}
	return i + 1, nil
}

func newCursor(it Item) string {
	mark := sha256.Sum256([]byte(it.Server))
	return base64.RawURLEncoding.EncodeToString(append(mark[:serverMark:serverMark], it.Exposed...))
}

// page copies the items from start up to end into the result of a list request.
func (m *merged) page(k Kind, start, end int) json.RawMessage {
	var cursor string
	if end < len(m.items) {
		cursor = newCursor(m.items[end-1])
	}
	length := len(`{"resourceTemplates":[],"nextCursor":""}`) + len(cursor)
	for _, it := range m.items[start:end] {
		length += len(it.Raw) + 1
	}

	out := fmt.Appendf(make([]byte, 0, length), `{"%s":[`, k)
	for i, it := range m.items[start:end] {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, it.Raw...)
	}
	out = append(out, ']')
	if cursor != "" {
		out = append(append(append(out, `,"nextCursor":"`...), cursor...), '"')
	}
	return append(out, '}')
}
