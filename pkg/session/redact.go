package session

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"unicode"

	"github.com/go-json-experiment/json/jsontext"
)

const (
	redacted = "[redacted]"

	maxText   = 2 << 10 // bytes of each string in the output
	lookahead = 1 << 10 // bytes after maxText that are searched too: a secret that is cut in two would not be recognized
	maxNumber = 64      // bytes of a number in the output
	maxNested = 2       // levels of JSON inside strings that are read
)

// redact returns a copy of the JSON value raw without secrets, as JSON, for people to
// read. It replaces the values of members whose names are usual for secrets, at any
// depth, and the parts of strings that look like secrets. It cuts the output at about
// limit bytes, and reports whether something was left out to save space.
//
// It cannot recognize every secret. Show its output only to people who may see them.
func redact(raw []byte, limit int) (out json.RawMessage, cut bool) {
	return redactJSON(raw, limit, maxNested)
}

// redactJSON is redact with a limit for JSON inside strings.
func redactJSON(raw []byte, limit, nested int) (json.RawMessage, bool) {
	var b bytes.Buffer
	r := redactor{
		in:     jsontext.NewDecoder(bytes.NewReader(raw), jsontext.AllowDuplicateNames(true)),
		out:    jsontext.NewEncoder(&b, jsontext.AllowDuplicateNames(true)),
		nested: nested,
	}
	for first := true; first || r.out.StackDepth() > 0; first = false {
		if r.out.OutputOffset() >= int64(limit) {
			r.closeAll()
			break
		}
		if err := r.next(); err != nil { // invalid JSON is replaced as a whole
			return json.RawMessage(`"[cannot be read]"`), true
		}
	}
	return bytes.TrimSpace(b.Bytes()), r.cut
}

// redactor copies a JSON value token by token.
type redactor struct {
	in     *jsontext.Decoder
	out    *jsontext.Encoder
	nested int // levels of JSON inside strings that may still be read
	cut    bool
}

// next copies one token, or the value of a secret member as a whole.
func (r *redactor) next() error {
	switch r.in.PeekKind() {
	case '"':
		kind, n := r.out.StackIndex(r.out.StackDepth())
		text, err := r.text()
		if err != nil {
			return err
		}
		if kind != '{' || n%2 == 1 {
			return r.out.WriteToken(jsontext.String(text))
		}
		if err := r.out.WriteToken(jsontext.String(text)); err != nil || !isSecretName(text) {
			return err
		}
		if err := r.in.SkipValue(); err != nil {
			return err
		}
		return r.out.WriteToken(jsontext.String(redacted))
	case '0':
		v, err := r.in.ReadValue()
		if err != nil {
			return err
		}
		if len(v) > maxNumber {
			r.cut = true
			return r.out.WriteToken(jsontext.String(fmt.Sprintf("[number of %d bytes]", len(v))))
		}
		return r.out.WriteValue(v)
	}
	t, err := r.in.ReadToken()
	if err != nil {
		return err
	}
	return r.out.WriteToken(t)
}

// text reads a string and returns it without secrets.
func (r *redactor) text() (string, error) {
	v, err := r.in.ReadValue()
	if err != nil {
		return "", err
	}
	size := len(v)
	long := size > maxText+lookahead
	if long {
		v = v[:maxText+lookahead]
	}
	text, err := unquotePrefix(v, long)
	if err != nil {
		return "", err
	}
	inner := strings.TrimSpace(text)
	if !long && r.nested > 0 && inner != "" && (inner[0] == '{' || inner[0] == '[') && json.Valid([]byte(inner)) {
		out, cut := redactJSON([]byte(inner), maxText, r.nested-1)
		r.cut = r.cut || cut
		return string(out), nil
	}
	text, cut := redactPrefix(text, long, maxText)
	if cut {
		r.cut = true
		text += fmt.Sprintf("… [cut, %d bytes]", size)
	}
	return text, nil
}

