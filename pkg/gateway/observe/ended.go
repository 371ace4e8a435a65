package observe

import (
	"errors"

	"github.com/mcphub-go/mcphub/pkg/session"
)

// ErrClientCancelled is the cancellation cause of the context of a call that the client cancelled.
var ErrClientCancelled = errors.New("cancelled by the client")

// EndedError is the cancellation cause of the context of a call whose session has ended. The client of the call gets its
// text.
type EndedError struct{ Reason session.Reason }

func (e EndedError) Error() string {
	if e.Reason == session.Shutdown {
		return "the hub is being restarted; whether the request was carried out is not known"
	}
	return "the session has ended: " + string(e.Reason)
}
