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

	maxText   = 2 << 10 // bytes of each text that is shown
	textAhead = 1 << 10 // bytes behind those that are looked at, so that no secret is cut into something else
	maxNumber = 64      // bytes
	maxInner  = 2       // how deep texts are read that are JSON themselves
)

// redact returns a copy of the JSON value raw for people to read, which is JSON
// again: values under names that are usually those of secrets are taken out at
// any depth, and so is what looks like a secret inside of texts. After about
// limit bytes it is cut. It reports whether anything is missing for want of room.
//
// It cannot know every secret. What must not be seen must not be shown.
func redact(raw []byte, limit int) (out json.RawMessage, cut bool) {
	return redactJSON(raw, limit, maxInner)
}

func redactJSON(raw []byte, limit, inner int) (json.RawMessage, bool) {
	var b bytes.Buffer
	r := redactor{
		in:    jsontext.NewDecoder(bytes.NewReader(raw), jsontext.AllowDuplicateNames(true)),
		out:   jsontext.NewEncoder(&b, jsontext.AllowDuplicateNames(true)),
		inner: inner,
	}
	for first := true; first || r.out.StackDepth() > 0; first = false {
		if r.out.OutputOffset() >= int64(limit) {
			r.cutOff()
			break
		}
		if err := r.next(); err != nil { // what is no JSON is not shown at all
			return json.RawMessage(`"[cannot be read]"`), true
		}
	}
	return bytes.TrimSpace(b.Bytes()), r.cut
}

// redactor copies a JSON value token by token.
type redactor struct {
	in    *jsontext.Decoder
	out   *jsontext.Encoder
	inner int
	cut   bool
}

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

// text reads a text, without what may be secret in it.
func (r *redactor) text() (string, error) {
	v, err := r.in.ReadValue()
	if err != nil {
		return "", err
	}
	size := len(v)
	long := size > maxText+textAhead
	if long {
		v = v[:maxText+textAhead]
	}
	text, err := unquotePart(v, long)
	if err != nil {
		return "", err
	}
	if inner := strings.TrimSpace(text); !long && r.inner > 0 && inner != "" && (inner[0] == '{' || inner[0] == '[') && json.Valid([]byte(inner)) {
		out, cut := redactJSON([]byte(inner), maxText, r.inner-1)
		r.cut = r.cut || cut
		return string(out), nil
	}
	text, cut := beginning(text, long, maxText)
	if cut {
		r.cut = true
		text += fmt.Sprintf("… [cut, %d bytes]", size)
	}
	return text, nil
}

// beginning returns up to limit bytes of a text, without what may be secret in
// them, and whether that is not all. Of one that is only a part of a longer text
// the last textAhead bytes are not shown: they may end in the middle of a secret.
func beginning(text string, part bool, limit int) (string, bool) {
	text = redactText(text)
	show := len(text)
	if part {
		show = max(0, show-textAhead)
	}
	if show = min(show, limit); show == len(text) {
		return text, false
	}
	return strings.ToValidUTF8(text[:show], ""), true
}

// unquotePart unquotes a JSON text whose end may be missing.
func unquotePart(v []byte, part bool) (string, error) {
	if !part {
		b, err := jsontext.AppendUnquote(nil, v)
		return string(b), err
	}
	var err error
	for trim := range 13 { // the longest thing to have been cut apart is a pair of escapes
		var b []byte
		if b, err = jsontext.AppendUnquote(nil, append(bytes.Clone(v[:len(v)-trim]), '"')); err == nil {
			return string(b), nil
		}
	}
	return "", err
}

// cutOff ends everything that is open, with a mark.
func (r *redactor) cutOff() {
	r.cut = true
	for marked := false; r.out.StackDepth() > 0; marked = true {
		kind, n := r.out.StackIndex(r.out.StackDepth())
		if !marked && kind == '{' && n%2 == 0 {
			_ = r.out.WriteToken(jsontext.String("…")) // a Buffer takes everything
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

// isSecretName reports whether a value of that name is likely to be secret.
func isSecretName(name string) bool {
	plain := strings.Map(func(c rune) rune {
		if unicode.IsLetter(c) || unicode.IsDigit(c) {
			return unicode.ToLower(c)
		}
		return -1
	}, name)
	switch plain {
	case "progresstoken", "maxtokens": // of MCP
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

// secretTexts are what a secret looks like inside of a text; what follows the
// first group, if there is one, is secret.
var secretTexts = []*regexp.Regexp{
	regexp.MustCompile(`(?i)((?:cookie|authorization)["']?\s*[:=]\s*)[^\r\n"]+`),
	regexp.MustCompile(`(?i)(\b(?:bearer|basic)\s+)[a-z0-9._~+/=-]{8,}`),
	regexp.MustCompile(`(?i)((?:passw(?:or)?d|passphrase|secret|token|api[-_ ]?key|credentials?|private[-_ ]?key|access[-_ ]?key)[\w-]*\\?["']?\s*[:=]\s*)(?:\\?"[^"\\]*\\?"?|'[^']*'?|[^\s"'\\,;&}\]]+)`),
	regexp.MustCompile(`(?i)([?&](?:code|sig|signature|key)=)[^&\s"]+`),
	regexp.MustCompile(`(://)[^/\s:@]*:[^/\s@]+@`),
	regexp.MustCompile(`()\beyJ[\w-]{8,}\.[\w-]{4,}(?:\.[\w-]*)?`),
	regexp.MustCompile(`()\b(?:sk|pk|rk|ghp|gho|ghu|ghs|ghr|github_pat|glpat|xox[abprs]|AKIA|AIza)[-_]?[\w-]{16,}`),
	// The secret half of a session's token, and other random texts of the hub: 26
	// characters of base32. What they are cannot be told, so whatever looks like
	// one goes.
	regexp.MustCompile(`()(?:[a-z2-7]{26,}|[A-Z2-7]{26,})`),
}

// redactText takes out of a text what looks like a secret.
func redactText(s string) string {
	for _, secret := range secretTexts {
		s = secret.ReplaceAllString(s, "${1}"+redacted)
	}
	return s
}
