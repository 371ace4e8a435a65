package jsonrpc

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"

	"github.com/go-json-experiment/json/jsontext"
)

// MaxBatch is the largest number of messages in a batch.
const MaxBatch = 100

// IsBatch reports whether data is an array, provided that it is JSON.
func IsBatch(data []byte) bool {
	trimmed := bytes.TrimLeft(data, " \t\r\n")
	return len(trimmed) > 0 && trimmed[0] == '['
}

// ParseBatch returns the elements of an array of messages (JSON-RPC 2.0 section 6), in
// order and unparsed, so that an invalid one does not affect the others. They alias data.
// The error is always an *Error: CodeParse if data is not JSON, CodeInvalidRequest if it
// is not an array, is empty, or has more than MaxBatch elements; then the rest is not read.
func ParseBatch(data []byte) ([]json.RawMessage, error) {
	if !IsBatch(data) {
		if !jsontext.Value(data).IsValid(jsontext.AllowDuplicateNames(true)) {
			return nil, &Error{Code: CodeParse, Message: "the batch is not valid JSON"}
		}
		return nil, invalid("a batch must be an array")
	}
	elements, err := scanArray(data)
	switch {
	case err != nil:
		return nil, asParseError(err)
	case len(elements) == 0:
		return nil, invalid("a batch must not be empty")
	}
	return elements, nil
}

// scanArray returns the elements of an array. It stops after MaxBatch elements with an
// error.
func scanArray(data []byte) ([]json.RawMessage, error) {
	dec := jsontext.NewDecoder(bytes.NewBuffer(data), jsontext.AllowDuplicateNames(true))
	if _, err := dec.ReadToken(); err != nil {
		return nil, noEOF(err)
	}
	var elements []json.RawMessage
	for dec.PeekKind() != ']' {
		if len(elements) == MaxBatch {
			return nil, invalid("a batch has at most %d messages; send several", MaxBatch)
		}
		value, err := dec.ReadValue()
		if err != nil {
			return nil, noEOF(err)
		}
		end := int(dec.InputOffset())
		elements = append(elements, data[end-len(value):end:end])
	}
	if _, err := dec.ReadToken(); err != nil {
		return nil, noEOF(err)
	}
	if _, err := dec.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, errors.New("unexpected data after the array")
	}
	return elements, nil
}
