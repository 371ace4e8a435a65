package instrument

import (
	"strconv"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
)

// Other is the label value of whatever has no label value of its own.
const Other = "_OTHER"

// RequestLabels returns the values of the label of a method that the requests of clients can
// have: their methods and Other. Label sets that exist from the start have all of them.
func RequestLabels() []string { return append(protocol.ClientRequests(), Other) }

// MethodLabel returns method if it is a method of MCP, and Other if not:
// strangers choose methods, and a label must not grow with what they choose.
func MethodLabel(method string) string {
	if protocol.IsMethod(method) {
		return method
	}
	return Other
}

// BoundErrorType keeps the label of an error code from growing: servers choose
// codes freely. Those that JSON-RPC defines stay, those of its range for servers
// become -32000, all others Other.
func ErrorTypeLabel(kind string) string {
	if kind == "" {
		return "" // most are, and the error of Atoi would be an allocation
	}
	code, err := strconv.Atoi(kind)
	switch {
	case err != nil, code == jsonrpc.CodeParse, -32603 <= code && code <= -32600: // which JSON-RPC defines
		return kind
	case -32099 <= code && code <= -32000:
		return "-32000"
	}
	return Other
}
