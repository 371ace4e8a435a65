package config

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// jsonFault looks for faults that the parser would find too late or name too little, and returns the offset and the
// reason of the first; "" if there is none.
func jsonFault(text []byte) (offset int, reason string) {
	depth := 0
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '{', '[':
			if depth++; depth > maxDepth {
				return i, fmt.Sprintf("nested deeper than %d levels", maxDepth)
			}
		case '}', ']':
			depth = max(0, depth-1)
		case '/':
			i += commentLength(text[i:])
		case '"':
			length, fault, reason := stringFault(text[i:])
			if reason != "" {
				return i + fault, reason
			}
			i += length - 1
		}
	}
	return 0, ""
}

// commentLength returns the number of bytes after the first of the comment with which text begins, 0 without one.
func commentLength(text []byte) int {
	var end int
	switch {
	case bytes.HasPrefix(text, []byte("//")):
		end = bytes.IndexByte(text, '\n')
	case bytes.HasPrefix(text, []byte("/*")):
		if end = bytes.Index(text[2:], []byte("*/")); end >= 0 {
			end += 3
		}
	default:
		return 0
	}
	if end < 0 {
		return len(text) - 1
	}
	return end
}

const doubled = `a backslash is written as \\, so a Windows path is "C:\\apps\\bin" or "C:/apps/bin"`

// stringFault returns the length of the string with which text begins, and the offset and the reason of its first
// fault; "" if it has none.
func stringFault(text []byte) (length, fault int, reason string) {
	for i := 1; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"':
			return i + 1, 0, ""
		case c == '\n':
			return 0, 0, "the string is not closed in its line; expected a closing quote"
		case c < ' ':
			return 0, i, `the string contains a tab; expected \t`
		case c != '\\':
		case i+1 == len(text):
			return len(text), 0, ""
		default:
			length, reason := escapeFault(text[i:])
			if reason == "" && i == 3 && isDrive(text[1:3]) && text[i+1] != '\\' && text[i+1] != '/' {
				reason = "this looks like a Windows path whose backslashes are escapes; " + doubled
			}
			if reason != "" {
				return 0, i, reason
			}
			i += length - 1
		}
	}
	return len(text), 0, "" // not closed: the parser says so
}

// isDrive reports whether text is the drive of a Windows path, such as C:.
func isDrive(text []byte) bool {
	letter := text[0] | 0x20
	return 'a' <= letter && letter <= 'z' && text[1] == ':'
}

// escapeFault returns the length of the escape with which text begins, and what is wrong with it.
func escapeFault(text []byte) (length int, reason string) {
	switch c := text[1]; {
	case bytes.IndexByte([]byte(`"\/bfnrt`), c) >= 0:
		return 2, ""
	case c != 'u':
		if c <= ' ' || c > '~' {
			return 0, "a backslash before this character is not an escape of JSON; " + doubled
		}
		return 0, fmt.Sprintf(`\%c is not an escape of JSON; `, c) + doubled
	}
	// Two halves of a surrogate pair are one character.
	for _, length := range []int{6, 12} {
		if len(text) < length {
			break
		}
		var s string
		quoted := append(append([]byte{'"'}, text[:length]...), '"')
		if json.Unmarshal(quoted, &s) != nil {
			break
		}
		if s != "\ufffd" && len([]rune(s)) == 1 || bytes.EqualFold(text[:length], []byte(`\ufffd`)) {
			return length, ""
		}
	}
	return 0, `\u is not followed by the four hexadecimal digits of a character here; ` + doubled
}
