package jsonrpc

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"

	"github.com/go-json-experiment/json/jsontext"
)

// MaxBatch is how many messages a batch may have.
const MaxBatch = 100

// IsBatch reports whether data is an array, if it is JSON at all.
func IsBatch(data []byte) bool {
	trimmed := bytes.TrimLeft(data, " \t\r\n")
	return len(trimmed) > 0 && trimmed[0] == '['
}

// ParseBatch returns the elements of an array of messages (JSON-RPC 2.0
// section 6), in order and each unparsed: one that is no message spoils only
// itself. They alias data. The error is always an *Error: CodeParse where data
// is not JSON, CodeInvalidRequest where it is no array, an empty one, or one of
// more than MaxBatch elements, which is not read to its end.
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

// scanArray returns the elements of an array. It gives up on one that is too
// long before it reads on.
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
