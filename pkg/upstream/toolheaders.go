package upstream

import (
	"encoding/json"
	"sync/atomic"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
)

// toolHeaders are the tools that a server listed last, with those of their arguments that are mirrored in headers,
// specification 2026-07-28, basic/transports, x-mcp-header. All connections to the server share them. They may be used
// concurrently.
type toolHeaders struct {
	byTool atomic.Pointer[map[string][]protocol.ParamHeader]
}

// has reports whether the server has listed tool.
func (t *toolHeaders) has(tool string) bool {
	m := t.byTool.Load()
	if m == nil {
		return false
	}
	_, ok := (*m)[tool]
	return ok
}

// of returns the mirrored arguments of tool.
func (t *toolHeaders) of(tool string) []protocol.ParamHeader {
	if m := t.byTool.Load(); m != nil {
		return (*m)[tool]
	}
	return nil
}

// set replaces the tools by those of a new list.
func (t *toolHeaders) set(tools []json.RawMessage) {
	byTool := map[string][]protocol.ParamHeader{}
	for _, tool := range tools {
		name, headers, err := paramHeadersOf(tool)
		if err != nil {
			headers = nil
		}
		byTool[name] = headers
	}
	t.byTool.Store(&byTool)
}

// paramHeadersOf reads one tool of a list. An error means that its annotations for headers are invalid.
func paramHeadersOf(tool json.RawMessage) (name string, headers []protocol.ParamHeader, err error) {
	fields, err := jsonrpc.Fields(tool, "name", "inputSchema")
	if err != nil {
		return "", nil, nil //nolint:nilerr // not a tool: it has no annotations
	}
	_ = json.Unmarshal(fields[0], &name)
	headers, err = protocol.ParamHeaders(fields[1])
	return name, headers, err
}
