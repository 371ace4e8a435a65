package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/tailscale/hujson"
)

// isJSON reports whether text is meant as JSON: after comments of JSON, it begins with a brace. It is then never read as
// YAML, in which comments and escapes are others.
func isJSON(text []byte) bool {
	for {
		text = bytes.TrimLeft(text, " \t\n")
		var found bool
		switch {
		case bytes.HasPrefix(text, []byte("//")):
			_, text, found = bytes.Cut(text, []byte("\n"))
		case bytes.HasPrefix(text, []byte("/*")):
			_, text, found = bytes.Cut(text, []byte("*/"))
		default:
			return bytes.HasPrefix(text, []byte("{"))
		}
		if !found { // nothing but a comment: the parser of JSON has the better words for it
			return true
		}
	}
}

// readJSON returns the root of text, which is JSON with comments and trailing commas. It returns nil if text is not
// valid: then it adds a problem.
func readJSON(text []byte, ps *problems) *node {
	b := jsonBuilder{text: text}
	if offset, reason := jsonFault(text); reason != "" {
		ps.add(b.at(offset), "", reason)
		return nil
	}
	root, err := hujson.Parse(append(bytes.Clone(text), '\n')) // hujson ends a // comment at a line break only
	if err != nil {
		offset, reason := b.syntaxError(err)
		ps.add(b.at(offset), "", reason)
		return nil
	}
	n := b.node(root)
	if b.nodes > maxNodes {
		ps.add(position{1, 1}, "", fmt.Sprintf("the file has more than %d values; expected fewer", maxNodes))
		return nil
	}
	return n
}

// jsonBuilder makes nodes from the syntax tree of the JSON parser.
type jsonBuilder struct {
	text  []byte
	nodes int

	// The position that was asked for last. Most are asked for in the order of the file.
	known  int
	knownP position
}

// at returns the position of the byte at offset. Columns count characters.
func (b *jsonBuilder) at(offset int) position {
	offset = min(offset, len(b.text))
	if offset < b.known || b.knownP.line == 0 {
		b.known, b.knownP = 0, position{1, 1}
	}
	for _, c := range b.text[b.known:offset] {
		switch {
		case c == '\n':
			b.knownP = position{b.knownP.line + 1, 1}
		case c&0xc0 != 0x80: // a byte that begins a character
			b.knownP.column++
		}
	}
	b.known = offset
	return b.knownP
}

func (b *jsonBuilder) node(v hujson.Value) *node {
	n := &node{position: b.at(v.StartOffset), size: 1}
	if b.nodes++; b.nodes > maxNodes {
		return n
	}
	switch v := v.Value.(type) {
	case *hujson.Object:
		n.kind = kindMapping
		b.members(n, v.Members)
	case *hujson.Array:
		n.kind = kindList
		for _, e := range v.Elements {
			n.items = append(n.items, b.node(e))
		}
	case hujson.Literal:
		n.literal(v)
	}
	return n
}

// members adds the members of an object to n.
func (b *jsonBuilder) members(n *node, members []hujson.ObjectMember) {
	seen := map[string]position{}
	for _, m := range members {
		e := entry{position: b.at(m.Name.StartOffset)}
		if name, ok := m.Name.Value.(hujson.Literal); ok {
			e.key = name.String()
		}
		if first, ok := seen[e.key]; ok {
			e.wrong = fmt.Sprintf("is given twice, first in line %d; expected it once", first.line)
		} else {
			seen[e.key] = e.position
		}
		e.value = b.node(m.Value)
		n.entries = append(n.entries, e)
	}
}

// literal makes n the scalar in v.
func (n *node) literal(v hujson.Literal) {
	switch v.Kind() {
	case '"':
		n.kind, n.text = kindText, v.String()
	case 't', 'f':
		n.kind, n.text = kindBool, string(v)
	case 'n':
		n.kind = kindNone
	default:
		n.kind = kindFloat
		if whole, err := strconv.ParseInt(string(v), 10, 64); err == nil {
			n.kind, n.text, n.whole = kindInteger, string(v), whole
		} else if whole, err := strconv.ParseUint(string(v), 10, 64); err == nil {
			n.kind, n.text, n.whole = kindInteger, string(v), whole
		}
	}
}

// syntaxError returns the offset and the reason of an error of the JSON parser, whose own text may contain a value.
func (b *jsonBuilder) syntaxError(err error) (offset int, reason string) {
	var at position
	if _, scan := fmt.Sscanf(err.Error(), "hujson: line %d, column %d:", &at.line, &at.column); scan != nil {
		return 0, "not valid JSON"
	}
	for range at.line - 1 {
		offset += bytes.IndexByte(b.text[offset:], '\n') + 1
	}
	offset += at.column - 1
	if errors.Is(err, io.ErrUnexpectedEOF) || offset >= len(b.text) {
		return len(b.text), "not valid JSON: the file ends too early; expected a closing quote, bracket, brace or */"
	}
	return offset, "not valid JSON: " + jsonExpected(err.Error(), b.text, offset)
}

// jsonExpected says what is expected at offset, where the parser stopped with that message.
func jsonExpected(message string, text []byte, offset int) string {
	rest := text[offset:]
	switch {
	case bytes.HasPrefix(rest, []byte("${")):
		return `a ${VAR} needs quotes: "${VAR}"`
	case rest[0] == '\'':
		return "strings are written in double quotes"
	case rest[0] == '#':
		return "a comment begins with //, or is written /* like this */"
	case rest[0] == '/' && commentLength(rest) == 0:
		return "a comment begins with //, or is written /* like this */"
	case strings.Contains(message, "comment"):
		return "the comment contains a character that no comment may have"
	case nameExpected(text[:offset]):
		return "expected a name in double quotes; a file that begins with { is JSON, not YAML"
	case strings.Contains(message, "after object name"):
		return "expected a colon after the name"
	case strings.Contains(message, "after object value"):
		return "expected a comma or } after the value"
	case strings.Contains(message, "after array value"):
		return "expected a comma or ] after the value"
	case strings.Contains(message, "after top-level value"):
		return "expected nothing after the last }"
	}
	return `expected a value: a string in double quotes, a number, true, false, null, { or [`
}

// nameExpected reports whether the name of a member, or the end of the object, has to follow text.
func nameExpected(text []byte) bool {
	var open []byte // the brackets and braces around the end of text
	last := byte(0) // the last character that is neither space nor comment
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch c {
		case ' ', '\t', '\n':
			continue
		case '/':
			i += commentLength(text[i:])
			continue
		case '"':
			length, _, _ := stringFault(text[i:])
			i += max(1, length) - 1
		case '{', '[':
			open = append(open, c)
		case '}', ']':
			open = open[:max(0, len(open)-1)]
		}
		last = c
	}
	return bytes.HasSuffix(open, []byte("{")) && (last == '{' || last == ',')
}
