package gateway

import (
	"cmp"
	"context"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/mcphub-go/mcphub/pkg/catalog"
	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

// router finds the server for a request, or answers it from the catalog. It does not know eras: a
// caller forwards the request. Its fields do not change. Its methods may be called concurrently.
type router struct {
	pool     *upstream.Pool
	catalog  *catalog.Catalog
	only     *upstream.Server // the server of a transparent hub; nil: the hub is not transparent
	pageSize int              // of merged lists
	version  string           // of the hub
}

func newRouter(cfg Config) *router {
	x := &router{pool: cfg.Pool, catalog: cfg.Catalog, pageSize: cfg.pageSize(), version: cmp.Or(cfg.Version, "dev")}
	if servers := cfg.Pool.Servers(); cfg.Transparent && len(servers) == 1 {
		x.only = servers[0]
	}
	return x
}

// caller forwards a request for a session of the legacy protocol, or for a modern client.
type caller interface {
	// forward sends req to server and returns the response. server may be nil: then it is not
	// configured any more.
	forward(ctx context.Context, server *upstream.Server, req upstream.Request) (jsonrpc.Message, error)
}

// route answers a request from the catalog, or has c forward it to its server. The response has no
// id yet. An error is a refusal of the hub (*jsonrpc.Error), or the reason why there is no response.
func (x *router) route(ctx context.Context, c caller, m jsonrpc.Message) (jsonrpc.Message, error) {
	if x.only != nil {
		return c.forward(ctx, x.only, upstream.Request{Method: m.Method, Params: m.Params, Target: x.target(m)})
	}
	switch m.Method {
	case protocol.MethodToolsList:
		return x.list(ctx, catalog.Tools, m)
	case protocol.MethodPromptsList:
		return x.list(ctx, catalog.Prompts, m)
	case protocol.MethodResourcesList:
		return x.list(ctx, catalog.Resources, m)
	case protocol.MethodResourcesTemplatesList:
		return x.list(ctx, catalog.Templates, m)
	case protocol.MethodToolsCall:
		return x.named(ctx, c, m, "tool", x.catalog.Snapshot().Tool)
	case protocol.MethodPromptsGet:
		return x.named(ctx, c, m, "prompt", x.catalog.Snapshot().Prompt)
	case protocol.MethodResourcesRead, protocol.MethodResourcesSubscribe, protocol.MethodResourcesUnsubscribe:
		return x.resource(ctx, c, m)
	case protocol.MethodCompletionComplete:
		return x.completion(ctx, c, m)
	}
	return x.unknown(ctx, c, m)
}

// list returns a page of the merged list.
func (x *router) list(ctx context.Context, k catalog.Kind, m jsonrpc.Message) (jsonrpc.Message, error) {
	fields, err := jsonrpc.Fields(m.Params, "cursor")
	if err != nil {
		return jsonrpc.Message{}, invalidParams(err)
	}
	var cursor string
	if fields[0] != nil && json.Unmarshal(fields[0], &cursor) != nil {
		return jsonrpc.Message{}, jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "invalid cursor: it is not a string")
	}
	x.awaitServers(ctx)
	page, err := x.catalog.Snapshot().Page(k, cursor, x.pageSize)
	if err != nil {
		return jsonrpc.Message{}, jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "%v", err)
	}
	return jsonrpc.Message{Result: page}, nil
}

// named forwards a request that names a tool or a prompt.
func (x *router) named(ctx context.Context, c caller, m jsonrpc.Message, what string,
	find func(string) (catalog.Target, bool),
) (jsonrpc.Message, error) {
	fields, err := jsonrpc.Fields(m.Params, "name")
	if err != nil {
		return jsonrpc.Message{}, invalidParams(err)
	}
	var name string
	if json.Unmarshal(fields[0], &name) != nil || name == "" {
		return jsonrpc.Message{}, jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "%s needs the name of a %s", m.Method, what)
	}
	target, ok := find(name)
	if !ok {
		x.awaitServers(ctx) // it may belong to a server that is still starting
		if target, ok = x.lookup(m.Method, name); !ok {
			return x.unlisted(ctx, c, what, name)
		}
	}
	params := m.Params
	if target.Name != name {
		if params, err = jsonrpc.Rewrite(params, jsonrpc.Edit{Name: "name", Value: jsonrpc.String(target.Name)}); err != nil {
			return jsonrpc.Message{}, invalidParams(err)
		}
	}
	return c.forward(ctx, x.pool.Server(target.Server),
		upstream.Request{Method: m.Method, Params: params, Target: target.Name})
}

// unlisted returns the error for a name that no server has listed. If the prefix of the name
// belongs to a server that is down, it is the error of that server.
func (x *router) unlisted(ctx context.Context, c caller, what, name string) (jsonrpc.Message, error) {
	var down []string
	for _, server := range x.pool.Servers() {
		if server.Status().State == upstream.Up {
			continue
		}
		if strings.HasPrefix(name, server.Name()+"__") {
			if _, err := c.forward(ctx, server, upstream.Request{Method: protocol.MethodPing}); err != nil {
				return jsonrpc.Message{}, err
			}
		}
		down = append(down, strconv.Quote(server.Name()))
	}
	if len(down) > 0 {
		return jsonrpc.Message{}, jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "unknown %s: %.128q; not up now: %s", what, name, strings.Join(down, ", "))
	}
	return jsonrpc.Message{}, jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "unknown %s: %.128q", what, name)
}

