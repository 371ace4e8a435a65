package instrument

import (
	"go.opentelemetry.io/otel/attribute"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
)

// Fault is the party that caused the failure of an operation.
type Fault string

// The faults.
const (
	FaultNone    Fault = "none"    // the operation succeeded
	FaultClient  Fault = "client"  // the request was invalid, or the client cancelled it
	FaultTool    Fault = "tool"    // the tool reported an error (isError)
	FaultBackend Fault = "backend" // the server failed or was unreachable
	FaultHub     Fault = "hub"     // the hub failed
)

// FaultAttribute returns the span attribute for f. The span of an operation begins with FaultNone, and its end replaces
// the attribute after a failure only: an attribute that is set after the start costs twice as much.
func FaultAttribute(f Fault) attribute.KeyValue { return attribute.String("mcphub.fault", string(f)) }

// Faults returns all faults, for label sets that exist from the start.
func Faults() []Fault {
	return []Fault{FaultNone, FaultClient, FaultTool, FaultBackend, FaultHub}
}

// IsCallerFault reports whether a JSON-RPC error code means that the caller sent an invalid request. Such an error does
// not count as an error of the responder (semantic conventions for MCP, error.type on SERVER spans).
func IsCallerFault(code int) bool {
	switch code {
	case jsonrpc.CodeParse, jsonrpc.CodeInvalidRequest, jsonrpc.CodeMethodNotFound, jsonrpc.CodeInvalidParams,
		protocol.CodeResourceNotFound, protocol.CodeHeaderMismatch,
		protocol.CodeMissingCapability, protocol.CodeUnsupportedVersion:
		return true
	}
	return false
}
