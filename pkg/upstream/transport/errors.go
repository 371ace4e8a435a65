package transport

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/mcphub-go/mcphub/pkg/budget"
	"github.com/mcphub-go/mcphub/pkg/protocol"
	"github.com/mcphub-go/mcphub/pkg/sse"
)

// The errors of calls that got no response.
var (
	ErrDown        = errors.New("is down")                                // there is no connection; not sent
	ErrTimeout     = errors.New("did not answer in time")                 // the timeout of the call passed
	ErrLost        = errors.New("was lost before it answered")            // sent, outcome unknown
	ErrProtocol    = errors.New("broke the protocol")                     // the answer is not a valid response
	ErrSessionGone = errors.New("does not know its session any more")     // not carried out
	ErrCancelled   = errors.New("was told that the request is cancelled") // the caller gave up

	// ErrConnectTimeout is the cause of a context that ends because the connection took too long to make.
	ErrConnectTimeout = errors.New("did not become ready in time")
	// ErrClosed is why a connection was lost that the hub itself closed.
	ErrClosed = errors.New("the connection was closed")
)

// IsTimeout reports whether err is one of the timeouts of this package.
func IsTimeout(err error) bool {
	return errors.Is(err, ErrTimeout) || errors.Is(err, ErrConnectTimeout)
}

// CauseOf returns why ctx ended, as an error of this package: a timeout, or ErrCancelled with the cause.
func CauseOf(ctx context.Context) error {
	cause := context.Cause(ctx)
	if IsTimeout(cause) {
		return cause
	}
	return fmt.Errorf("%w: %w", ErrCancelled, cause)
}

// errTooLong is why a message is not read. If nothing can be told to wait for it, it is why the connection is given up.
var errTooLong = errors.New("a message is too long")

// tooLong is the error for a message of more than limit bytes.
func tooLong(limit int64) error {
	return fmt.Errorf("%w: %w: more than %d bytes (limits.maxMessageBytes)", ErrProtocol, errTooLong, limit)
}

// isRefused reports whether err is that there is no memory.
func isRefused(err error) bool {
	return errors.Is(err, budget.ErrShare) || errors.Is(err, budget.ErrFull)
}

// IsTooMuch reports whether err is that a message was not read because it is too long, or because there is no memory.
func IsTooMuch(err error) bool {
	return errors.Is(err, errTooLong) || errors.Is(err, sse.ErrTooLong) || isRefused(err)
}

// StatusError is an HTTP response that is not a JSON-RPC message.
type StatusError struct {
	Code      int
	MediaType string
	Said      string // what the server gave as the reason for a 4xx: one short line, without configured secrets; may be empty
}

// Error implements error.
func (e StatusError) Error() string { return e.text(e.Said) }

// Redacted returns the error without what the server said, which may quote the request.
func (e StatusError) Redacted() string { return e.text("") }

func (e StatusError) text(said string) string {
	if said != "" {
		said = fmt.Sprintf(" and says %q", said)
	}
	if e.RefusesCredentials() {
		return fmt.Sprintf("it refuses the hub with HTTP status %s%s; check the headers configured for it", e.Status(), said)
	}
	return fmt.Sprintf("HTTP status %s, content type %s%s", e.Status(), mediaTypeText(e.MediaType), said)
}

// RefusesCredentials reports whether the status is one for missing or wrong credentials.
func (e StatusError) RefusesCredentials() bool {
	return e.Code == http.StatusUnauthorized || e.Code == http.StatusForbidden
}

// Status returns the code and its text in the standard, such as "404 Not Found". The text of the server is not used.
func (e StatusError) Status() string { return statusText(e.Code) }

func statusText(code int) string {
	return strings.TrimSpace(fmt.Sprintf("%d %s", code, http.StatusText(code)))
}

// mediaTypeText is a media type in quotes. An unusual one is not repeated: a server could use it to place text in logs.
func mediaTypeText(mediaType string) string {
	switch mediaType {
	case "", "text/html", "text/plain", "text/xml", "application/xml", "application/octet-stream", "application/problem+json",
		protocol.TypeJSON, protocol.TypeEventStream:
		return strconv.Quote(mediaType)
	}
	return "unusual"
}
