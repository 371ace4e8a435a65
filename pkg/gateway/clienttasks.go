package gateway

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"strings"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

// Tasks of specification 2025-11-25, basic/utilities/tasks, belong to a session.
// They are offered where a server has one for each client, and not where clients
// share a connection: there everybody could see everybody's.

// maxTaskOwners bounds the tasks whose server a session remembers.
const maxTaskOwners = 1024

// keepsTasks reports whether clients can have tasks at server.
func keepsTasks(server *upstream.Server) bool {
	if !server.Isolated() || server.Modern() {
		return false
	}
	init, _ := server.Initialized()
	has, err := jsonrpc.Fields(init.Capabilities, "tasks")
	return err == nil && has[0] != nil
}

// taskCapability is what the servers with tasks can do together; nil if there
// are none.
func (g *Gateway) taskCapability() json.RawMessage {
	var edits []jsonrpc.Edit
	for _, server := range g.cfg.Pool.Servers() {
		if !keepsTasks(server) {
			continue
		}
		init, _ := server.Initialized()
		tasks, _ := jsonrpc.Fields(init.Capabilities, "tasks") // was read before
		parts, err := jsonrpc.Fields(tasks[0], "list", "cancel", "requests")
		if err != nil {
			continue
		}
		for i, name := range []string{"list", "cancel", "requests"} {
			if parts[i] != nil {
				edits = append(edits, jsonrpc.Edit{Name: name, Value: parts[i]})
			}
		}
	}
	if edits == nil {
		return nil
	}
	var all json.RawMessage
	for _, e := range edits {
		if out, err := jsonrpc.Rewrite(all, e); err == nil {
			all = out
		}
	}
	return all
}

// tasks answers a request about tasks of a hub with several servers.
func (c legacyCall) tasks(ctx context.Context, m jsonrpc.Message) (jsonrpc.Message, error) {
	var candidates []*upstream.Server
	for _, server := range c.g.cfg.Pool.Servers() {
		if keepsTasks(server) {
			candidates = append(candidates, server)
		}
	}
	switch {
	case len(candidates) == 0:
		return jsonrpc.Message{}, jsonrpc.Errorf(jsonrpc.CodeMethodNotFound, "no server behind this hub offers tasks to its clients")
	case len(candidates) == 1:
		return c.call(ctx, candidates[0], upstream.Request{Method: m.Method, Params: m.Params})
	case m.Method == "tasks/list":
		return c.listTasks(ctx, candidates, m)
	}
	id, ok := jsonrpc.StringField(m.Params, "taskId")
	if !ok {
		return jsonrpc.Message{}, jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "%.64s needs a taskId", m.Method)
	}
	server := c.ownerOf(ctx, id, candidates)
	if server == nil {
		return jsonrpc.Message{}, jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "no server knows the task")
	}
	return c.call(ctx, server, upstream.Request{Method: m.Method, Params: m.Params})
}

// ownerOf finds the server that has a task: the one that made it, or, after a
// restart, the one among those in use that knows it.
func (c legacyCall) ownerOf(ctx context.Context, id string, candidates []*upstream.Server) *upstream.Server {
	c.cs.mu.Lock()
	owner := c.cs.taskOwners[id]
	c.cs.mu.Unlock()
	params, err := jsonrpc.Rewrite(nil, jsonrpc.Edit{Name: "taskId", Value: jsonrpc.String(id)})
	if err != nil {
		return nil
	}
	for _, server := range candidates {
		if owner == server.Name() {
			return server
		}
		if owner != "" || !c.cs.uses(server.Name()) {
			continue
		}
		if response, err := c.call(ctx, server, upstream.Request{Method: "tasks/get", Params: params}); err == nil && response.Error == nil {
			c.own(id, server)
			return server
		}
	}
	return nil
}

// own remembers the server of a task.
func (c legacyCall) own(id string, server *upstream.Server) {
	c.cs.mu.Lock()
	defer c.cs.mu.Unlock()
	if len(c.cs.taskOwners) < maxTaskOwners && !c.cs.ended {
		put(&c.cs.taskOwners, id, server.Name())
	}
}

// learnTask remembers the server of the task that a call has made.
func (c legacyCall) learnTask(server *upstream.Server, response jsonrpc.Message) {
	fields, err := jsonrpc.Fields(response.Result, "task")
	if err != nil || fields[0] == nil {
		return
	}
	if id, ok := jsonrpc.StringField(fields[0], "taskId"); ok {
		c.own(id, server)
	}
}

// listTasks lists the tasks of all servers in use, one after the other. The
// cursor names the server that it belongs to.
func (c legacyCall) listTasks(ctx context.Context, candidates []*upstream.Server, m jsonrpc.Message) (jsonrpc.Message, error) {
	at, cursor, err := readTaskCursor(m.Params)
	if err != nil {
		return jsonrpc.Message{}, err
	}
	for i, server := range candidates {
		if (at != "" && server.Name() != at) || (at == "" && !c.cs.uses(server.Name())) {
			continue
		}
		response, err := c.call(ctx, server, upstream.Request{Method: m.Method, Params: cursorParams(cursor)})
		if err != nil || response.Error != nil {
			return response, err
		}
		next, _ := jsonrpc.StringField(response.Result, "nextCursor")
		edit := jsonrpc.Edit{Name: "nextCursor"}
		if next != "" {
			edit.Value = taskCursor(server.Name(), next)
		} else if rest := c.nextInUse(candidates[i+1:]); rest != "" {
			edit.Value = taskCursor(rest, "")
		}
		if response.Result, err = jsonrpc.Rewrite(response.Result, edit); err != nil {
			return jsonrpc.Message{}, jsonrpc.Errorf(jsonrpc.CodeInternal, "server %q answered tasks/list with something else", server.Name())
		}
		return response, nil
	}
	if at != "" {
		return jsonrpc.Message{}, jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "invalid cursor; ask for the list again from its start")
	}
	return jsonrpc.Message{Result: json.RawMessage(`{"tasks":[]}`)}, nil
}

func (c legacyCall) nextInUse(servers []*upstream.Server) string {
	for _, server := range servers {
		if c.cs.uses(server.Name()) {
			return server.Name()
		}
	}
	return ""
}

func taskCursor(server, cursor string) json.RawMessage {
	return jsonrpc.String(base64.RawURLEncoding.EncodeToString([]byte(server + "\x00" + cursor)))
}

func readTaskCursor(params json.RawMessage) (server, cursor string, err error) {
	text, ok := jsonrpc.StringField(params, "cursor")
	if !ok {
		return "", "", nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(text)
	server, cursor, ok = strings.Cut(string(raw), "\x00")
	if err != nil || !ok || server == "" {
		return "", "", jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "invalid cursor; ask for the list again from its start")
	}
	return server, cursor, nil
}

func cursorParams(cursor string) json.RawMessage {
	if cursor == "" {
		return nil
	}
	return append(append(json.RawMessage(`{"cursor":`), jsonrpc.String(cursor)...), '}')
}

// asksForTask reports whether a call of a tool is to become a task.
func asksForTask(req upstream.Request) bool {
	if req.Method != "tools/call" || !bytes.Contains(req.Params, []byte(`"task"`)) {
		return false
	}
	fields, err := jsonrpc.Fields(req.Params, "task")
	return err == nil && fields[0] != nil
}
