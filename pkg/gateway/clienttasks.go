package gateway

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"

	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
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

// listsTasks reports whether server has a list of the tasks that it keeps.
func listsTasks(server *upstream.Server) bool {
	init, _ := server.Initialized()
	return keepsTasks(server) && protocol.Declares(init.Capabilities, "tasks", "list")
}

// taskCapability is what the servers with tasks can do together; nil if there
// are none.
func (g *Gateway) taskCapability() json.RawMessage {
	var lists, cancels, calls bool
	for _, server := range g.cfg.Pool.Servers() {
		if !keepsTasks(server) {
			continue
		}
		init, _ := server.Initialized()
		lists = lists || protocol.Declares(init.Capabilities, "tasks", "list")
		cancels = cancels || protocol.Declares(init.Capabilities, "tasks", "cancel")
		calls = calls || protocol.Declares(init.Capabilities, "tasks", "requests", "tools", "call")
	}
	var parts []string
	for _, part := range []struct {
		has  bool
		text string
	}{{lists, `"list":{}`}, {cancels, `"cancel":{}`}, {calls, `"requests":{"tools":{"call":{}}}`}} {
		if part.has {
			parts = append(parts, part.text)
		}
	}
	if parts == nil {
		return nil
	}
	return json.RawMessage("{" + strings.Join(parts, ",") + "}")
}

// taskServers are the servers at which the session may have tasks. One that it
// uses and that was not connected to yet may be one of them.
func (c legacyCall) taskServers() []*upstream.Server {
	var all []*upstream.Server
	for _, server := range c.g.cfg.Pool.Servers() {
		_, known := server.Initialized()
		if keepsTasks(server) || (!known && server.Isolated() && c.cs.uses(server.Name())) {
			all = append(all, server)
		}
	}
	return all
}

func isTaskMethod(method string) bool { return strings.HasPrefix(method, "tasks/") }

func errNoTasks() error {
	return jsonrpc.Errorf(jsonrpc.CodeMethodNotFound, "no server behind this hub offers tasks to its clients")
}

// tasks answers a request about tasks.
func (c legacyCall) tasks(ctx context.Context, m jsonrpc.Message) (jsonrpc.Message, error) {
	c.g.settled(ctx)
	if only := c.g.only; only != nil {
		if _, known := only.Initialized(); known && !keepsTasks(only) {
			return jsonrpc.Message{}, errNoTasks()
		}
		return c.call(ctx, only, upstream.Request{Method: m.Method, Params: m.Params})
	}
	candidates := c.taskServers()
	switch {
	case len(candidates) == 0:
		return jsonrpc.Message{}, errNoTasks()
	case len(candidates) == 1:
		return c.call(ctx, candidates[0], upstream.Request{Method: m.Method, Params: m.Params})
	case m.Method == protocol.MethodTasksList:
		return c.listTasks(ctx, candidates, m)
	}
	id, ok := jsonrpc.StringField(m.Params, "taskId")
	if !ok {
		return jsonrpc.Message{}, jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "%.64s needs a taskId", m.Method)
	}
	server, err := c.ownerOf(ctx, id, candidates)
	if err != nil {
		return jsonrpc.Message{}, err
	}
	return c.call(ctx, server, upstream.Request{Method: m.Method, Params: m.Params})
}

// ownerOf finds the server that has a task: the one that made it, or, after a
// restart, the one among those in use that knows it. If none does, and one of
// them cannot be asked, the error says that: the task may be there.
func (c legacyCall) ownerOf(ctx context.Context, id string, candidates []*upstream.Server) (*upstream.Server, error) {
	c.cs.mu.Lock()
	owner := c.cs.taskOwners[id]
	c.cs.mu.Unlock()
	params, err := jsonrpc.Rewrite(nil, jsonrpc.Edit{Name: "taskId", Value: jsonrpc.String(id)})
	if err != nil {
		return nil, invalidParams(err)
	}
	var unasked error
	for _, server := range candidates {
		if owner == server.Name() {
			return server, nil
		}
		if owner != "" || !c.cs.uses(server.Name()) {
			continue
		}
		response, err := c.call(ctx, server, upstream.Request{Method: protocol.MethodTasksGet, Params: params})
		switch {
		case err != nil:
			unasked = cmp.Or(unasked, err)
		case response.Error == nil:
			c.own(id, server)
			return server, nil
		}
	}
	return nil, cmp.Or(unasked, error(jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "no server knows the task")))
}

