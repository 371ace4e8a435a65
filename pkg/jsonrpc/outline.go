package jsonrpc

import (
	"bytes"
	"encoding/json"
	"regexp"
	"slices"
)

const (
	maxOutlineIDs = 4       // different ids that are taken note of
	maxIDSize     = 256     // bytes of an id in a text that is not JSON
	tailSize      = 1 << 10 // bytes at the end of a text in which an id is looked for
)

// outline is what can be told of a message without being able to read it.
type outline struct {
	ids        []ID // in the place of the message's id; several if it is given several times
	hasMethod  bool
	hasVersion bool
	foreign    bool // it has members that no message has
}

// isMessage reports whether the text is, or was to become, a message, and not the record of a log.
func (o outline) isMessage() bool { return o.hasVersion || !o.foreign }

// outlineOf finds the members of the object that data begins with, as far as brackets and strings allow. Nothing inside
// of its members is taken for one.
func outlineOf(data []byte) outline {
	var o outline
	depth, name := 0, []byte(nil)
	for i := 0; i < len(data); {
		switch c := data[i]; c {
		case '{', '[':
			depth++
			i++
		case '}', ']':
			if depth--; depth <= 0 {
				i = len(data)
			}
			i++
		case '"':
			end := stringEnd(data, i)
			if depth == 1 {
				name = data[i:end]
			}
			i = end
		case ':':
			i++
			if depth == 1 && name != nil {
				o.add(name, data[i:])
				name = nil
				if end := skipScalarString(data, i); end > i {
					i = end
				}
			}
		default:
			i++
		}
	}
	o.addTail(data)
	return o
}

// add notes a member whose value data begins with.
func (o *outline) add(quoted, data []byte) {
	name, err := Text(quoted)
	if err != nil {
		return
	}
	switch i, _ := memberOf([]byte(name)); i {
	case memberID:
		o.addID(data)
	case memberMethod:
		o.hasMethod = o.hasMethod || !bytes.HasPrefix(bytes.TrimLeft(data, whitespace), []byte("null"))
	case memberVersion:
		o.hasVersion = true
	case -1:
		o.foreign = true
	}
}

const whitespace = " \t\r\n"

// addID notes the id that data begins with, if it is a string or number.
func (o *outline) addID(data []byte) {
	data = bytes.TrimLeft(data, whitespace)
	data = data[:min(len(data), maxIDSize)]
	n := bytes.IndexAny(data, ",} \t\r\n")
	if len(data) > 0 && data[0] == '"' {
		n = stringEnd(data, 0)
	}
	if n <= 0 {
		return // the text ends in it
	}
	id := ID(data[:n])
	if _, err := parseID(data[:n]); err != nil || !json.Valid(data[:n]) || id == Null {
		return
	}
	if !slices.Contains(o.ids, id) && len(o.ids) < maxOutlineIDs {
		o.ids = append(o.ids, id)
	}
}

// lastMembers is the end of a message as some libraries write it, with the id behind the result. A quote inside of the
// result that is not escaped does not hide it.
var lastMembers = regexp.MustCompile(`,\s*"jsonrpc"\s*:\s*"2\.0"\s*,\s*"id"\s*:\s*("[^"\\]{0,200}"|-?[0-9]{1,20})\s*\}\s*$`)

// addTail notes the id at the end of data.
func (o *outline) addTail(data []byte) {
	found := lastMembers.FindSubmatch(data[max(0, len(data)-tailSize):])
	if found == nil {
		return
	}
	o.hasVersion = true
	o.addID(slices.Concat(found[1], []byte("}")))
}

// stringEnd returns the index after the string that begins at i, or the end of data.
func stringEnd(data []byte, i int) int {
	for i++; i < len(data); i++ {
		switch data[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(data)
}

// skipScalarString returns the index after the string that is the value at i, so that it is not taken for a name; i if
// the value is something else.
func skipScalarString(data []byte, i int) int {
	at := i
	for at < len(data) && bytes.IndexByte([]byte(whitespace), data[at]) >= 0 {
		at++
	}
	if at < len(data) && data[at] == '"' {
		return stringEnd(data, at)
	}
	return i
}
