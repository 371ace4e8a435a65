package routing

import (
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

// Router finds the server for a request, or answers it from the catalog. It does not know eras: a Caller forwards the
// request. Its fields do not change. Its methods may be called concurrently.
type Router struct {
	Pool *upstream.Pool
	Only *upstream.Server // the server of a transparent hub; nil: the hub is not transparent

	catalog  *catalog.Catalog
	pageSize int       // of merged lists
	version  string    // of the hub
	patience time.Time // until when requests wait for servers that are still starting
}

// Config is the configuration of a router. All fields must be set.
type Config struct {
	Pool        *upstream.Pool
	Catalog     *catalog.Catalog
	Transparent bool   // forward everything unchanged, if there is exactly one server
	PageSize    int    // items in one page of a merged list
	Version     string // of the hub
}

// New makes a Router.
func New(cfg Config) *Router {
	x := &Router{Pool: cfg.Pool, catalog: cfg.Catalog, pageSize: cfg.PageSize, version: cfg.Version,
		patience: time.Now().Add(awaitTimeout)}
	if servers := cfg.Pool.Servers(); cfg.Transparent && len(servers) == 1 {
		x.Only = servers[0]
	}
	return x
}

// Caller forwards a request for a session of the legacy protocol, or for a modern client.
type Caller interface {
	// Forward sends req to server and returns the response. server may be nil: then it is not
	// configured any more.
	Forward(ctx context.Context, server *upstream.Server, req upstream.Request) (jsonrpc.Message, error)
}

// Route answers a request from the catalog, or has c forward it to its server. The response has no
// id yet. An error is a refusal of the hub (*jsonrpc.Error), or the reason why there is no response.
func (x *Router) Route(ctx context.Context, c Caller, m jsonrpc.Message) (jsonrpc.Message, error) {
	if x.Only != nil {
		return c.Forward(ctx, x.Only, upstream.Request{Method: m.Method, Params: m.Params, Target: x.target(m)})
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
func (x *Router) list(ctx context.Context, k catalog.Kind, m jsonrpc.Message) (jsonrpc.Message, error) {
	fields, err := jsonrpc.Fields(m.Params, "cursor")
	if err != nil {
		return jsonrpc.Message{}, InvalidParams(err)
	}
	var cursor string
	if fields[0] != nil && json.Unmarshal(fields[0], &cursor) != nil {
		return jsonrpc.Message{}, jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "invalid cursor: it is not a string")
	}
	x.AwaitServers(ctx)
	page, err := x.catalog.Snapshot().Page(k, cursor, x.pageSize)
	if err != nil {
		return jsonrpc.Message{}, jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "%v", err)
	}
	return jsonrpc.Message{Result: page}, nil
}

// named forwards a request that names a tool or a prompt.
func (x *Router) named(ctx context.Context, c Caller, m jsonrpc.Message, what string,
	find func(string) (catalog.Target, bool),
) (jsonrpc.Message, error) {
	fields, err := jsonrpc.Fields(m.Params, "name")
	if err != nil {
		return jsonrpc.Message{}, InvalidParams(err)
	}
	var name string
	if json.Unmarshal(fields[0], &name) != nil || name == "" {
		return jsonrpc.Message{}, jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "%s needs the name of a %s", m.Method, what)
	}
	target, ok := find(name)
	if !ok {
		x.AwaitServers(ctx) // it may belong to a server that is still starting
		if target, ok = x.Lookup(m.Method, name); !ok {
			// Some servers change their tools without a word.
			x.Pool.RefreshUnknown(ctx, func(server string) bool { return x.catalog.MayExpose(server, name) })
			target, ok = x.Lookup(m.Method, name)
		}
		if !ok {
			return x.unlisted(ctx, c, what, name)
		}
	}
	params := m.Params
	if target.Name != name {
		if params, err = jsonrpc.Rewrite(params, jsonrpc.Edit{Name: "name", Value: jsonrpc.String(target.Name)}); err != nil {
			return jsonrpc.Message{}, InvalidParams(err)
		}
	}
	return c.Forward(ctx, x.Pool.Server(target.Server),
		upstream.Request{Method: m.Method, Params: params, Target: target.Name})
}

// unlisted returns the error for a name that no server has listed. If the prefix of the name
// belongs to a server that is down, it is the error of that server.
func (x *Router) unlisted(ctx context.Context, c Caller, what, name string) (jsonrpc.Message, error) {
	var down []string
	for _, server := range x.Pool.Servers() {
		if server.Status().State == upstream.Up {
			continue
		}
		if strings.HasPrefix(name, server.Name()+"__") {
			if _, err := c.Forward(ctx, server, upstream.Request{Method: protocol.MethodPing}); err != nil {
				return jsonrpc.Message{}, err
			}
		}
		down = append(down, strconv.Quote(server.Name()))
	}
	if len(down) > 0 {
		return jsonrpc.Message{}, jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "unknown %s: %.128q; not up now: %s",
			what, name, strings.Join(down, ", "))
	}
	return jsonrpc.Message{}, jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "unknown %s: %.128q", what, name)
}

