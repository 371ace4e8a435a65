package gateway

import (
	"bytes"
	"strings"
	"sync"

	"github.com/mcphub-go/mcphub/pkg/gateway/routing"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

// maxTaskOwners is the limit of the tasks whose server a session remembers.
const maxTaskOwners = 1024

// taskOwners remembers which server has a task of a session. The zero value is ready. Its methods may be
// called concurrently.
type taskOwners struct {
	mu      sync.Mutex
	servers map[string]string // by task id
}

// of returns the name of the server of a task, or an empty string.
func (x *taskOwners) of(id string) string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.servers[id]
}

// add remembers the server of a task. The first one stays: another server may have read the id.
func (x *taskOwners) add(id string, server *upstream.Server) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.servers[id] == "" && len(x.servers) < maxTaskOwners {
		put(&x.servers, id, server.Name())
	}
}

func isTaskMethod(method string) bool { return strings.HasPrefix(method, "tasks/") }

// asksForTask reports whether a tools/call asks for a task. The name of the member may be written with
// escapes.
func asksForTask(req upstream.Request) bool {
	if req.Method != protocol.MethodToolsCall || !(bytes.Contains(req.Params, []byte(`"task"`)) || bytes.Contains(req.Params, []byte(`\u00`))) {
		return false
	}
	fields, err := jsonrpc.Fields(req.Params, "task")
	return err != nil || fields[0] != nil // with two such members, a server might use either
}

// withoutTask makes a tools/call an ordinary one, as a server without tasks does.
func withoutTask(req upstream.Request) (upstream.Request, error) {
	params, err := jsonrpc.Rewrite(req.Params, jsonrpc.Edit{Name: "task"})
	if err != nil {
		return req, routing.InvalidParams(err)
	}
	req.Params = params
	return req, nil
}
