package gateway

import (
	"errors"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/session"
)

// errClientCancelled is the cause of a call that the client cancelled.
var errClientCancelled = errors.New("cancelled by the client")

// endedError is the cause of a call whose session has ended.
type endedError struct{ reason session.Reason }

func (e endedError) Error() string {
	if e.reason == session.Shutdown {
		return "the hub is being restarted; whether the request was carried out is not known"
	}
	return "the session has ended: " + string(e.reason)
}

// errStopping is the cause of a call that is cancelled because the hub stops.
var errStopping = endedError{session.Shutdown}

// errBusy is the error of a modern request beyond a limit of the hub.
var errBusy = jsonrpc.Errorf(jsonrpc.CodeInternal, "the hub has too many requests in flight; try again later")

// errUnconfigured returns the error for a server that is not configured any more.
func errUnconfigured() error {
	return jsonrpc.Errorf(jsonrpc.CodeInternal, "the server is not configured any more")
}
