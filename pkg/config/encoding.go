package config

import (
	"bytes"
	"encoding/binary"
	"unicode/utf16"
	"unicode/utf8"
)

// readable checks the encoding of data and returns it in the form that the parsers need: UTF-8 with lines that end in
// \n. Lines and columns stay the same.
func readable(data []byte, ps *problems) (text []byte, ok bool) {
	if len(data) > maxFileBytes {
		ps.add(position{1, 1}, "", "the file is larger than 1 MiB")
		return nil, false
	}
	data, wrong := fromUTF16(data)
	if wrong != "" {
		ps.add(position{1, 1}, "", wrong)
		return nil, false
	}
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	data = bytes.ReplaceAll(data, []byte("\r\n"), []byte("\n"))
	data = bytes.ReplaceAll(data, []byte("\r"), []byte("\n"))
	pos := position{1, 1}
	for rest := data; len(rest) > 0; {
		r, n := utf8.DecodeRune(rest)
		switch {
		case r == utf8.RuneError && n == 1:
			ps.add(pos, "", "the file is not valid UTF-8 here; expected text in UTF-8")
			return nil, false
		case r < ' ' && r != '\n' && r != '\t':
			ps.add(pos, "", "the file contains a control character here; expected text")
			return nil, false
		case r == '\n':
			pos = position{pos.line + 1, 0}
		}
		pos.column++
		rest = rest[n:]
	}
	return data, true
}

// fromUTF16 returns data in UTF-8 if it begins with the byte order mark of UTF-16, as Windows PowerShell writes files.
// Other data is returned as it is.
func fromUTF16(data []byte) (text []byte, wrong string) {
	var order binary.ByteOrder
	switch {
	case bytes.HasPrefix(data, []byte{0xff, 0xfe}):
		order = binary.LittleEndian
	case bytes.HasPrefix(data, []byte{0xfe, 0xff}):
		order = binary.BigEndian
	case len(data) >= 2 && (data[0] == 0) != (data[1] == 0):
		return nil, "the file looks like UTF-16 without a byte order mark; expected text in UTF-8"
	default:
		return data, ""
	}
	const damaged = "the file begins like UTF-16 but is damaged; expected text in UTF-8"
	if len(data)%2 != 0 {
		return nil, damaged
	}
	units := make([]uint16, 0, len(data)/2)
	for i := 2; i < len(data); i += 2 {
		units = append(units, order.Uint16(data[i:]))
	}
	for _, r := range utf16.Decode(units) {
		text = utf8.AppendRune(text, r)
	}
	if bytes.ContainsRune(text, utf8.RuneError) {
		return nil, damaged
	}
	return text, ""
}
