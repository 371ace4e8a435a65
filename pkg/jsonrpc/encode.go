package jsonrpc

import (
	"encoding/json"

	"github.com/go-json-experiment/json/jsontext"
)

// appendString appends s as a JSON string. Invalid UTF-8 becomes U+FFFD.
func appendString(dst []byte, s string) []byte {
	// AppendQuote fails only for invalid UTF-8, and appends a valid string even then.
	out, _ := jsontext.AppendQuote(dst, s)
	return out
}

// String returns s as a JSON string.
func String(s string) json.RawMessage { return appendString(nil, s) }

// appendTo appends m as one JSON object. It copies the raw fields unchanged.
func (m Message) appendTo(dst []byte) []byte {
	dst = append(dst, `{"jsonrpc":"2.0"`...)
	if m.ID != "" {
		dst = append(append(dst, `,"id":`...), m.ID...)
	}
	if m.Method != "" {
		dst = appendString(append(dst, `,"method":`...), m.Method)
	}
	for _, f := range []struct {
		name  string
		value json.RawMessage
	}{{`,"params":`, m.Params}, {`,"result":`, m.Result}, {`,"error":`, m.Error}} {
		if f.value != nil {
			dst = append(append(dst, f.name...), f.value...)
		}
	}
	return append(dst, '}')
}

// Encode returns m as one JSON object.
func (m Message) Encode() []byte {
	return m.appendTo(make([]byte, 0, 64+len(m.ID)+len(m.Method)+len(m.Params)+len(m.Result)+len(m.Error)))
}

// NewResult returns the successful response to id.
func NewResult(id ID, result json.RawMessage) Message { return Message{ID: id, Result: result} }

// NewError returns the error response to id. An empty id becomes null.
func NewError(id ID, e *Error) Message {
	if id == "" {
		id = Null
	}
	raw, err := json.Marshal(e)
	if err != nil { // only Data can be invalid
		raw, _ = json.Marshal(&Error{Code: e.Code, Message: e.Message})
	}
	return Message{ID: id, Error: raw}
}

// OneLine replaces the line breaks of a JSON text by spaces. In JSON they can only be
// white space between tokens. It changes message in place.
func OneLine(message []byte) []byte {
	for i, c := range message {
		if c == '\n' || c == '\r' {
			message[i] = ' '
		}
	}
	return message
}
