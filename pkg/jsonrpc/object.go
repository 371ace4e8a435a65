package jsonrpc

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"slices"

	"github.com/go-json-experiment/json/jsontext"
)

var errNotObject = errors.New("not a JSON object")

// span is where a member stands in the scanned bytes.
type span struct{ name, value, end int } // first byte of its name, of its value, first byte after it

// scan calls yield for each member of the JSON object data, in order. It
// fails on anything that is not exactly one well-formed object in UTF-8.
// Members of members may repeat: they are passed on, not read.
func scan(data []byte, yield func(name string, value json.RawMessage, at span) error) error {
	dec := jsontext.NewDecoder(bytes.NewBuffer(data), jsontext.AllowDuplicateNames(true))
	switch dec.PeekKind() {
	case '{':
	case 0:
		_, err := dec.ReadToken()
		return noEOF(err)
	default:
		if err := dec.SkipValue(); err != nil {
			return noEOF(err)
		}
		return errNotObject
	}
	if _, err := dec.ReadToken(); err != nil {
		return noEOF(err)
	}
	for dec.PeekKind() != '}' {
		quoted, err := dec.ReadValue()
		if err != nil {
			return noEOF(err)
		}
		at := span{name: int(dec.InputOffset()) - len(quoted)}
		name, err := text(json.RawMessage(quoted))
		if err != nil {
			return err
		}
		value, err := dec.ReadValue()
		if err != nil {
			return noEOF(err)
		}
		at.end = int(dec.InputOffset())
		at.value = at.end - len(value)
		if err := yield(name, data[at.value:at.end:at.end], at); err != nil {
			return err
		}
	}
	if _, err := dec.ReadToken(); err != nil {
		return noEOF(err)
	}
	if _, err := dec.ReadToken(); !errors.Is(err, io.EOF) {
		return errors.New("unexpected data after the object")
	}
	return nil
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Fields returns the values of the named members of a JSON object, in the
// order of names; nil where there is none. The values alias obj. A named member
// that occurs twice is an error, and so is anything that is not an object; an
// empty obj has no members.
func Fields(obj json.RawMessage, names ...string) ([]json.RawMessage, error) {
	values := make([]json.RawMessage, len(names))
	if len(obj) == 0 {
		return values, nil
	}
	err := scan(obj, func(name string, value json.RawMessage, _ span) error {
		i := slices.Index(names, name)
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

// StringField returns the value of the string member name of obj. It reports
// false where there is none or it is not a string.
func StringField(obj json.RawMessage, name string) (string, bool) {
	values, err := Fields(obj, name)
	if err != nil {
		return "", false
	}
	s, err := text(values[0])
	return s, err == nil
}

// Edit sets one member of an object; a nil Value removes it.
type Edit struct {
	Name  string
	Value json.RawMessage
}

// Rewrite returns a copy of the object obj with the edits applied: a member
// that exists keeps its place, a new one is appended, every other byte stays as
// it is. An empty obj counts as {}.
func Rewrite(obj json.RawMessage, edits ...Edit) (json.RawMessage, error) {
	if len(obj) == 0 {
		obj = json.RawMessage("{}")
	}
	out := make([]byte, 0, len(obj)+editSize(edits))
	out = append(out, obj[:bytes.IndexByte(obj, '{')+1]...)
	done := make([]bool, len(edits))
	last, kept := len(out), 0
	err := scan(obj, func(name string, value json.RawMessage, at span) error {
		gap := obj[last:at.name]
		last = at.end
		if i := slices.IndexFunc(edits, func(e Edit) bool { return e.Name == name }); i >= 0 {
			done[i] = true
			if value = edits[i].Value; value == nil {
				return nil
			}
		}
		if kept == 0 { // every member before this one is gone, and so is the comma
			gap = bytes.Replace(gap, []byte(","), nil, 1)
		}
		kept++
		out = append(append(out, gap...), obj[at.name:at.value]...)
		out = append(out, value...)
		return nil
	})
	if err != nil {
		return nil, err
	}
	for i, e := range edits {
		if done[i] || e.Value == nil {
			continue
		}
		if kept > 0 {
			out = append(out, ',')
		}
		kept++
		out = append(AppendString(out, e.Name), ':')
		out = append(out, e.Value...)
	}
	return append(out, obj[last:]...), nil
}

func editSize(edits []Edit) int {
	n := 0
	for _, e := range edits {
		n += len(e.Name) + len(e.Value) + 4
	}
	return n
}
