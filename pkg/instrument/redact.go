package instrument

import (
	"errors"
	"fmt"
	"strings"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

// Quoting is an error whose text repeats what a client or server said.
type Quoting interface {
	error
	Redacted() string // the text without that
}

// Redacted returns the text of err for logs and spans, and "" for nil. A JSON-RPC error in it is replaced by its code,
// because its message may quote arguments or results, and a Quoting by its Redacted.
func Redacted(err error) string {
	if err == nil {
		return ""
	}
	text := err.Error()
	if e, ok := errors.AsType[Quoting](err); ok {
		text = strings.ReplaceAll(text, e.Error(), e.Redacted())
	}
	if e, ok := errors.AsType[*jsonrpc.Error](err); ok {
		text = strings.ReplaceAll(text, e.Error(), errorCode(e))
	}
	return text
}

func errorCode(e *jsonrpc.Error) string { return fmt.Sprintf("error %d", e.Code) }

// RedactedResponse returns the text for logs and spans of a response that has an error.
func RedactedResponse(response jsonrpc.Message) string {
	return errorCode(jsonrpc.ParseError(response.Error))
}

// pastError is the error of NewPastError.
type pastError struct{ text, redacted string }

// NewPastError returns an error that quotes an earlier error by its text. redacted is the Redacted text of the earlier
// error and replaces text in the Redacted text of an error that wraps the new one. The new error does not wrap the
// earlier one: errors.Is must not find a cause that is past.
func NewPastError(text, redacted string) error { return &pastError{text, redacted} }

// Error implements error.
func (e *pastError) Error() string { return e.text }

// Redacted implements Quoting.
func (e *pastError) Redacted() string { return e.redacted }

// RedactedURI returns uri without the parts that may be secret: user and password, query, fragment, and the content of
// a data URI.
func RedactedURI(uri string) string {
	if i := strings.IndexAny(uri, "?#"); i >= 0 {
		uri = uri[:i]
	}
	if len(uri) >= 5 && strings.EqualFold(uri[:5], "data:") {
		return uri[:5]
	}
	scheme, rest, ok := strings.Cut(uri, "://")
	if !ok {
		return uri
	}
	authority, path, slash := strings.Cut(rest, "/")
	authority = authority[strings.LastIndexByte(authority, '@')+1:]
	if slash {
		path = "/" + path
	}
	return scheme + "://" + authority + path
}