// lookup finds a tool or prompt in the present catalog.
func (x *router) lookup(method, name string) (catalog.Target, bool) {
	if method == protocol.MethodPromptsGet {
		return x.catalog.Snapshot().Prompt(name)
	}
	return x.catalog.Snapshot().Tool(name)
}

// resource forwards a request for a resource to its server.
func (x *router) resource(ctx context.Context, c caller, m jsonrpc.Message) (jsonrpc.Message, error) {
	uri, ok := jsonrpc.StringField(m.Params, "uri")
	if !ok {
		return jsonrpc.Message{}, jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "%s needs the uri of a resource", m.Method)
	}
	server := x.pool.Server(x.serverOf(uri))
	if server == nil {
		x.awaitServers(ctx)
		server = x.pool.Server(x.serverOf(uri))
	}
	if server == nil {
		data, _ := json.Marshal(map[string]string{"uri": uri})
		return jsonrpc.Message{}, &jsonrpc.Error{Code: protocol.CodeResourceNotFound, Message: "resource not found", Data: data}
	}
	return c.forward(ctx, server, upstream.Request{Method: m.Method, Params: m.Params})
}

// serverOf returns the name of the server that has the resource uri or a template for it, or an
// empty string. If there is only one server it is that one, which decides itself.
func (x *router) serverOf(uri string) string {
	if servers := x.pool.Servers(); len(servers) == 1 {
		return servers[0].Name()
	}
	target, _ := x.catalog.Snapshot().Resource(uri)
	return target.Server
}

// completion forwards completion/complete to the server of the prompt or template.
func (x *router) completion(ctx context.Context, c caller, m jsonrpc.Message) (jsonrpc.Message, error) {
	fields, err := jsonrpc.Fields(m.Params, "ref")
	if err != nil {
		return jsonrpc.Message{}, invalidParams(err)
	}
	if _, err := jsonrpc.Fields(fields[0], "type", "name", "uri"); err != nil || fields[0] == nil {
		return jsonrpc.Message{}, jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "completion/complete needs a ref")
	}
	kind, _ := jsonrpc.StringField(fields[0], "type")
	name, _ := jsonrpc.StringField(fields[0], "name")
	uri, _ := jsonrpc.StringField(fields[0], "uri")
	x.awaitServers(ctx)
	snapshot := x.catalog.Snapshot()
	var target catalog.Target
	var ok bool
	switch kind {
	case "ref/prompt":
		target, ok = snapshot.Prompt(name)
	case "ref/resource":
		if target, ok = snapshot.Template(uri); !ok {
			target, ok = snapshot.Resource(uri)
		}
	default:
		return jsonrpc.Message{}, jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "unknown type of ref: %.64q", kind)
	}
	if !ok {
		return jsonrpc.Message{}, jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "unknown %s: %.128q", kind, name+uri)
	}
	params := m.Params
	if kind == "ref/prompt" && target.Name != name {
		inner, err := jsonrpc.Rewrite(fields[0], jsonrpc.Edit{Name: "name", Value: jsonrpc.String(target.Name)})
		if err == nil {
			params, err = jsonrpc.Rewrite(params, jsonrpc.Edit{Name: "ref", Value: inner})
		}
		if err != nil {
			return jsonrpc.Message{}, invalidParams(err)
		}
	}
	return c.forward(ctx, x.pool.Server(target.Server), upstream.Request{Method: m.Method, Params: params})
}

// unknown forwards a method that the hub does not know, if there is only one server.
func (x *router) unknown(ctx context.Context, c caller, m jsonrpc.Message) (jsonrpc.Message, error) {
	servers := x.pool.Servers()
	if len(servers) != 1 {
		return jsonrpc.Message{}, jsonrpc.Errorf(jsonrpc.CodeMethodNotFound,
			"the hub does not know the method %.64q and cannot tell which of its %d servers it is for", m.Method, len(servers))
	}
	return c.forward(ctx, servers[0], upstream.Request{Method: m.Method, Params: m.Params})
}

// target returns the tool or prompt that m names, for spans and metrics: Other if it is not
// offered, and an empty string for other methods.
func (x *router) target(m jsonrpc.Message) string {
	if m.Method != protocol.MethodToolsCall && m.Method != protocol.MethodPromptsGet {
		return ""
	}
	name, _ := jsonrpc.StringField(m.Params, "name")
	if _, ok := x.lookup(m.Method, name); !ok {
		return instrument.Other
	}
	return name
}

func invalidParams(err error) error {
	return jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "invalid params: %v", err)
}

// awaitTimeout is the time for which a request waits for servers that are still starting.
const awaitTimeout = 5 * time.Second

// awaitServers waits until every server has connected or failed to, at most awaitTimeout.
func (x *router) awaitServers(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, awaitTimeout)
	defer cancel()
	x.pool.Settled(ctx)
}
