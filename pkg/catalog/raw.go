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

// maxDepth bounds the nesting of an item. Parsers have limits, and one that
// gives up on a list loses the items of all servers.
const maxDepth = 100

// An entry is an item that has been read once.
type entry struct {
	name       string // value of the identity member, unescaped
	raw        json.RawMessage
	start, end int      // raw[start:end] is that value as the server spelled it
	fault      string   // why the item is left out, as a predicate; usually empty
	pattern    *pattern // of a template
	unmatched  string   // why a template has no pattern
}

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
		entries[i] = e
	}
	return entries
}

// read finds the value of the top-level member identity in e.raw.
//
// It takes objects as RFC 8259 defines them, and refuses what would make the
// merged list unreadable for somebody (bytes that are not UTF-8, deep nesting)
// or mean different things to different readers (a member that occurs twice
// at the top level, where the identity is). What is inside the members is
// between the server and the client: a lone surrogate escape in a description
// or a repeated name in a schema goes through.
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

// readIdentity reads the value of the identity member. It leaves e.name empty
// when that is not a string of Unicode text.
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

// skipValue passes over one value and checks its nesting.
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

// appendTo appends the item to dst, under the name exposed.
func (e *entry) appendTo(dst []byte, exposed string) []byte {
	if exposed == e.name {
		return append(dst, e.raw...)
	}
	dst = append(dst, e.raw[:e.start]...)
	dst, _ = jsontext.AppendQuote(dst, exposed) // fails for invalid UTF-8 only, which prefixed rules out
	return append(dst, e.raw[e.end:]...)
}
