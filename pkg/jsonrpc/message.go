// Package jsonrpc reads and writes JSON-RPC 2.0 envelopes as raw bytes.
//
// A message is scanned once. The scan extracts id and method; params, result and error
// keep the bytes of the sender. Member names are compared exactly, and a member that the
// hub uses may occur only once in a message. So the hub and the server behind it cannot
// read a message differently.
//
// The package owns only a pool of decoders. A [Message] aliases the bytes it was parsed
// from and is valid for as long as they are not changed. There are no goroutines.
package jsonrpc

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/go-json-experiment/json/jsontext"
)

// ID is the raw JSON text of a request id, such as `7` or `"a"`. IDs are compared byte by
// byte and never as numbers. The empty ID means that there is none.
type ID string

// Null is the id of an error response to a message without a readable id.
const Null ID = "null"

// Kind is the kind of a message.
type Kind int

// The kinds of messages of JSON-RPC 2.0.
const (
	Request Kind = iota + 1
	Notification
	Response
)

// Message is one parsed envelope. Its raw fields alias the parsed bytes.
type Message struct {
	ID     ID
	Method string
	Params json.RawMessage // of a request or notification; nil if absent
	Result json.RawMessage // of a successful response
	Error  json.RawMessage // of a failed response
}

// Kind returns the kind of m, which follows from the members that it has.
func (m Message) Kind() Kind {
	switch {
	case m.Method == "":
		return Response
	case m.ID == "":
		return Notification
	default:
		return Request
	}
}

// ErrBatch is returned by Parse for an array of messages; see ParseBatch.
var ErrBatch = &Error{Code: CodeInvalidRequest, Message: "batches of messages are not supported; send one message"}

// Parse reads one message. The error is always an *Error: CodeParse if data is not JSON,
// CodeInvalidRequest if it is JSON but not a message. If the id is valid, the returned
// Message contains it even if Parse fails.
func Parse(data []byte) (Message, error) {
	if IsBatch(data) {
		if !json.Valid(data) {
			return Message{}, &Error{Code: CodeParse, Message: "the message is not valid JSON"}
		}
		return Message{}, ErrBatch
	}
	var m Message
	var version, id, method json.RawMessage
	err := scan(data, func(name []byte, value json.RawMessage, _ span) error {
		var field *json.RawMessage
		switch string(name) {
		case "jsonrpc":
			field = &version
		case "id":
			field = &id
		case "method":
			field = &method
		case "params":
			field = &m.Params
		case "result":
			field = &m.Result
		case "error":
			field = &m.Error
		default:
			return nil
		}
		if *field != nil {
			return invalid("the member %q occurs twice", name)
		}
		*field = value
		return nil
	})
	if err != nil {
		return Message{}, asParseError(err)
	}
	if m.ID, err = parseID(id); err != nil {
		return Message{}, err
	}
	if string(version) != `"2.0"` {
		return m, invalid(`the member "jsonrpc" must be "2.0"`)
	}
	if method != nil {
		if m.Method, err = Text(method); err != nil || m.Method == "" {
			return m, invalid(`the member "method" must be a string that is not empty`)
		}
	}
	return m, m.check()
}

// check returns an error if the combination of members is not that of a message.
func (m Message) check() error {
	isResponse := m.Result != nil || m.Error != nil
	switch {
	case m.Method != "" && isResponse:
		return invalid("a message has either a method or a result or an error")
	case m.Result != nil && m.Error != nil:
		return invalid("a response has either a result or an error, not both")
	case m.Method == "" && !isResponse:
		return invalid("a message needs a method, a result or an error")
	case m.Method == "" && m.ID == "":
		return invalid("a response needs an id")
	case m.Method != "" && m.ID == Null:
		return invalid("the id of a request must not be null")
	case m.Params != nil && m.Params[0] != '{' && m.Params[0] != '[':
		return invalid("params must be an object")
	case m.Error != nil && m.Error[0] != '{':
		return invalid("an error must be an object")
	}
	return nil
}

// parseID accepts a string, a number or null (JSON-RPC 2.0 section 4).
func parseID(raw json.RawMessage) (ID, error) {
	if raw == nil {
		return "", nil
	}
	switch c := raw[0]; {
	case c == '"', c == '-', '0' <= c && c <= '9', string(raw) == "null":
		return ID(raw), nil
	}
	return "", invalid("an id must be a string or a number")
}

// Text returns the text of raw, a valid JSON value. It fails if raw is not a string.
func Text(raw json.RawMessage) (string, error) {
	if len(raw) == 0 || raw[0] != '"' {
		return "", errNotString
	}
	b, err := unquote(raw)
	return string(b), err
}

// unquote returns the text of a valid JSON string. The result aliases raw if nothing is
// escaped.
func unquote(raw []byte) ([]byte, error) {
	if bytes.IndexByte(raw, '\\') < 0 {
		return raw[1 : len(raw)-1], nil
	}
	return jsontext.AppendUnquote(nil, raw)
}

// asParseError returns err as an *Error.
func asParseError(err error) error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	if errors.Is(err, errNotObject) {
		return invalid("a message must be a JSON object")
	}
	text := err.Error()
	if e, ok := errors.AsType[*jsontext.SyntacticError](err); ok { // its own text quotes names from the message
		text = fmt.Sprintf("%v after byte %d", e.Err, e.ByteOffset)
	}
	return &Error{Code: CodeParse, Message: "the message is not valid JSON: " + text}
}

func invalid(format string, args ...any) *Error {
	return &Error{Code: CodeInvalidRequest, Message: "invalid request: " + fmt.Sprintf(format, args...)}
}
