package catalog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// maxDepth limits the nesting of an item. Parsers of clients have limits too, and one
// that rejects a list loses the items of all servers.
const maxDepth = 100

// An entry is a parsed item.
type entry struct {
	name       string // value of the identity member, unescaped
	raw        json.RawMessage
	start, end int      // raw[start:end] is that value as the server encoded it
	fault      string   // why the item is left out, such as "is not a JSON object"; usually empty
	pattern    *pattern // of a template, nil if it has an error
	unmatched  string   // the error in a template
	invalid    string   // what in it breaks the schema of MCP
}

// readAll parses the items of kind k.
func readAll(k Kind, items []json.RawMessage) []entry {
	entries := make([]entry, len(items))
	for i, raw := range items {
		e := entry{raw: raw}
		if err := e.read(k.identity()); err != nil {
			e.fault = err.Error()
		} else if k == Templates {
			if e.pattern, err = newPattern(e.name); err != nil {
				e.unmatched = err.Error()
			}
		}
		if e.fault == "" {
			e.invalid = invalidity(k, raw)
		}
		entries[i] = e
	}
	return entries
}

// read finds the value of the top-level member identity in e.raw.
//
// It accepts objects as RFC 8259 defines them. It rejects an item that some clients could
// not parse as a part of the merged list (invalid UTF-8, deep nesting), and one that
// parsers could understand differently (a top-level member that occurs twice, such as the
// identity). The content of the members is not checked: a lone surrogate escape in a
// description or a repeated name in a schema is passed on.
func (e *entry) read(identity string) error {
	if !utf8.Valid(e.raw) {
		return errors.New("is not valid UTF-8")
	}
	dec := jsontext.NewDecoder(bytes.NewBuffer(e.raw),
		jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	if dec.PeekKind() != jsontext.KindBeginObject {
		return errors.New("is not a JSON object")
	}
	if _, err := dec.ReadToken(); err != nil {
		return fmt.Errorf("is not valid JSON: %w", err)
	}

	seen := make(map[string]bool)
	for {
		key, err := dec.ReadToken()
		if err != nil {
			return fmt.Errorf("is not valid JSON: %w", err)
		}
		if key.Kind() == jsontext.KindEndObject {
			break
		}
		member := key.String() // unescaped: "\u006eame" is "name"
		if seen[member] {
			return fmt.Errorf("has the member %q twice", member)
		}
		seen[member] = true
		if member == identity {
			err = e.readIdentity(dec)
		} else {
			err = skipValue(dec)
		}
		if err != nil {
			return err
		}
	}
	if _, err := dec.ReadToken(); !errors.Is(err, io.EOF) {
		return errors.New("is followed by more data")
	}
	if e.name == "" {
		return fmt.Errorf("has no string %q", identity)
	}
	return nil
}

// readIdentity reads the value of the identity member. It leaves e.name empty if the
// value is not a string of valid Unicode.
func (e *entry) readIdentity(dec *jsontext.Decoder) error {
	value, err := dec.ReadValue()
	if err != nil {
		return fmt.Errorf("is not valid JSON: %w", err)
	}
	e.end = int(dec.InputOffset())
	e.start = e.end - len(value)
	if name, err := jsontext.AppendUnquote(nil, value); err == nil {
		e.name = string(name)
	}
	return nil
}

// skipValue skips one value and checks its nesting.
func skipValue(dec *jsontext.Decoder) error {
	top := dec.StackDepth()
	for {
		if _, err := dec.ReadToken(); err != nil {
			return fmt.Errorf("is not valid JSON: %w", err)
		}
		switch depth := dec.StackDepth(); {
		case depth == top:
			return nil
		case depth > maxDepth:
			return fmt.Errorf("is nested deeper than %d levels", maxDepth)
		}
	}
}

// appendTo appends the item to dst, with exposed as its name.
func (e *entry) appendTo(dst []byte, exposed string) []byte {
	if exposed == e.name {
		return append(dst, e.raw...)
	}
	dst = append(dst, e.raw[:e.start]...)
	dst, _ = jsontext.AppendQuote(dst, exposed) // it fails only for invalid UTF-8, which prefixed replaces
	return append(dst, e.raw[e.end:]...)
}
