package upstream

import (
	"bytes"
	"encoding/json"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

// WithoutTaskSupport takes out of the tools of a result of tools/list that they
// can be called as tasks (execution.taskSupport, specification 2025-11-25,
// server/tools), for clients that cannot have tasks at the server.
func WithoutTaskSupport(result json.RawMessage) json.RawMessage {
	if !bytes.Contains(result, []byte(`"taskSupport"`)) {
		return result
	}
	fields, err := jsonrpc.Fields(result, "tools")
	var tools []json.RawMessage
	if err != nil || json.Unmarshal(fields[0], &tools) != nil {
		return result
	}
	for i, tool := range tools {
		execution, err := jsonrpc.Fields(tool, "execution")
		if err != nil || execution[0] == nil {
			continue
		}
		rest, err := jsonrpc.Rewrite(execution[0], jsonrpc.Edit{Name: "taskSupport"})
		if err != nil {
			continue
		}
		if string(rest) == "{}" {
			rest = nil
		}
		if without, err := jsonrpc.Rewrite(tool, jsonrpc.Edit{Name: "execution", Value: rest}); err == nil {
			tools[i] = without
		}
	}
	list := append(append([]byte{'['}, bytes.Join(rawBytes(tools), []byte{','})...), ']')
	if out, err := jsonrpc.Rewrite(result, jsonrpc.Edit{Name: "tools", Value: list}); err == nil {
		return out
	}
	return result
}

func rawBytes(list []json.RawMessage) [][]byte {
	out := make([][]byte, len(list))
	for i, raw := range list {
		out[i] = raw
	}
	return out
}
