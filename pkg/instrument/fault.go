package instrument

import (
	"go.opentelemetry.io/otel/attribute"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
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
		protocol.CodeHeaderMismatch, protocol.CodeMissingCapability, protocol.CodeUnsupportedVersion:
		return true
	}
	return false
}
