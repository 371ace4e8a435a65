package instrument

import (
	"errors"
	"fmt"
	"strings"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

// Redacted returns the text of err for logs and spans. A JSON-RPC error in it is replaced by its
// code, because its message may quote arguments or results.
func Redacted(err error) string {
	if err == nil {
		return ""
	}
	text := err.Error()
	if past, ok := errors.AsType[*PastError](err); ok {
		text = strings.ReplaceAll(text, past.text, past.redacted)
	}
	if e, ok := errors.AsType[*jsonrpc.Error](err); ok {
		text = strings.ReplaceAll(text, e.Error(), errorCode(e))
	}
	return text
}

func errorCode(e *jsonrpc.Error) string { return fmt.Sprintf("error %d", e.Code) }

// RedactedResponse is Redacted for the error member of a response.
func RedactedResponse(response jsonrpc.Message) string {
	return errorCode(jsonrpc.ParseError(response.Error))
}

// PastError quotes the text of an earlier error. It does not wrap that error: errors.Is must not
// find the earlier cause in it.
type PastError struct{ text, redacted string }

// NewPastError makes a PastError of the text of an error and its Redacted text.
func NewPastError(text, redacted string) *PastError { return &PastError{text, redacted} }

// Error implements error.
func (e *PastError) Error() string { return e.text }

// RedactedURI returns uri without the parts that may be secret: user and password, query,
// fragment, and the content of a data URI.
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
