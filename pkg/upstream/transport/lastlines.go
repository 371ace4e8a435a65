package transport

import (
	"regexp"
	"strings"
	"sync"
	"unicode"
)

const (
	maxLastLines = 24   // that are kept
	maxLastLine  = 300  // bytes of one
	maxLastText  = 1000 // bytes of all, as an error has them
)

// LastLines are the last lines that a child wrote to stderr, or to stdout besides messages. They often say why it did not
// start. Secrets have been masked in them. A nil *LastLines keeps nothing. It may be used concurrently.
type LastLines struct {
	mu    sync.Mutex
	lines []string
}

// add keeps a line. Frames of a JavaScript stack are not kept: the line above them says what is wrong.
func (l *LastLines) add(line string) {
	if l == nil {
		return
	}
	if len(line) > 4*maxLastLine { // it may be mostly escapes
		line = line[:4*maxLastLine]
	}
	text := printable(line)
	if text == "" || strings.HasPrefix(text, "at ") && strings.TrimLeft(line, " \t") != line {
		return
	}
	if len(text) > maxLastLine {
		text = strings.ToValidUTF8(text[:maxLastLine], "") + "…"
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lines = append(l.lines, text); len(l.lines) > maxLastLines {
		l.lines = append(l.lines[:0], l.lines[1:]...)
	}
}

// String returns the lines, the last ones if they are long, separated by bars.
func (l *LastLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	first, size := len(l.lines), 0
	for first > 0 && size+len(l.lines[first-1]) <= maxLastText {
		first--
		size += len(l.lines[first])
	}
	return strings.Join(l.lines[first:], " | ")
}

// escapes are those with which programs colour what they write.
var escapes = regexp.MustCompile(`\x1b(\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)?)`)

// printable returns a line without what steers a terminal.
func printable(line string) string {
	if strings.Contains(line, "\x1b") {
		line = escapes.ReplaceAllString(line, "")
	}
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, strings.ToValidUTF8(line, "\uFFFD")))
}
