package catalog

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
)

// ErrCursor is returned by [Snapshot.Page] for a cursor that it did not issue, or whose
// item is not in the list any more.
var ErrCursor = errors.New("invalid cursor; ask for the list again from its start")

// maxCursorName is the length of the longest name in a cursor, in bytes. It limits the
// length of cursors.
const maxCursorName = 8192

// serverMark is the length of the first part of a cursor, in bytes.
//
// A cursor is the base64 of two parts: the first bytes of a hash of the server, and the
// exposed name of the last item of the page. If the name belongs to another server now,
// it is at another place in the list, and to continue there would skip items.
const serverMark = 4

// Page returns at most size items of kind k as the result of a list request: those
// after cursor, or from the start if cursor is empty. A size of 0 or less means all. The
// result has a nextCursor if there are more items. If the page contains the whole list,
// the result is that of List, which is shared and must not be changed; any other result
// belongs to the caller.
//
// A cursor is valid for every later Snapshot, also after a restart, as long as its item
// is in the list. A caller that follows the cursors gets each item once that stays in
// the list, whatever is added or removed meanwhile. A page never ends with a name of
// more than 8 KiB, because cursors are limited: then it has more items than size.
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

// after returns the index of the item after that of cursor.
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

// newCursor returns the cursor for the items after it.
func newCursor(it Item) string {
	mark := sha256.Sum256([]byte(it.Server))
	return base64.RawURLEncoding.EncodeToString(append(mark[:serverMark:serverMark], it.Exposed...))
}

// page copies the items from start to end, exclusive, into the result of a list request.
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
