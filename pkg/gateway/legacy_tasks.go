package gateway

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"

	"github.com/mcphub-go/mcphub/pkg/gateway/routing"
	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

// taskServers returns the servers at which the session may have tasks. A server that the session uses
// and that the hub has not connected to yet may be one of them.
func (c legacyCall) taskServers() []*upstream.Server {
	var all []*upstream.Server
	for _, server := range c.cs.router.Pool.Servers() {
		_, known := server.Initialized()
		if routing.KeepsTasks(server) || (!known && server.Isolated() && c.cs.uses(server.Name())) {
			all = append(all, server)
		}
	}
	return all
}

func errNoTasks() error {
	return jsonrpc.Errorf(jsonrpc.CodeMethodNotFound, "no server behind this hub offers tasks to its clients")
}

// tasks answers a request of the methods tasks/…
func (c legacyCall) tasks(ctx context.Context, m jsonrpc.Message) (jsonrpc.Message, error) {
	c.cs.router.AwaitServers(ctx)
	if only := c.cs.router.Only; only != nil {
		if _, known := only.Initialized(); known && !routing.KeepsTasks(only) {
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

// ownerOf returns the server that has a task: the one that made it or, after a restart, the one that
// knows it among the servers that the session uses. If none does and one of them failed to answer, the error is that of the
// failure, because the task may be there.
func (c legacyCall) ownerOf(ctx context.Context, id string, candidates []*upstream.Server) (*upstream.Server, error) {
	owner := c.cs.taskOwners.of(id)
	params, err := jsonrpc.Rewrite(nil, jsonrpc.Edit{Name: "taskId", Value: jsonrpc.String(id)})
	if err != nil {
		return nil, routing.InvalidParams(err)
	}
	var failed error
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
			failed = cmp.Or(failed, err)
		case response.Error == nil:
			c.cs.taskOwners.add(id, server)
			return server, nil
		}
	}
	return nil, cmp.Or(failed, error(jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "no server knows the task")))
}

// listTasks lists the tasks of all servers that the session uses and that support tasks/list, one server after
// the other. The cursor names the server that it belongs to. A server that fails is skipped: its tasks are not available
// now either.
func (c legacyCall) listTasks(ctx context.Context, candidates []*upstream.Server, m jsonrpc.Message) (jsonrpc.Message, error) {
	at, cursor, err := readTaskCursor(m.Params)
	if err != nil {
		return jsonrpc.Message{}, err
	}
	candidates = slices.DeleteFunc(candidates, func(s *upstream.Server) bool { return !routing.ListsTasks(s) || !c.cs.uses(s.Name()) })
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
			c.cs.log.DebugContext(ctx, "the tasks of a server are not listed", "session", c.cs.id, "upstream", server.Name(), "err", instrument.Redacted(err))
			cursor = ""
			continue
		case response.Error != nil:
			return response, nil
		}
		return nextTaskPage(server, response, candidates[i+1:])
	}
	return jsonrpc.Message{Result: json.RawMessage(`{"tasks":[]}`)}, nil
}

// nextTaskPage replaces the cursor in a page of tasks of server by one that names its server: this one, or
// the first of rest after the last page.
func nextTaskPage(server *upstream.Server, page jsonrpc.Message, rest []*upstream.Server) (jsonrpc.Message, error) {
	edit := jsonrpc.Edit{Name: "nextCursor"}
	if next, _ := jsonrpc.StringField(page.Result, "nextCursor"); next != "" {
		edit.Value = taskCursor(server.Name(), next)
	} else if len(rest) > 0 {
		edit.Value = taskCursor(rest[0].Name(), "")
	}
	result, err := jsonrpc.Rewrite(page.Result, edit)
	if err != nil {
		return jsonrpc.Message{}, jsonrpc.Errorf(jsonrpc.CodeInternal, "server %q answered tasks/list with a result that is not an object", server.Name())
	}
	page.Result = result
	return page, nil
}

func taskCursor(server, cursor string) json.RawMessage {
	return jsonrpc.String(base64.RawURLEncoding.EncodeToString([]byte(server + "\x00" + cursor)))
}

// readTaskCursor returns the server that a cursor names and the cursor of that server. Params without
// cursor mean the start of the list.
func readTaskCursor(params json.RawMessage) (server, cursor string, err error) {
	fields, err := jsonrpc.Fields(params, "cursor")
	if err != nil {
		return "", "", routing.InvalidParams(err)
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
