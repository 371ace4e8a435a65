package upstream

import (
	"errors"

	"go.opentelemetry.io/otel/attribute"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

// Fault says whose doing it is that an operation ended as it did.
type Fault string

// The faults.
const (
	FaultNone    Fault = "none"
	FaultClient  Fault = "client"  // it asked for what cannot be, or took its request back
	FaultTool    Fault = "tool"    // the tool says that it failed (isError)
	FaultBackend Fault = "backend" // the server failed, or was not there
	FaultHub     Fault = "hub"
)

// FaultAttribute is the attribute of a span that says so. Spans of operations get
// that of FaultNone when they begin, which the end corrects if need be: attributes
// that come late cost twice as much.
func FaultAttribute(f Fault) attribute.KeyValue { return attribute.String("mcphub.fault", string(f)) }

// Faults are all there are, for label sets that exist from the start.
func Faults() []Fault {
	return []Fault{FaultNone, FaultClient, FaultTool, FaultBackend, FaultHub}
}

// IsCallerFault reports whether an error code says that the caller did something
// wrong. Such an error is none of the one who answers with it (semantic
// conventions for MCP, error.type on SERVER spans).
func IsCallerFault(code int) bool {
	switch code {
	case jsonrpc.CodeParse, jsonrpc.CodeInvalidRequest, jsonrpc.CodeMethodNotFound, jsonrpc.CodeInvalidParams, -32002,
		CodeHeaderMismatch, CodeMissingCapability, CodeUnsupportedVersion:
		return true
	}
	return false
}

// FaultOf attributes the outcome of a call to a server: its response, or the
// reason why there is none.
func FaultOf(response jsonrpc.Message, err error) Fault {
	refusal, refused := errors.AsType[*jsonrpc.Error](err)
	switch {
	case refused && IsCallerFault(refusal.Code), errors.Is(err, ErrCancelled):
		return FaultClient
	case refused:
		return FaultHub
	case err != nil:
		return FaultBackend
	case response.Error != nil && IsCallerFault(jsonrpc.ParseError(response.Error).Code):
		return FaultClient
	case response.Error != nil:
		return FaultBackend
	case isToolError(response.Result):
		return FaultTool
	}
	return FaultNone
}
