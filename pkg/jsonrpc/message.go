// Package jsonrpc reads and writes JSON-RPC 2.0 envelopes as raw bytes.
//
// A message is scanned once. What a hub has to know (id, method) is taken out;
// params, result and error stay the bytes the sender wrote. Member names are
// compared exactly, and a member the hub acts on may stand in a message only
// once, so that no two readers of one message can disagree about it.
package jsonrpc

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/go-json-experiment/json/jsontext"
)

// ID is the raw JSON text of a request id, for instance `7` or `"a"`. IDs are
// compared byte by byte and never as numbers. The empty ID means "none".
type ID string

// Null is the id of an error response to a message whose id could not be read.
const Null ID = "null"

// Kind says what a message is.
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

// Kind derives the kind of m from the members it has.
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

// ErrBatch is reported by Parse for an array of messages; see ParseBatch.
var ErrBatch = &Error{Code: CodeInvalidRequest, Message: "batches of messages are not supported; send one message"}

// Parse reads one message. The error is always an *Error: CodeParse where data
// is not JSON, CodeInvalidRequest where it is JSON but no message. The returned
// Message has the id, if there is a usable one, also when Parse fails.
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

// parseID accepts strings, numbers and null, as JSON-RPC 2.0 section 4 does.
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

// Text returns the text of raw, which is a valid JSON value. It fails for what is
// no string.
func Text(raw json.RawMessage) (string, error) {
	if len(raw) == 0 || raw[0] != '"' {
		return "", errNotString
	}
	b, err := unquote(raw)
	return string(b), err
}

// unquote returns the text of a valid JSON string. It aliases raw where nothing
// is escaped.
func unquote(raw []byte) ([]byte, error) {
	if bytes.IndexByte(raw, '\\') < 0 {
		return raw[1 : len(raw)-1], nil
	}
	return jsontext.AppendUnquote(nil, raw)
}

func asParseError(err error) error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	if errors.Is(err, errNotObject) {
		return invalid("a message must be a JSON object")
	}
	text := err.Error()
	if e, ok := errors.AsType[*jsontext.SyntacticError](err); ok { // whose own text has names of the message in it
		text = fmt.Sprintf("%v after byte %d", e.Err, e.ByteOffset)
	}
	return &Error{Code: CodeParse, Message: "the message is not valid JSON: " + text}
}

func invalid(format string, args ...any) *Error {
	return &Error{Code: CodeInvalidRequest, Message: "invalid request: " + fmt.Sprintf(format, args...)}
}
