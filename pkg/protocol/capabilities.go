package protocol

import (
	"bytes"
	"encoding/json"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

// modernCapabilities are the capabilities of a legacy client as a modern request
// declares them: there are no tasks of 2025-11-25, and roots do not change.
func ModernCapabilities(legacy json.RawMessage) json.RawMessage {
	fields, err := jsonrpc.Fields(legacy, "roots", "tasks", "extensions")
	if err != nil || len(legacy) == 0 {
		return json.RawMessage(`{}`)
	}
	edits := []jsonrpc.Edit{{Name: "tasks"}, {Name: "extensions", Value: withoutTasks(fields[2])}}
	if fields[0] != nil {
		edits = append(edits, jsonrpc.Edit{Name: "roots", Value: json.RawMessage(`{}`)})
	}
	out, err := jsonrpc.Rewrite(legacy, edits...)
	if err != nil {
		return json.RawMessage(`{}`)
	}
	return out
}

// withoutTasks takes the tasks extension out of extensions: the hub does not
// poll on behalf of clients that do not know it.
func withoutTasks(extensions json.RawMessage) json.RawMessage {
	if extensions == nil {
		return nil
	}
	out, err := jsonrpc.Rewrite(extensions, jsonrpc.Edit{Name: "io.modelcontextprotocol/tasks"})
	if err != nil {
		return nil
	}
	return out
}

// Declares reports whether capabilities, or a member of them by the path of
// names, are there.
func Declares(capabilities json.RawMessage, path ...string) bool {
	for _, name := range path {
		fields, err := jsonrpc.Fields(capabilities, name)
		if err != nil || fields[0] == nil {
			return false
		}
		capabilities = fields[0]
	}
	return true
}

// WithoutTaskSupport takes out of the tools of a result of tools/list that they
// can be called as tasks (execution.taskSupport, specification 2025-11-25,
// server/tools), for clients that cannot have tasks at the server. Every other
// byte stays as it is, but for an execution that says nothing else.
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
		at := bytes.Index(rest, tool) // behind nothing but white space and a comma or bracket
		list = append(append(list, rest[:at]...), ToolWithoutTaskSupport(tool)...)
		rest = rest[at+len(tool):]
	}
	if out, err := jsonrpc.Rewrite(result, jsonrpc.Edit{Name: "tools", Value: append(list, rest...)}); err == nil {
		return out
	}
	return result
}

// withoutTaskSupport is WithoutTaskSupport for one tool.
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
