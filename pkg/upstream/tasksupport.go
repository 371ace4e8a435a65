package upstream

import (
	"bytes"
	"encoding/json"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

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
		list = append(append(list, rest[:at]...), withoutTaskSupport(tool)...)
		rest = rest[at+len(tool):]
	}
	if out, err := jsonrpc.Rewrite(result, jsonrpc.Edit{Name: "tools", Value: append(list, rest...)}); err == nil {
		return out
	}
	return result
}

// withoutTaskSupport is WithoutTaskSupport for one tool.
func withoutTaskSupport(tool json.RawMessage) json.RawMessage {
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

// keepTaskToken keeps the progress token of a call that has become a task: it
// stays valid as long as the task lives, specification 2025-11-25,
// basic/utilities/tasks. Of too many the oldest is forgotten.
func (c *Conn) keepTaskToken(cl *call, response jsonrpc.Message) {
	if !Declares(response.Result, "task", "taskId") {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if cl.token == nil {
		return
	}
	if len(c.taskTokens) >= maxTaskTokens {
		c.taskTokens = append(c.taskTokens[:0], c.taskTokens[1:]...)
	}
	c.taskTokens = append(c.taskTokens, taskToken{cl.progress, cl.token})
}

// maxTaskTokens bounds the tasks of one connection whose progress is passed on.
const maxTaskTokens = 256

// taskToken is the progress token of a call that was answered with a task.
type taskToken struct {
	id    jsonrpc.ID // the one that the server uses
	token json.RawMessage
}

// taskTokenOf returns the caller's progress token, or nil. The caller holds mu.
func (c *Conn) taskTokenOf(id jsonrpc.ID) json.RawMessage {
	for _, t := range c.taskTokens {
		if t.id == id {
			return t.token
		}
	}
	return nil
}
