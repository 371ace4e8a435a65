package jsonrpc

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"sync"

	"github.com/go-json-experiment/json/jsontext"
)

var (
	errNotObject = errors.New("not a JSON object")
	errNotString = errors.New("not a string")
)

// span is the position of a member in the scanned bytes: the offsets of its name and of
// its value, and the offset after it.
type span struct{ name, value, end int }

// scan calls yield for each member of the JSON object data, in order. It fails if data is
// not exactly one valid object in UTF-8. In nested objects names may repeat: the hub
// passes them on without reading them.
func scan(data []byte, yield func(name []byte, value json.RawMessage, at span) error) error {
	r := readers.Get().(*reader) //nolint:forcetypeassert // New returns nothing else
	defer r.release()
	r.rest = *bytes.NewBuffer(data)
	r.Reset(&r.rest, r.options...)
	return r.scan(data, yield)
}

// reader is a decoder for reuse. Every message is scanned several times, and a new decoder
// for each scan caused most of the allocations of a call.
type reader struct {
	jsontext.Decoder
	rest    bytes.Buffer // the input; never written to
	options []jsontext.Options
}

var readers = sync.Pool{New: func() any {
	return &reader{options: []jsontext.Options{jsontext.AllowDuplicateNames(true)}}
}}

// release puts the reader back into the pool, without a reference to the message.
func (r *reader) release() {
	r.rest = bytes.Buffer{}
	r.Reset(&r.rest)
	readers.Put(r)
}

func (r *reader) scan(data []byte, yield func(name []byte, value json.RawMessage, at span) error) error {
	switch r.PeekKind() {
	case '{':
	case 0:
		_, err := r.ReadToken()
		return noEOF(err)
	default:
		if err := r.SkipValue(); err != nil {
			return noEOF(err)
		}
		return errNotObject
	}
	if _, err := r.ReadToken(); err != nil {
		return noEOF(err)
	}
	for r.PeekKind() != '}' {
		quoted, err := r.ReadValue()
		if err != nil {
			return noEOF(err)
		}
		at := span{name: int(r.InputOffset()) - len(quoted)}
		name, err := unquote(quoted)
		if err != nil {
			return err
		}
		value, err := r.ReadValue()
		if err != nil {
			return noEOF(err)
		}
		at.end = int(r.InputOffset())
		at.value = at.end - len(value)
		if err := yield(name, data[at.value:at.end:at.end], at); err != nil {
			return err
		}
	}
	if _, err := r.ReadToken(); err != nil {
		return noEOF(err)
	}
	if _, err := r.ReadToken(); !errors.Is(err, io.EOF) {
		return errors.New("unexpected data after the object")
	}
	return nil
}

// noEOF replaces io.EOF, because the end of the input is an error inside of a value.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Fields returns the values of the named members of a JSON object, in the order of names,
// nil for a missing one. The values alias obj. It fails if obj is not an object or if a
// named member occurs twice. An empty obj has no members.
func Fields(obj json.RawMessage, names ...string) ([]json.RawMessage, error) {
	values := make([]json.RawMessage, len(names))
	if len(obj) == 0 {
		return values, nil
	}
	err := scan(obj, func(name []byte, value json.RawMessage, _ span) error {
		i := slices.IndexFunc(names, func(n string) bool { return n == string(name) })
		if i < 0 {
			return nil
		}
		if values[i] != nil {
			return invalid("the member %q occurs twice", name)
		}
		values[i] = value
		return nil
	})
	return values, err
}

// Field returns the value of one member, like Fields.
func Field(obj json.RawMessage, name string) (json.RawMessage, error) {
	if len(obj) == 0 {
		return nil, nil
	}
	var found json.RawMessage
	err := scan(obj, func(have []byte, value json.RawMessage, _ span) error {
		if string(have) != name {
			return nil
		}
		if found != nil {
			return invalid("the member %q occurs twice", name)
		}
		found = value
		return nil
	})
	return found, err
}

// StringField returns the text of the member name of obj. It reports false if the member
// is missing or not a string.
func StringField(obj json.RawMessage, name string) (string, bool) {
	value, err := Field(obj, name)
	if err != nil {
		return "", false
	}
	s, err := Text(value)
	return s, err == nil
}

// Edit sets one member of an object; a nil Value removes it.
type Edit struct {
	Name    string
	Value   json.RawMessage
	Members []Edit // if set, edit these members of the value instead; Value is ignored
}

// Rewrite returns a copy of the object obj with the edits applied. A member that exists
// keeps its place, a new one is appended, and no other byte changes. An empty obj counts
// as {}.
func Rewrite(obj json.RawMessage, edits ...Edit) (json.RawMessage, error) {
	return appendRewritten(make([]byte, 0, len(obj)+editSize(edits)), obj, edits)
}

func appendRewritten(out []byte, obj json.RawMessage, edits []Edit) ([]byte, error) {
	if len(obj) == 0 {
		obj = json.RawMessage("{}")
	}
	last, kept := bytes.IndexByte(obj, '{')+1, 0
	out = append(out, obj[:last]...)
	done := make([]bool, len(edits))
	err := scan(obj, func(name []byte, value json.RawMessage, at span) (err error) {
		gap := obj[last:at.name]
		last = at.end
		i := slices.IndexFunc(edits, func(e Edit) bool { return e.Name == string(name) })
		if i >= 0 {
			done[i] = true
			if edits[i].removes() {
				return nil
			}
		}
		if kept == 0 { // the members before this one are removed: remove the comma too
			gap = bytes.Replace(gap, []byte(","), nil, 1)
		}
		kept++
		out = append(append(out, gap...), obj[at.name:at.value]...)
		if i >= 0 {
			out, err = edits[i].appendTo(out, value)
		} else {
			out = append(out, value...)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	for i, e := range edits {
		if done[i] || e.removes() {
			continue
		}
		if kept > 0 {
			out = append(out, ',')
		}
		kept++
		out = append(appendString(out, e.Name), ':')
		if out, err = e.appendTo(out, nil); err != nil {
			return nil, err
		}
	}
	return append(out, obj[last:]...), nil
}

func (e Edit) removes() bool { return e.Value == nil && e.Members == nil }

// appendTo appends the new value of a member whose value was value.
func (e Edit) appendTo(out []byte, value json.RawMessage) ([]byte, error) {
	if e.Members != nil {
		return appendRewritten(out, value, e.Members)
	}
	return append(out, e.Value...), nil
}

func editSize(edits []Edit) int {
	n := 2
	for _, e := range edits {
		n += len(e.Name) + len(e.Value) + 4 + editSize(e.Members)
	}
	return n
}
