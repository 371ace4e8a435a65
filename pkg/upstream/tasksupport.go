package upstream

import (
	"encoding/json"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
)

// keepTaskToken keeps the progress token of a call that has become a task: it
// stays valid as long as the task lives, specification 2025-11-25,
// basic/utilities/tasks. Of too many the oldest is forgotten.
func (c *Conn) keepTaskToken(cl *call, response jsonrpc.Message) {
	if !protocol.Declares(response.Result, "task", "taskId") {
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
