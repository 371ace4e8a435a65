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

// The headers that mirror the body of a request, so that what stands between
// client and server can route without reading it (specification 2026-07-28,
// basic/transports/streamable-http, Request Metadata).
const (
	HeaderMethod      = "Mcp-Method"
	HeaderName        = "Mcp-Name"
	HeaderParamPrefix = "Mcp-Param-" // and the name of a ParamHeader
)

// What stands around a value in base64. The case matters.
const (
	encodedPrefix = "=?base64?"
	encodedSuffix = "?="
)

// maxSafe is the largest integer that every reader of JSON keeps exactly.
const maxSafe = 1<<53 - 1

// EncodeHeader returns s as the value of Mcp-Name or of an Mcp-Param header:
// as it is where it consists of visible ASCII and inner spaces, otherwise in
// base64. So is a text that looks as if it were encoded already. Invalid UTF-8
// in s becomes U+FFFD.
func EncodeHeader(s string) string {
	if isPlain(s) && !isEncoded(s) {
		return s
	}
	return encodedPrefix + base64.StdEncoding.EncodeToString([]byte(strings.ToValidUTF8(s, "\uFFFD"))) + encodedSuffix
}

// isPlain reports whether s survives as the value of a header.
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

// DecodeHeader undoes EncodeHeader. A value without both the prefix and the
// suffix of base64 is taken literally. Errors do not quote the value.
func DecodeHeader(s string) (string, error) {
	for i := range len(s) {
		if c := s[i]; c != '\t' && (c < ' ' || c > '~') {
			return "", errors.New("holds bytes that a header must not hold; encode it in base64")
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
		return "", errors.New("is not the base64 of UTF-8")
	}
	return string(decoded), nil
}

// CheckStandard compares Mcp-Method and, where the request is about something
// that has a name, Mcp-Name with the body. It reports what does not agree by
// the name of the header. The caller answers with HeaderMismatch (-32020).
func CheckStandard(h http.Header, method, name string, named bool) error {
	got, present, err := single(h, HeaderMethod)
	switch {
	case err != nil:
		return err
	case !present:
		return missing(HeaderMethod)
	case got != method:
		return mismatch(HeaderMethod)
	case !named:
		return nil
	}
	if got, present, err = single(h, HeaderName); err != nil {
		return err
	}
	if !present {
		return missing(HeaderName)
	}
	if got, err = DecodeHeader(got); err != nil {
		return fmt.Errorf("the header %s %w", HeaderName, err)
	}
	if got != name {
		return mismatch(HeaderName)
	}
	return nil
}

// ParamValues returns the Mcp-Param headers of a call with these arguments, by
// their full names, encoded. An argument that is absent or null has none.
// Integers are written in decimal, however the arguments spell them. It is an
// error if an argument cannot be mirrored: neither a string nor a boolean nor
// an integer of at most 2^53-1.
func ParamValues(headers []ParamHeader, arguments json.RawMessage) (map[string]string, error) {
	if len(headers) == 0 {
		return nil, nil
	}
	values, err := argumentsOf(headers, arguments)
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

// CheckParams compares the Mcp-Param headers of a call with its arguments, in
// both directions; integers are compared as numbers. Headers that headers does
// not name are not looked at. Errors name the header and never a value. The
// caller answers with HeaderMismatch (-32020).
func CheckParams(h http.Header, headers []ParamHeader, arguments json.RawMessage) error {
	if len(headers) == 0 {
		return nil
	}
	values, err := argumentsOf(headers, arguments)
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

// checkParam compares one header with its argument; nil: there is none.
func checkParam(h http.Header, name string, value json.RawMessage) error {
	got, present, err := single(h, name)
	switch {
	case err != nil:
		return err
	case value == nil && present:
		return fmt.Errorf("the header %s has no argument in the body; leave it out", name)
	case value == nil:
		return nil
	case !present:
		return missing(name)
	}
	if got, err = DecodeHeader(got); err != nil {
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
	return mismatch(name)
}

// single returns the value of a header that may occur once, without the white
// space around it.
func single(h http.Header, name string) (value string, present bool, err error) {
	switch values := h.Values(name); len(values) {
	case 0:
		return "", false, nil
	case 1:
		return strings.Trim(values[0], " \t"), true, nil
	default:
		return "", true, fmt.Errorf("the header %s occurs more than once", name)
	}
}

func missing(name string) error {
	return fmt.Errorf("the header %s is missing; it must repeat what the body says", name)
}

func mismatch(name string) error {
	return fmt.Errorf("the header %s does not say what the body says", name)
}

var errArguments = errors.New("the arguments must be a JSON object in which what is mirrored in a header occurs once")

// argumentsOf returns the arguments that headers mirror, in their order; nil
// where one is absent or null. The values alias arguments.
func argumentsOf(headers []ParamHeader, arguments json.RawMessage) ([]json.RawMessage, error) {
	values := make([]json.RawMessage, len(headers))
	if len(arguments) == 0 || string(arguments) == "null" {
		return values, nil
	}
	all := make([]int, len(headers))
	for i := range all {
		all[i] = i
	}
	return values, pick(arguments, headers, all, 0, values)
}

// pick fills in values for those of the headers whose path has led to obj in
// depth steps. Each object is read once, however many headers look into it.
func pick(obj json.RawMessage, headers []ParamHeader, which []int, depth int, values []json.RawMessage) error {
	var names []string
	for _, i := range which {
		if name := headers[i].Path[depth]; !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	found, err := jsonrpc.Fields(obj, names...)
	if err != nil {
		return errArguments // its text may quote what the arguments hold
	}
	for n, value := range found {
		if value == nil || value[0] == 'n' {
			continue
		}
		var inside []int
		for _, i := range which {
			switch path := headers[i].Path; {
			case path[depth] != names[n]:
			case len(path) == depth+1:
				values[i] = value
			case value[0] == '{': // in anything else there is nothing at the path
				inside = append(inside, i)
			}
		}
		if inside == nil {
			continue
		}
		if err := pick(value, headers, inside, depth+1, values); err != nil {
			return err
		}
	}
	return nil
}

// headerText returns an argument as the text that a header carries. It goes by
// the value and not by the type in the schema: whether they agree is for the
// server to say.
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

// safeInteger returns the number s, in the syntax of JSON, in decimal. It
// reports false for what is no integer, or one that not all readers keep.
func safeInteger(s string) (string, bool) {
	if v := jsontext.Value(s); v.Kind() != '0' || !v.IsValid() {
		return "", false
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || f != math.Trunc(f) || math.Abs(f) > maxSafe {
		return "", false
	}
	return strconv.FormatInt(int64(f), 10), true
}

// NamedBy is the member of params whose value Mcp-Name mirrors in requests of
// method; empty if there is none.
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
