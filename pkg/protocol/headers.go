package protocol

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

// The delimiters of a header value in base64. They are case-sensitive.
const (
	encodedPrefix = "=?base64?"
	encodedSuffix = "?="
)

// maxSafeInteger is the largest integer that every JSON parser represents exactly.
const maxSafeInteger = 1<<53 - 1

// EncodeHeader returns s as the value of Mcp-Name or of an Mcp-Param header. A string of visible ASCII and inner
// spaces stays as it is. Every other string is encoded in base64, and so is one that looks like an encoded value.
// Invalid UTF-8 in s becomes U+FFFD.
func EncodeHeader(s string) string {
	if isPlain(s) && !isEncoded(s) {
		return s
	}
	return encodedPrefix + base64.StdEncoding.EncodeToString([]byte(strings.ToValidUTF8(s, "\uFFFD"))) + encodedSuffix
}

// isPlain reports whether s can be the value of a header without a change.
func isPlain(s string) bool {
	if s == "" {
		return true
	}
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return s[0] != ' ' && s[len(s)-1] != ' '
}

func isEncoded(s string) bool {
	return strings.HasPrefix(s, encodedPrefix) && strings.HasSuffix(s, encodedSuffix)
}

// decodeHeader is the inverse of EncodeHeader. A value that lacks the prefix or the suffix of base64 is taken
// literally. An error is a predicate without a subject and does not quote the value.
func decodeHeader(s string) (string, error) {
	for i := range len(s) {
		if c := s[i]; c != '\t' && (c < ' ' || c > '~') {
			return "", errors.New("contains a byte that is not allowed in a header; encode the value in base64")
		}
	}
	inner, ok := strings.CutPrefix(s, encodedPrefix)
	if ok {
		inner, ok = strings.CutSuffix(inner, encodedSuffix)
	}
	if !ok {
		return s, nil
	}
	decoded, err := base64.StdEncoding.DecodeString(inner)
	switch {
	case err != nil:
		return "", errors.New("is not valid base64")
	case !utf8.Valid(decoded):
		return "", errors.New("is not valid UTF-8 after base64 decoding")
	}
	return string(decoded), nil
}

// NamedBy returns the member of params whose value Mcp-Name mirrors in requests of method, and "" if there is none.
func NamedBy(method string) string {
	switch method {
	case MethodToolsCall, MethodPromptsGet:
		return "name"
	case MethodResourcesRead:
		return "uri"
	case MethodTasksGet, MethodTasksUpdate, MethodTasksCancel:
		return "taskId"
	}
	return ""
}

// CheckStandard compares Mcp-Method with method and, if named is true, Mcp-Name with name, both from the body.
// An error names the header that does not match. The caller answers with CodeHeaderMismatch.
func CheckStandard(h http.Header, method, name string, named bool) error {
	got, present, err := singleValue(h, HeaderMethod)
	switch {
	case err != nil:
		return err
	case !present:
		return errMissing(HeaderMethod)
	case got != method:
		return errMismatch(HeaderMethod)
	case !named:
		return nil
	}
	if got, present, err = singleValue(h, HeaderName); err != nil {
		return err
	}
	if !present {
		return errMissing(HeaderName)
	}
	if got, err = decodeHeader(got); err != nil {
		return fmt.Errorf("the header %s %w", HeaderName, err)
	}
	if got != name {
		return errMismatch(HeaderName)
	}
	return nil
}

// ParamValues returns the encoded Mcp-Param headers of a call with these arguments, by their full names. An
// argument that is absent or null has no header. Integers are written in decimal notation, whatever their notation
// in the arguments. An argument that is neither a string nor a boolean nor an integer of at most 2^53-1 is an error.
func ParamValues(headers []ParamHeader, arguments json.RawMessage) (map[string]string, error) {
	if len(headers) == 0 {
		return nil, nil
	}
	values, err := mirroredArguments(headers, arguments)
	if err != nil {
		return nil, err
	}
	out := make(map[string]string, len(headers))
	for i, header := range headers {
		if values[i] == nil {
			continue
		}
		text, err := headerText(values[i])
		if err != nil {
			return nil, fmt.Errorf("the argument for the header %s%s %w", HeaderParamPrefix, header.Name, err)
		}
		out[HeaderParamPrefix+header.Name] = EncodeHeader(text)
	}
	return out, nil
}

