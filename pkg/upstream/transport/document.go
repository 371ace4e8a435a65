package transport

import (
	"bytes"

	"github.com/mcphub-go/mcphub/pkg/budget"
)

// lineDocument joins the lines of a message that a child writes over several, as programs do that print JSON for people.
// Such a message begins with a bracket that is alone on its line, and ends with the line that closes it. It is used by
// the readLoop.
type lineDocument struct {
	text   []byte // of the lines so far, with their ends; empty: no message has begun
	depth  int    // of brackets
	limit  int64  // bytes of a message
	memory budget.Hold
}

// add takes the next line. It returns the texts that are to be read now: none while a message goes on. A line that
// begins like a message ends one that has been begun: the brackets before it were no message.
func (d *lineDocument) add(line []byte) [][]byte {
	begins := isBracket(line)
	if len(d.text) == 0 && !begins {
		return [][]byte{line}
	}
	var ready [][]byte
	if bytes.HasPrefix(line, []byte(`{"`)) {
		return append(d.end(), line)
	}
	if err := d.memory.Grow(int64(len(line)) + 1); err != nil || int64(len(d.text)+len(line)) > d.limit {
		return append(d.end(), line)
	}
	d.text = append(append(d.text, line...), '\n')
	if d.depth += depthOf(line); d.depth <= 0 {
		ready = d.end()
	}
	return ready
}

// end returns what has been joined, if anything.
func (d *lineDocument) end() [][]byte {
	text := d.text
	d.text, d.depth = nil, 0
	d.memory.Release()
	if len(text) == 0 {
		return nil
	}
	return [][]byte{bytes.TrimRight(text, "\n")}
}

// isBracket reports whether a line is an opening bracket and nothing else.
func isBracket(line []byte) bool {
	text := bytes.TrimSpace(line)
	return len(text) == 1 && (text[0] == '{' || text[0] == '[')
}

// depthOf returns how many more brackets a line opens than it closes. A string does not go on in the next line.
func depthOf(line []byte) (depth int) {
	inString := false
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			depth++
		case c == '}' || c == ']':
			depth--
		}
	}
	return depth
}
