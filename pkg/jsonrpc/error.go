package jsonrpc

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
)

// The error codes of JSON-RPC 2.0 section 5.1.
const (
	CodeParse          = -32700
	CodeInvalidRequest = -32600
	CodeMethodNotFound = -32601
	CodeInvalidParams  = -32602
	CodeInternal       = -32603
)

// Error is the error member of a response.
type Error struct {
	Code    int             `json:"code"`
	Message string          `json:"message"`
	Data    json.RawMessage `json:"data,omitempty"`
}

// Errorf returns an Error without data.
func Errorf(code int, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

func (e *Error) Error() string { return fmt.Sprintf("%s (%d)", e.Message, e.Code) }

// AsError returns the *Error in the chain of err, otherwise one with CodeInternal and the
// text of err.
func AsError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return &Error{Code: CodeInternal, Message: err.Error()}
}

// ParseError reads the error member of a response. It tolerates invalid members and
// returns those that it can read.
func ParseError(raw json.RawMessage) *Error {
	var e Error
	if err := json.Unmarshal(raw, &e); err != nil && e.Code == 0 {
		return &Error{Code: CodeInternal, Message: "malformed error object"}
	}
	e.Code = cmp.Or(e.Code, CodeInternal)
	return &e
}
