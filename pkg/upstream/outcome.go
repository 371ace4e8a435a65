package upstream

import (
	"cmp"
	"context"
	"errors"
	"net"
	"strconv"

	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
	"github.com/mcphub-go/mcphub/pkg/upstream/transport"
)

// FaultOfServerRequest attributes the outcome of a server request that was sent to a client: if it must not be sent, or
// was cancelled, that is the server's fault; if it is not answered, the client's. Ctx is that of the request.
func FaultOfServerRequest(ctx context.Context, err error) instrument.Fault {
	switch {
	case err == nil:
		return instrument.FaultNone
	case instrument.IsCallerFault(jsonrpc.AsError(err).Code), errors.Is(context.Cause(ctx), errRequestCancelled):
		return instrument.FaultBackend
	}
	return instrument.FaultClient
}

// FaultOf attributes the outcome of a call to a server: its response, or the error if there is none.
func FaultOf(response jsonrpc.Message, err error) instrument.Fault {
	refusal, refused := errors.AsType[*jsonrpc.Error](err)
	switch {
	case refused && instrument.IsCallerFault(refusal.Code), errors.Is(err, ErrCancelled):
		return instrument.FaultClient
	case refused:
		return instrument.FaultHub
	case err != nil:
		return instrument.FaultBackend
	case response.Error != nil && instrument.IsCallerFault(jsonrpc.ParseError(response.Error).Code):
		return instrument.FaultClient
	case response.Error != nil:
		return instrument.FaultBackend
	case protocol.IsToolError(response.Result):
		return instrument.FaultTool
	}
	return instrument.FaultNone
}

// cancelReason returns why a request to a server has no response.
func cancelReason(err error) instrument.CancelReason {
	switch {
	case transport.IsTimeout(err):
		return instrument.TimedOut
	case errors.Is(err, ErrLost): // even if the session is gone: the request may have been carried out
		return instrument.ConnectionLost
	case errors.Is(err, transport.ErrSessionGone):
		return instrument.SessionGone
	case errors.Is(err, ErrDown):
		return instrument.Unreachable
	case errors.Is(err, transport.ErrProtocol):
		return instrument.ProtocolError
	case errors.Is(err, ErrCancelled):
		return instrument.Withdrawn
	}
	return instrument.Unexplained
}

// Outcome is ErrorType, or "ok" for a success.
func Outcome(response jsonrpc.Message, err error) string {
	return cmp.Or(ErrorType(response, err), "ok")
}

// ErrorType classifies the outcome of a call for the attribute error.type, see the semantic conventions for MCP. It is
// empty for a success.
func ErrorType(response jsonrpc.Message, err error) string {
	switch _, isNet := errors.AsType[net.Error](err); {
	case err == nil && response.Error != nil:
		return strconv.Itoa(jsonrpc.ParseError(response.Error).Code)
	case err == nil && protocol.IsToolError(response.Result):
		return "tool_error"
	case err == nil:
		return ""
	case transport.IsTimeout(err):
		return "timeout"
	case errors.Is(err, ErrCancelled):
		return "cancelled"
	case errors.Is(err, transport.ErrSessionGone):
		return "session_gone"
	case errors.Is(err, ErrDown):
		return "unavailable"
	case errors.Is(err, ErrLost), isNet:
		return "connection_lost"
	case errors.Is(err, transport.ErrProtocol):
		return "backend_protocol_error"
	}
	if refusal, ok := errors.AsType[*jsonrpc.Error](err); ok { // of the hub itself
		return strconv.Itoa(refusal.Code)
	}
	return instrument.Other
}
