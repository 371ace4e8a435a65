package jsonrpc

import (
	"bytes"
	"unicode/utf8"
)

// Repairs is a set of ways in which a text was not quite JSON-RPC, although it could mean one thing only.
type Repairs uint16

// The ways.
const (
	RepairedUTF8      Repairs = 1 << iota // bytes that are not UTF-8 became U+FFFD
	RepairedSurrogate                     // half of a surrogate pair became U+FFFD
	RepairedControl                       // a raw control character in a string was escaped
	RepairedBOM                           // a byte order mark was dropped
	RepairedFraming                       // several messages, an array, or other text beside the message
	RepairedEnvelope                      // members of the envelope are missing, null, given twice or in upper case
	RepairedError                         // an error is no object, or has no integer code or no message
	RepairedID                            // an id came back as another type of JSON
)

// repairNames are the names of the ways, from the lowest bit.
func repairNames() []string {
	return []string{"utf8", "surrogate", "control", "bom", "framing", "envelope", "error", "id"}
}

// AllRepairs returns every way.
func AllRepairs() Repairs { return 1<<len(repairNames()) - 1 }

// Names returns the names of the ways in r.
func (r Repairs) Names() []string {
	var in []string
	for i, name := range repairNames() {
		if r&(1<<i) != 0 {
			in = append(in, name)
		}
	}
	return in
}

// byteOrderMark is U+FEFF in UTF-8. RFC 8259 section 8.1 lets a parser ignore it.
const byteOrderMark = "\ufeff"

// document is one object or array at the beginning of a text.
type document struct {
	text     []byte // with its strings repaired
	size     int    // in the original text
	repairs  Repairs
	complete bool // otherwise the text ends before it does
}

// firstDocument reads the object or array that data begins with. It looks only at brackets and strings: text may still
// be something other than JSON.
func firstDocument(data []byte) document {
	m := mender{in: data}
	depth := 0
	for i := 0; i < len(data); {
		switch data[i] {
		case '"':
			i = m.str(i)
			continue
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		}
		i++
		if depth <= 0 {
			return document{text: m.upTo(i), size: i, repairs: m.repairs, complete: true}
		}
	}
	return document{text: m.upTo(len(data)), size: len(data), repairs: m.repairs}
}

// RepairStrings returns data, which is to be an object or array, with what is wrong in its strings repaired.
func RepairStrings(data []byte) ([]byte, Repairs) {
	text := bytes.TrimLeft(data, whitespace)
	if len(text) == 0 || text[0] != '{' && text[0] != '[' {
		return data, 0
	}
	doc := firstDocument(text)
	return append(doc.text, text[doc.size:]...), doc.repairs
}

// mender copies a text and replaces parts of it. It copies nothing as long as nothing is replaced.
type mender struct {
	in, out []byte
	copied  int // bytes of in
	repairs Repairs
}

// replace replaces the bytes from, to of the text.
func (m *mender) replace(from, to int, why Repairs, with []byte) {
	m.out = append(append(m.out, m.in[m.copied:from]...), with...)
	m.copied = to
	m.repairs |= why
}

// upTo returns the first n bytes of the text, repaired.
func (m *mender) upTo(n int) []byte {
	if m.copied == 0 {
		return m.in[:n:n]
	}
	return append(m.out, m.in[m.copied:n]...)
}

// str repairs the string that begins at i, and returns the index after it.
func (m *mender) str(i int) int {
	for i++; i < len(m.in); {
		switch c := m.in[i]; {
		case c == '"':
			return i + 1
		case c == '\\':
			i = m.escape(i)
		case c < ' ':
			m.replace(i, i+1, RepairedControl, escapedControl(c))
			i++
		case c < utf8.RuneSelf:
			i++
		default:
			r, size := utf8.DecodeRune(m.in[i:])
			if r == utf8.RuneError && size == 1 {
				m.replace(i, i+1, RepairedUTF8, []byte("\ufffd"))
			}
			i += size
		}
	}
	return i
}

// escape repairs the escape that begins at i, and returns the index after it.
func (m *mender) escape(i int) int {
	const size = len(`\uD83D`)
	unit, ok := utf16Unit(m.in[i:])
	switch {
	case !ok:
		return min(i+2, len(m.in))
	case unit < 0xd800 || unit > 0xdfff:
		return i + size
	case unit < 0xdc00:
		if low, ok := utf16Unit(m.in[i+size:]); ok && 0xdc00 <= low && low <= 0xdfff {
			return i + 2*size
		}
	}
	m.replace(i, i+size, RepairedSurrogate, []byte(`\ufffd`))
	return i + size
}

// utf16Unit returns the code unit of an escape such as \uD83D that text begins with.
func utf16Unit(text []byte) (unit int, ok bool) {
	if len(text) < 6 || text[0] != '\\' || text[1] != 'u' {
		return 0, false
	}
	for _, c := range text[2:6] {
		digit := bytes.IndexByte([]byte("0123456789abcdef"), c|0x20)
		if digit < 0 {
			return 0, false
		}
		unit = unit<<4 | digit
	}
	return unit, true
}

// escapedControl returns a control character as it is written in a JSON string.
func escapedControl(c byte) []byte {
	switch c {
	case '\t':
		return []byte(`\t`)
	case '\n':
		return []byte(`\n`)
	case '\r':
		return []byte(`\r`)
	}
	const hex = "0123456789abcdef"
	return []byte{'\\', 'u', '0', '0', hex[c>>4], hex[c&15]}
}
