package protocol

import (
	"bytes"
	"encoding/json"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

// WithoutTaskSupport removes execution.taskSupport from each tool in a result of tools/list (specification
// 2025-11-25, server/tools), for clients that cannot use tasks of the server. All other bytes stay as they are;
// an execution that has no other member is removed.
func WithoutTaskSupport(result json.RawMessage) json.RawMessage {
	if !bytes.Contains(result, []byte(`"taskSupport"`)) {
		return result
	}
	fields, err := jsonrpc.Fields(result, "tools")
	var tools []json.RawMessage
	if err != nil || json.Unmarshal(fields[0], &tools) != nil {
		return result
	}
	list, rest := make([]byte, 0, len(fields[0])), []byte(fields[0])
	for _, tool := range tools {
		at := bytes.Index(rest, tool) // only white space and a comma or bracket precede it
		list = append(append(list, rest[:at]...), ToolWithoutTaskSupport(tool)...)
		rest = rest[at+len(tool):]
	}
	if out, err := jsonrpc.Rewrite(result, jsonrpc.Edit{Name: "tools", Value: append(list, rest...)}); err == nil {
		return out
	}
	return result
}

// ToolWithoutTaskSupport is WithoutTaskSupport for one tool.
func ToolWithoutTaskSupport(tool json.RawMessage) json.RawMessage {
	if !bytes.Contains(tool, []byte(`"taskSupport"`)) {
		return tool
	}
	execution, err := jsonrpc.Fields(tool, "execution")
	if err != nil || execution[0] == nil {
		return tool
	}
	rest, err := jsonrpc.Rewrite(execution[0], jsonrpc.Edit{Name: "taskSupport"})
	if err != nil || len(rest) == len(execution[0]) {
		return tool
	}
	if string(rest) == "{}" {
		rest = nil
	}
	if without, err := jsonrpc.Rewrite(tool, jsonrpc.Edit{Name: "execution", Value: rest}); err == nil {
		return without
	}
	return tool
}

// IsToolError reports whether a result of tools/call has isError: true. Results are long, so they are parsed
// only if the member name occurs.
func IsToolError(result json.RawMessage) bool {
	if !bytes.Contains(result, []byte(`"isError"`)) {
		return false
	}
	isError, err := jsonrpc.Field(result, "isError")
	return err == nil && string(isError) == "true"
}
