package telemetry

import (
	"bytes"
	"io"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// visibleJSON writes JSON with an escape for each character that shows no mark of its
// own, such as one that turns or hides the text around it. Records contain names that
// clients and servers choose, and a terminal may show them. Each Write is one record.
type visibleJSON struct{ w io.Writer }

func (v visibleJSON) Write(record []byte) (int, error) {
	if !bytes.ContainsFunc(record, hidden) {
		return v.w.Write(record)
	}
	escaped := make([]byte, 0, len(record)+32)
	for _, r := range string(record) {
		if hidden(r) {
			escaped = appendEscape(escaped, r)
		} else {
			escaped = utf8.AppendRune(escaped, r)
		}
	}
	if _, err := v.w.Write(escaped); err != nil {
		return 0, err
	}
	return len(record), nil
}

// hidden reports whether r shows no mark of its own. JSON itself escapes those of ASCII.
func hidden(r rune) bool { return r >= 0x7f && !unicode.IsGraphic(r) }

// appendEscape appends the escape of JSON for r.
func appendEscape(b []byte, r rune) []byte {
	const digits = "0123456789abcdef"
	units := []uint16{uint16(r)} //nolint:gosec // of the basic plane, or replaced below
	if high, low := utf16.EncodeRune(r); high != utf8.RuneError {
		units = []uint16{uint16(high), uint16(low)} //nolint:gosec // halves of a pair
	}
	for _, u := range units {
		b = append(b, '\\', 'u', digits[u>>12], digits[u>>8&15], digits[u>>4&15], digits[u&15])
	}
	return b
}
