package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// Error is a failed call of the API.
type Error struct {
	Op     string // what was attempted, such as "end session s1"
	Status int    // HTTP status of the answer; 0: there was no answer
	Err    error  // what is wrong; the text of the hub, if it sent one
}

// Error returns Op and Err.
func (e *Error) Error() string { return e.Op + ": " + e.Err.Error() }

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

// ErrNoHub is in the chain of an error if no hub answers at the URL of the
// Client: there is no server, or a server that is not the admin listener of a
// hub.
var ErrNoHub = errors.New("no hub answers")

// noHub is an ErrNoHub with a text that has the details.
type noHub struct {
	text  string
	cause error // of the transport; may be nil
}

func (e *noHub) Error() string        { return e.text }
func (e *noHub) Unwrap() error        { return e.cause }
func (e *noHub) Is(target error) bool { return target == ErrNoHub }

// unreachable is the error for a request without an answer.
func unreachable(base string, cause error) error {
	text := fmt.Sprintf("no hub answers at %s; is it running, and is this its admin listener? %v", base, cause)
	return &noHub{text, cause}
}

// refusal is the error for an answer whose status is not 2xx.
func refusal(response *http.Response) error {
	if text := problemText(response.Body); text != "" {
		return errors.New(text)
	}
	const format = "%s answers %s, which is not an answer of a hub's admin listener; is this its address?"
	return &noHub{text: fmt.Sprintf(format, response.Request.URL.Host, response.Status)}
}

// maxProblem bounds the body that describes an error, in bytes.
const maxProblem = 64 << 10

// problemText returns the error that the hub describes in body. The API sends a
// Problem. The guard in front of it, which checks hosts and origins, sends a
// JSON-RPC error.
func problemText(body io.Reader) string {
	var problem struct {
		Error json.RawMessage `json:"error"`
	}
	_ = json.NewDecoder(io.LimitReader(body, maxProblem)).Decode(&problem)
	var text string
	if json.Unmarshal(problem.Error, &text) == nil {
		return text
	}
	var guard struct {
		Message string `json:"message"`
	}
	_ = json.Unmarshal(problem.Error, &guard)
	return guard.Message
}

// notJSON is the error for an answer that cannot be decoded.
func notJSON(cause error) error {
	return fmt.Errorf("the answer is not the JSON of the admin API; has the hub another version? %w", cause)
}
