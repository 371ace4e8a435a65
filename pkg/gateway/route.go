package gateway

import (
	"context"
	"encoding/json"
	"strconv"
	"strings"

	"github.com/mcphub-go/mcphub/pkg/catalog"
	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

// caller is who a request is forwarded for: a session of the legacy protocol, or
// a modern request, which stands alone.
type caller interface {
	// forward sends req to server and returns its response.
	forward(ctx context.Context, server *upstream.Server, req upstream.Request) (jsonrpc.Message, error)
}

// dispatch answers a request from the catalog or has c forward it to the server
// it concerns. The response's id is still to be set. An error is a refusal of
// the hub, or says why there is no answer.
func (g *Gateway) dispatch(ctx context.Context, c caller, m jsonrpc.Message) (jsonrpc.Message, error) {
	if g.only != nil {
		return c.forward(ctx, g.only, upstream.Request{Method: m.Method, Params: m.Params, Target: g.target(m)})
	}
	switch m.Method {
	case protocol.MethodToolsList:
		return g.list(ctx, catalog.Tools, m)
	case protocol.MethodPromptsList:
		return g.list(ctx, catalog.Prompts, m)
	case protocol.MethodResourcesList:
		return g.list(ctx, catalog.Resources, m)
	case protocol.MethodResourcesTemplatesList:
		return g.list(ctx, catalog.Templates, m)
	case protocol.MethodToolsCall:
		return g.named(ctx, c, m, "tool", g.cfg.Catalog.Snapshot().Tool)
	case protocol.MethodPromptsGet:
		return g.named(ctx, c, m, "prompt", g.cfg.Catalog.Snapshot().Prompt)
	case protocol.MethodResourcesRead, protocol.MethodResourcesSubscribe, protocol.MethodResourcesUnsubscribe:
		return g.resource(ctx, c, m)
	case protocol.MethodCompletionComplete:
		return g.completion(ctx, c, m)
	}
	return g.unknown(ctx, c, m)
}

// list answers with a page of the merged list.
func (g *Gateway) list(ctx context.Context, k catalog.Kind, m jsonrpc.Message) (jsonrpc.Message, error) {
	fields, err := jsonrpc.Fields(m.Params, "cursor")
	if err != nil {
		return jsonrpc.Message{}, invalidParams(err)
	}
	var cursor string
	if fields[0] != nil && json.Unmarshal(fields[0], &cursor) != nil {
		return jsonrpc.Message{}, jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "invalid cursor: it is no text")
	}
	g.settled(ctx)
	page, err := g.cfg.Catalog.Snapshot().Page(k, cursor, g.cfg.pageSize())
	if err != nil {
		return jsonrpc.Message{}, jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "%v", err)
	}
	return jsonrpc.Message{Result: page}, nil
}

// named forwards a request that names a tool or a prompt.
func (g *Gateway) named(ctx context.Context, c caller, m jsonrpc.Message, what string,
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
		g.settled(ctx) // it may be a tool of a server that is still being started
		if target, ok = g.lookup(m.Method, name); !ok {
			return g.unlisted(ctx, c, what, name)
		}
	}
	params := m.Params
	if target.Name != name {
		if params, err = jsonrpc.Rewrite(params, jsonrpc.Edit{Name: "name", Value: jsonrpc.String(target.Name)}); err != nil {
			return jsonrpc.Message{}, invalidParams(err)
		}
	}
	return c.forward(ctx, g.cfg.Pool.Server(target.Server),
		upstream.Request{Method: m.Method, Params: params, Target: target.Name})
}

// unlisted answers for a name that no server has listed. If it can be told whose
// it is, that server may be down, and says so.
func (g *Gateway) unlisted(ctx context.Context, c caller, what, name string) (jsonrpc.Message, error) {
	var down []string
	for _, server := range g.cfg.Pool.Servers() {
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

// lookup finds a tool or prompt in the catalog as it is now.
func (g *Gateway) lookup(method, name string) (catalog.Target, bool) {
	if method == protocol.MethodPromptsGet {
		return g.cfg.Catalog.Snapshot().Prompt(name)
	}
	return g.cfg.Catalog.Snapshot().Tool(name)
}

// resource forwards a request about a resource to the server that has it.
func (g *Gateway) resource(ctx context.Context, c caller, m jsonrpc.Message) (jsonrpc.Message, error) {
	uri, ok := jsonrpc.StringField(m.Params, "uri")
	if !ok {
		return jsonrpc.Message{}, jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "%s needs the uri of a resource", m.Method)
	}
	server := g.cfg.Pool.Server(g.serverOf(uri))
	if server == nil {
		g.settled(ctx)
		server = g.cfg.Pool.Server(g.serverOf(uri))
	}
	if server == nil {
		data, _ := json.Marshal(map[string]string{"uri": uri})
		return jsonrpc.Message{}, &jsonrpc.Error{Code: protocol.CodeResourceNotFound, Message: "resource not found", Data: data}
	}
	return c.forward(ctx, server, upstream.Request{Method: m.Method, Params: m.Params})
}

// serverOf names the server that has the resource uri, or a template for it. A
// hub with one server leaves the decision to that server.
func (g *Gateway) serverOf(uri string) string {
	if servers := g.cfg.Pool.Servers(); len(servers) == 1 {
		return servers[0].Name()
	}
	target, _ := g.cfg.Catalog.Snapshot().Resource(uri)
	return target.Server
}

// completion forwards completion/complete to the server whose prompt or
// template is to be completed.
func (g *Gateway) completion(ctx context.Context, c caller, m jsonrpc.Message) (jsonrpc.Message, error) {
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
	g.settled(ctx)
	snapshot := g.cfg.Catalog.Snapshot()
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
	return c.forward(ctx, g.cfg.Pool.Server(target.Server), upstream.Request{Method: m.Method, Params: params})
}

// unknown forwards a method that the hub does not know, if it is clear to whom.
func (g *Gateway) unknown(ctx context.Context, c caller, m jsonrpc.Message) (jsonrpc.Message, error) {
	servers := g.cfg.Pool.Servers()
	if len(servers) != 1 {
		return jsonrpc.Message{}, jsonrpc.Errorf(jsonrpc.CodeMethodNotFound,
			"the hub does not know the method %.64q and cannot tell which of its %d servers it is for", m.Method, len(servers))
	}
	return c.forward(ctx, servers[0], upstream.Request{Method: m.Method, Params: m.Params})
}

// target is the tool or prompt that m names, for spans and metrics.
func (g *Gateway) target(m jsonrpc.Message) string {
	if m.Method != protocol.MethodToolsCall && m.Method != protocol.MethodPromptsGet {
		return ""
	}
	name, _ := jsonrpc.StringField(m.Params, "name")
	if _, ok := g.lookup(m.Method, name); !ok {
		return instrument.Other
	}
	return name
}

func invalidParams(err error) error {
	return jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "invalid params: %v", err)
}