// own remembers the server of a task.
func (c legacyCall) own(id string, server *upstream.Server) {
	c.cs.mu.Lock()
	defer c.cs.mu.Unlock()
	if c.cs.taskOwners[id] == "" && len(c.cs.taskOwners) < maxTaskOwners && !c.cs.ended { // the first stays: another server may have read the id
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

// listTasks lists the tasks of all servers in use that have a list, one server
// after the other. The cursor names the server that it belongs to. A server that
// cannot be asked now is left out: its tasks cannot be had now either.
func (c legacyCall) listTasks(ctx context.Context, candidates []*upstream.Server, m jsonrpc.Message) (jsonrpc.Message, error) {
	at, cursor, err := readTaskCursor(m.Params)
	if err != nil {
		return jsonrpc.Message{}, err
	}
	candidates = slices.DeleteFunc(candidates, func(s *upstream.Server) bool { return !listsTasks(s) || !c.cs.uses(s.Name()) })
	if at != "" {
		first := slices.IndexFunc(candidates, func(s *upstream.Server) bool { return s.Name() == at })
		if first < 0 {
			return jsonrpc.Message{}, errTaskCursor()
		}
		candidates = candidates[first:]
	}
	for i, server := range candidates {
		response, err := c.call(ctx, server, upstream.Request{Method: m.Method, Params: cursorParams(cursor)})
		switch {
		case err != nil && ctx.Err() != nil:
			return response, err
		case err != nil:
			c.g.log.DebugContext(ctx, "the tasks of a server are not listed", "session", c.cs.id, "upstream", server.Name(), "err", instrument.Redacted(err))
			cursor = ""
			continue
		case response.Error != nil:
			return response, nil
		}
		return nextTaskPage(server, response, candidates[i+1:])
	}
	return jsonrpc.Message{Result: json.RawMessage(`{"tasks":[]}`)}, nil
}

// nextTaskPage gives a page of the tasks of server the cursor to the next one,
// which may be the first of the next server.
func nextTaskPage(server *upstream.Server, page jsonrpc.Message, rest []*upstream.Server) (jsonrpc.Message, error) {
	edit := jsonrpc.Edit{Name: "nextCursor"}
	if next, _ := jsonrpc.StringField(page.Result, "nextCursor"); next != "" {
		edit.Value = taskCursor(server.Name(), next)
	} else if len(rest) > 0 {
		edit.Value = taskCursor(rest[0].Name(), "")
	}
	result, err := jsonrpc.Rewrite(page.Result, edit)
	if err != nil {
		return jsonrpc.Message{}, jsonrpc.Errorf(jsonrpc.CodeInternal, "server %q answered tasks/list with something else", server.Name())
	}
	page.Result = result
	return page, nil
}

func taskCursor(server, cursor string) json.RawMessage {
	return jsonrpc.String(base64.RawURLEncoding.EncodeToString([]byte(server + "\x00" + cursor)))
}

// readTaskCursor returns the server that a cursor names and the cursor that it
// gave. No cursor means the start.
func readTaskCursor(params json.RawMessage) (server, cursor string, err error) {
	fields, err := jsonrpc.Fields(params, "cursor")
	if err != nil {
		return "", "", invalidParams(err)
	}
	if fields[0] == nil || string(fields[0]) == "null" {
		return "", "", nil
	}
	text, ok := jsonrpc.StringField(params, "cursor")
	raw, err := base64.RawURLEncoding.DecodeString(text)
	server, cursor, cut := strings.Cut(string(raw), "\x00")
	if !ok || err != nil || !cut || server == "" {
		return "", "", errTaskCursor()
	}
	return server, cursor, nil
}

func errTaskCursor() error {
	return jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "invalid cursor; ask for the list again from its start")
}

func cursorParams(cursor string) json.RawMessage {
	if cursor == "" {
		return nil
	}
	return append(append(json.RawMessage(`{"cursor":`), jsonrpc.String(cursor)...), '}')
}

// asksForTask reports whether a call of a tool is to become a task. A name may
// be written with escapes.
func asksForTask(req upstream.Request) bool {
	if req.Method != protocol.MethodToolsCall || !(bytes.Contains(req.Params, []byte(`"task"`)) || bytes.Contains(req.Params, []byte(`\u00`))) {
		return false
	}
	fields, err := jsonrpc.Fields(req.Params, "task")
	return err != nil || fields[0] != nil // a server might take one of two
}

// withoutTask makes the call of a tool one like others. That is what a server
// does that has no tasks.
func withoutTask(req upstream.Request) (upstream.Request, error) {
	params, err := jsonrpc.Rewrite(req.Params, jsonrpc.Edit{Name: "task"})
	if err != nil {
		return req, invalidParams(err)
	}
	req.Params = params
	return req, nil
}
