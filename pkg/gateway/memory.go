package gateway

import (
	"errors"
	"net/http"

	"github.com/mcphub-go/mcphub/pkg/budget"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

// The memory of a request besides its params: the parsed message, the call, its stream and its goroutine. The params are
// there three times until the server has read them: as they came, with the names of the server, and as they are sent.
const (
	requestSize  = 4 << 10 // bytes
	paramsCopies = 3
)

// sizeOf returns the memory that the call of m takes.
func sizeOf(m jsonrpc.Message) int64 { return requestSize + paramsCopies*int64(len(m.Params)) }

// The errors of requests for which there is no memory.
var (
	errOverShare  = jsonrpc.Errorf(jsonrpc.CodeInternal, "%v", budget.ErrShare)
	errMemoryFull = jsonrpc.Errorf(jsonrpc.CodeInternal, "%v", budget.ErrFull)
)

// memoryError returns the JSON-RPC error for a reservation that failed.
func memoryError(err error) *jsonrpc.Error {
	if errors.Is(err, budget.ErrShare) {
		return errOverShare
	}
	return errMemoryFull
}

// isMemoryError reports whether a reservation failed.
func isMemoryError(err error) bool {
	return errors.Is(err, budget.ErrShare) || errors.Is(err, budget.ErrFull)
}

// memoryStatus returns the HTTP status for a request without memory. A client that is over its share gets an ordinary
// answer with an error: it helps nothing to send the request again later.
func memoryStatus(h http.Header, e *jsonrpc.Error) int {
	if e == errOverShare {
		return http.StatusOK
	}
	h.Set("Retry-After", "5")
	return http.StatusServiceUnavailable
}

// answerSize returns the memory of the answer to a request.
func answerSize(m jsonrpc.Message) int { return len(m.Result) + len(m.Error) }