// CheckParams compares the Mcp-Param headers of a call with its arguments, in both directions. Integers are compared
// as numbers. Headers that are not in headers are ignored. An error names the header and never a value. The caller
// answers with CodeHeaderMismatch.
func CheckParams(h http.Header, headers []ParamHeader, arguments json.RawMessage) error {
	if len(headers) == 0 {
		return nil
	}
	values, err := mirroredArguments(headers, arguments)
	if err != nil {
		return err
	}
	for i, header := range headers {
		if err := checkParam(h, HeaderParamPrefix+header.Name, values[i]); err != nil {
			return err
		}
	}
	return nil
}

// checkParam compares one header with its argument. value is nil if the call has no such argument.
func checkParam(h http.Header, name string, value json.RawMessage) error {
	got, present, err := singleValue(h, name)
	switch {
	case err != nil:
		return err
	case value == nil && present:
		return fmt.Errorf("the header %s mirrors an argument that the body does not have; omit the header", name)
	case value == nil:
		return nil
	case !present:
		return errMissing(name)
	}
	if got, err = decodeHeader(got); err != nil {
		return fmt.Errorf("the header %s %w", name, err)
	}
	want, err := headerText(value)
	if err != nil {
		return fmt.Errorf("the argument for the header %s %w", name, err)
	}
	if got == want {
		return nil
	}
	if value[0] != '"' {
		if n, ok := safeInteger(got); ok && n == want {
			return nil
		}
	}
	return errMismatch(name)
}

// singleValue returns the value of a header that may occur at most once, without surrounding white space.
func singleValue(h http.Header, name string) (value string, present bool, err error) {
	switch values := h.Values(name); len(values) {
	case 0:
		return "", false, nil
	case 1:
		return strings.Trim(values[0], " \t"), true, nil
	default:
		return "", true, fmt.Errorf("the header %s occurs more than once", name)
	}
}

func errMissing(name string) error {
	return fmt.Errorf("the header %s is missing; it must repeat the value in the body", name)
}

func errMismatch(name string) error {
	return fmt.Errorf("the header %s does not match the body", name)
}

var errArguments = errors.New("the arguments must be a JSON object, and an argument that a header mirrors must occur only once")

// mirroredArguments returns the argument of each header, in the order of headers; nil for an argument that is absent
// or null. The values alias arguments.
func mirroredArguments(headers []ParamHeader, arguments json.RawMessage) ([]json.RawMessage, error) {
	values := make([]json.RawMessage, len(headers))
	if len(arguments) == 0 || string(arguments) == "null" {
		return values, nil
	}
	all := make([]int, len(headers))
	for i := range all {
		all[i] = i
	}
	return values, collectValues(arguments, headers, all, 0, values)
}

// collectValues stores the arguments of some headers, given by their indexes, in values. obj is the object that the
// first depth names of their paths lead to. Each object is parsed once, whatever the number of headers.
func collectValues(obj json.RawMessage, headers []ParamHeader, indexes []int, depth int, values []json.RawMessage) error {
	var names []string
	for _, i := range indexes {
		if name := headers[i].path[depth]; !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	found, err := jsonrpc.Fields(obj, names...)
	if err != nil {
		return errArguments // the text of err may quote arguments
	}
	for n, value := range found {
		if value == nil || value[0] == 'n' {
			continue
		}
		var nested []int
		for _, i := range indexes {
			switch path := headers[i].path; {
			case path[depth] != names[n]:
			case len(path) == depth+1:
				values[i] = value
			case value[0] == '{': // no other value has anything at the path
				nested = append(nested, i)
			}
		}
		if nested == nil {
			continue
		}
		if err := collectValues(value, headers, nested, depth+1, values); err != nil {
			return err
		}
	}
	return nil
}

// headerText returns an argument as the text of its header, before encoding. It depends on the type of the value
// and not on the type in the schema: the server validates arguments against the schema.
func headerText(value json.RawMessage) (string, error) {
	switch value[0] {
	case '"':
		if s, err := jsontext.AppendUnquote(nil, value); err == nil {
			return string(s), nil
		}
	case 't', 'f':
		return string(value), nil
	default:
		if n, ok := safeInteger(string(value)); ok {
			return n, nil
		}
	}
	return "", errors.New("must be a string, a boolean or an integer of at most 2^53-1")
}

// safeInteger returns the JSON number s in decimal notation. It reports false if s is not an integer or exceeds
// maxSafeInteger.
func safeInteger(s string) (string, bool) {
	if v := jsontext.Value(s); v.Kind() != '0' || !v.IsValid() {
		return "", false
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || f != math.Trunc(f) || math.Abs(f) > maxSafeInteger {
		return "", false
	}
	return strconv.FormatInt(int64(f), 10), true
}
