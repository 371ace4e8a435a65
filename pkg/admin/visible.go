package admin

import (
	"bytes"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// Visible returns text with an escape such as \u202e in the place of every character
// that shows no mark of its own: control characters, line and paragraph separators,
// and the formatting characters that turn or hide text. Text from clients and servers
// can then neither steer a terminal nor pass for another text.
func Visible(text string) string {
	if !strings.ContainsFunc(text, hidden) {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		switch {
		case !hidden(r):
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		default:
			b.WriteString(escaped(r))
		}
	}
	return b.String()
}

// VisibleLines is Visible for a text of several lines, which stay lines.
func VisibleLines(text string) string {
	lines := strings.Split(text, "\n")
	for i := range lines {
		lines[i] = Visible(lines[i])
	}
	return strings.Join(lines, "\n")
}

// VisibleJSON is Visible for the strings inside JSON, whose value does not change:
// only the escapes of JSON are added.
func VisibleJSON(text []byte) []byte {
	odd := func(r rune) bool { return r >= 0x7f && hidden(r) } // below that, JSON itself has an escape
	if !bytes.ContainsFunc(text, odd) {
		return text
	}
	b := make([]byte, 0, len(text)+32)
	for _, r := range string(text) {
		if odd(r) {
			b = append(b, escaped(r)...)
			continue
		}
		b = utf8.AppendRune(b, r)
	}
	return b
}

// hidden reports whether r shows no mark of its own. Spaces of a line do.
func hidden(r rune) bool { return r == utf8.RuneError || !unicode.IsGraphic(r) }

// escaped returns the escape of JSON for r.
func escaped(r rune) string {
	if high, low := utf16.EncodeRune(r); high != utf8.RuneError {
		return fmt.Sprintf(`\u%04x\u%04x`, high, low)
	}
	return fmt.Sprintf(`\u%04x`, r)
}
