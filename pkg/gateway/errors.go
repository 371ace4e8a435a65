package gateway

import (
	"github.com/mcphub-go/mcphub/pkg/gateway/observe"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/session"
)

// errStopping is the cause of a call that is cancelled because the hub stops.
var errStopping = observe.EndedError{Reason: session.Shutdown}

// errBusy is the error of a modern request beyond a limit of the hub.
var errBusy = jsonrpc.Errorf(jsonrpc.CodeInternal, "the hub has too many requests in flight; try again later")

// errUnconfigured returns the error for a server that is not configured any more.
func errUnconfigured() error {
	return jsonrpc.Errorf(jsonrpc.CodeInternal, "the server is not configured any more")
}