// redactPrefix returns up to limit bytes of text without secrets, and reports
// whether it left something out. If text is only the prefix of a longer text, it
// leaves out the last lookahead bytes: they may end in the middle of a secret.
func redactPrefix(text string, prefix bool, limit int) (string, bool) {
	text = redactText(text)
	length := len(text)
	if prefix {
		length = max(0, length-lookahead)
	}
	if length = min(length, limit); length == len(text) {
		return text, false
	}
	return strings.ToValidUTF8(text[:length], ""), true
}

// unquotePrefix unquotes a JSON string, of which v may be only a prefix.
func unquotePrefix(v []byte, prefix bool) (string, error) {
	if !prefix {
		b, err := jsontext.AppendUnquote(nil, v)
		return string(b), err
	}
	var err error
	for trim := range 13 { // the longest sequence that can be cut in two is a surrogate pair of escapes, 12 bytes
		var b []byte
		if b, err = jsontext.AppendUnquote(nil, append(bytes.Clone(v[:len(v)-trim]), '"')); err == nil {
			return string(b), nil
		}
	}
	return "", err
}

// closeAll closes the open arrays and objects, and marks the innermost as cut.
func (r *redactor) closeAll() {
	r.cut = true
	for marked := false; r.out.StackDepth() > 0; marked = true {
		kind, n := r.out.StackIndex(r.out.StackDepth())
		if !marked && kind == '{' && n%2 == 0 {
			_ = r.out.WriteToken(jsontext.String("…")) // writing to a Buffer does not fail
		}
		if !marked {
			_ = r.out.WriteToken(jsontext.String("[cut]"))
		}
		end := jsontext.EndArray
		if kind == '{' {
			end = jsontext.EndObject
		}
		_ = r.out.WriteToken(end)
	}
}

// isSecretName reports whether a member of that name is likely to be secret.
func isSecretName(name string) bool {
	plain := strings.Map(func(c rune) rune {
		if unicode.IsLetter(c) || unicode.IsDigit(c) {
			return unicode.ToLower(c)
		}
		return -1
	}, name)
	switch plain {
	case "progresstoken", "maxtokens": // names of MCP that are not secret
		return false
	case "auth", "pass", "pwd", "jwt", "requeststate":
		return true
	}
	for _, part := range []string{
		"authorization", "passw", "passphrase", "secret", "token", "apikey", "cookie", "credential", "privatekey", "accesskey",
		"bearer", "verifier", "sessionid",
	} {
		if strings.Contains(plain, part) {
			return true
		}
	}
	return false
}

// secretTexts match secrets in a text. The match except its first group is secret.
var secretTexts = []*regexp.Regexp{
	regexp.MustCompile(`(?i)((?:cookie|authorization)["']?\s*[:=]\s*)[^\r\n"]+`),
	regexp.MustCompile(`(?i)(\b(?:bearer|basic)\s+)[a-z0-9._~+/=-]{8,}`),
	regexp.MustCompile(`(?i)((?:passw(?:or)?d|passphrase|secret|token|api[-_ ]?key|credentials?|private[-_ ]?key|` +
		`access[-_ ]?key)[\w-]*\\?["']?\s*[:=]\s*)(?:\\?"[^"\\]*\\?"?|'[^']*'?|[^\s"'\\,;&}\]]+)`),
	regexp.MustCompile(`(?i)([?&](?:code|sig|signature|key)=)[^&\s"]+`),
	regexp.MustCompile(`(://)[^/\s:@]*:[^/\s@]+@`),
	regexp.MustCompile(`()\beyJ[\w-]{8,}\.[\w-]{4,}(?:\.[\w-]*)?`),
	regexp.MustCompile(`()\b(?:sk|pk|rk|ghp|gho|ghu|ghs|ghr|github_pat|glpat|xox[abprs]|AKIA|AIza)[-_]?[\w-]{16,}`),
	// The verifier of a session token, and other random texts of the hub: 26
	// characters of base32. Other texts of that form are replaced too, because they
	// cannot be distinguished.
	regexp.MustCompile(`()(?:[a-z2-7]{26,}|[A-Z2-7]{26,})`),
}

// redactText returns s without the parts that look like secrets.
func redactText(s string) string {
	for _, secret := range secretTexts {
		s = secret.ReplaceAllString(s, "${1}"+redacted)
	}
	return s
}