// Lookup finds a tool or prompt in the present catalog.
func (x *Router) Lookup(method, name string) (catalog.Target, bool) {
	if method == protocol.MethodPromptsGet {
		return x.catalog.Snapshot().Prompt(name)
	}
	return x.catalog.Snapshot().Tool(name)
}

// resource forwards a request for a resource to its server.
func (x *Router) resource(ctx context.Context, c Caller, m jsonrpc.Message) (jsonrpc.Message, error) {
	uri, ok := jsonrpc.StringField(m.Params, "uri")
	if !ok {
		return jsonrpc.Message{}, jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "%s needs the uri of a resource", m.Method)
	}
	server := x.Pool.Server(x.ServerOf(uri))
	if server == nil {
		x.AwaitServers(ctx)
		server = x.Pool.Server(x.ServerOf(uri))
	}
	if server == nil {
		x.Pool.RefreshUnknown(ctx, func(string) bool { return true })
		server = x.Pool.Server(x.ServerOf(uri))
	}
	if server == nil {
		data, _ := json.Marshal(map[string]string{"uri": uri})
		return jsonrpc.Message{}, &jsonrpc.Error{Code: protocol.CodeResourceNotFound, Message: "resource not found", Data: data}
	}
	return c.Forward(ctx, server, upstream.Request{Method: m.Method, Params: m.Params})
}

// ServerOf returns the name of the server that has the resource uri or a template for it, or an empty string. If there
// is only one server it returns that one, which may have resources that it does not list.
func (x *Router) ServerOf(uri string) string {
	if servers := x.Pool.Servers(); len(servers) == 1 {
		return servers[0].Name()
	}
	target, _ := x.catalog.Snapshot().Resource(uri)
	return target.Server
}

// completion forwards completion/complete to the server of the prompt or template.
func (x *Router) completion(ctx context.Context, c Caller, m jsonrpc.Message) (jsonrpc.Message, error) {
	fields, err := jsonrpc.Fields(m.Params, "ref")
	if err != nil {
		return jsonrpc.Message{}, InvalidParams(err)
	}
	if _, err := jsonrpc.Fields(fields[0], "type", "name", "uri"); err != nil || fields[0] == nil {
		return jsonrpc.Message{}, jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "completion/complete needs a ref")
	}
	kind, _ := jsonrpc.StringField(fields[0], "type")
	name, _ := jsonrpc.StringField(fields[0], "name")
	uri, _ := jsonrpc.StringField(fields[0], "uri")
	x.AwaitServers(ctx)
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
			return jsonrpc.Message{}, InvalidParams(err)
		}
	}
	return c.Forward(ctx, x.Pool.Server(target.Server), upstream.Request{Method: m.Method, Params: params})
}

// unknown forwards a method that the hub does not know, if there is only one server.
func (x *Router) unknown(ctx context.Context, c Caller, m jsonrpc.Message) (jsonrpc.Message, error) {
	servers := x.Pool.Servers()
	if len(servers) != 1 {
		return jsonrpc.Message{}, jsonrpc.Errorf(jsonrpc.CodeMethodNotFound,
			"the hub does not know the method %.64q and cannot tell which of its %d servers it is for", m.Method, len(servers))
	}
	return c.Forward(ctx, servers[0], upstream.Request{Method: m.Method, Params: m.Params})
}

// target returns the tool or prompt that m names, for spans and metrics: Other if it is not
// offered, and an empty string for other methods.
func (x *Router) target(m jsonrpc.Message) string {
	if m.Method != protocol.MethodToolsCall && m.Method != protocol.MethodPromptsGet {
		return ""
	}
	name, _ := jsonrpc.StringField(m.Params, "name")
	if _, ok := x.Lookup(m.Method, name); !ok {
		return instrument.Other
	}
	return name
}

// awaitTimeout is the time after the start of the hub in which requests wait for servers that are still starting. It is
// one for all requests: a server that hangs must not delay each of them.
const awaitTimeout = 5 * time.Second

// AwaitServers waits until every server has connected or failed to connect. It returns at once when the hub has run for
// awaitTimeout.
func (x *Router) AwaitServers(ctx context.Context) {
	ctx, cancel := context.WithDeadline(ctx, x.patience)
	defer cancel()
	x.Pool.WaitAttempted(ctx)
}

// InvalidParams returns the refusal of params because of err.
func InvalidParams(err error) error {
	return jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "invalid params: %v", err)
}
