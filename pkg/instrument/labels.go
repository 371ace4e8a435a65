package instrument

import (
	"strconv"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
)

// Other is the label value of everything that has no label value of its own.
const Other = "_OTHER"

// RequestLabels returns the values that mcp_method_name can have for requests of clients: their methods and Other. All
// of these label sets exist from the start.
func RequestLabels() []string { return append(protocol.ClientRequests(), Other) }

// MethodLabel returns method if it is a method of MCP, and Other if not. Peers can send any method, and the values of a
// label must stay bounded.
func MethodLabel(method string) string {
	if protocol.IsMethod(method) {
		return method
	}
	return Other
}

// ErrorTypeLabel bounds the values of the label error_type, because servers choose error codes freely. Codes that
// JSON-RPC defines and error types that are not numbers stay as they are, codes of the range that JSON-RPC reserves for
// servers (-32099 to -32000) become -32000, and all other codes become Other.
func ErrorTypeLabel(kind string) string {
	if kind == "" {
		return "" // the most frequent value; Atoi would allocate an error
	}
	code, err := strconv.Atoi(kind)
	switch {
	case err != nil, code == jsonrpc.CodeParse, -32603 <= code && code <= -32600: // defined by JSON-RPC
		return kind
	case -32099 <= code && code <= -32000:
		return "-32000"
	}
	return Other
}

// VersionLabel returns version if it is "" or a supported protocol version, and Other if not. A session that another
// program stored can have any version, and the values of a label must stay bounded.
func VersionLabel(version string) string {
	if version == "" || protocol.IsVersion(version) {
		return version
	}
	return Other
}
