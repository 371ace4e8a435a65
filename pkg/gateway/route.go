package gateway

import (
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/mcphub-go/mcphub/pkg/catalog"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/session"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

// codeResourceNotFound is the legacy protocol's code, specification 2025-11-25,
// server/resources, error handling.
const codeResourceNotFound = -32002

// route answers a request or forwards it to the server it concerns. The
// response's id is still to be set. An error is a refusal of the hub, or says
// why there is no answer.
func (g *Gateway) route(ctx context.Context, cs *clientSession, x *exchange, m jsonrpc.Message) (jsonrpc.Message, error) {
	switch m.Method {
	case "ping":
		return jsonrpc.Message{Result: json.RawMessage(`{}`)}, nil
	case "logging/setLevel":
		return g.setLevel(ctx, cs, x, m)
	}
	if g.only != nil {
		return g.subscribing(ctx, cs, x, g.only, upstream.Request{Method: m.Method, Params: m.Params, Target: g.target(m)})
	}
	switch m.Method {
	case "tools/list":
		return g.list(ctx, catalog.Tools, m)
	case "prompts/list":
		return g.list(ctx, catalog.Prompts, m)
	case "resources/list":
		return g.list(ctx, catalog.Resources, m)
	case "resources/templates/list":
		return g.list(ctx, catalog.Templates, m)
	case "tools/call":
		return g.named(ctx, cs, x, m, "tool", g.cfg.Catalog.Snapshot().Tool)
	case "prompts/get":
		return g.named(ctx, cs, x, m, "prompt", g.cfg.Catalog.Snapshot().Prompt)
	case "resources/read", "resources/subscribe", "resources/unsubscribe":
		return g.resource(ctx, cs, x, m)
	case "completion/complete":
		return g.completion(ctx, cs, x, m)
	}
	return g.unknown(ctx, cs, x, m)
}

// list answers with the merged list, which is one page.
func (g *Gateway) list(ctx context.Context, k catalog.Kind, m jsonrpc.Message) (jsonrpc.Message, error) {
	fields, err := jsonrpc.Fields(m.Params, "cursor")
	if err != nil {
		return jsonrpc.Message{}, invalidParams(err)
	}
	if fields[0] != nil && string(fields[0]) != "null" {
		return jsonrpc.Message{}, jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "invalid cursor: the hub's lists have one page")
	}
	g.settled(ctx)
	return jsonrpc.Message{Result: g.cfg.Catalog.Snapshot().List(k)}, nil
}

// named forwards a request that names a tool or a prompt.
func (g *Gateway) named(ctx context.Context, cs *clientSession, x *exchange, m jsonrpc.Message, what string,
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
			return g.unlisted(ctx, cs, x, what, name)
		}
	}
	params := m.Params
	if target.Name != name {
		if params, err = jsonrpc.Rewrite(params, jsonrpc.Edit{Name: "name", Value: jsonrpc.String(target.Name)}); err != nil {
			return jsonrpc.Message{}, invalidParams(err)
		}
	}
	return g.forward(ctx, cs, x, g.cfg.Pool.Server(target.Server),
		upstream.Request{Method: m.Method, Params: params, Target: target.Name})
}

// unlisted answers for a name that no server has listed. If it can be told whose
// it is, that server may be down, and says so.
func (g *Gateway) unlisted(ctx context.Context, cs *clientSession, x *exchange, what, name string) (jsonrpc.Message, error) {
	var down []string
	for _, server := range g.cfg.Pool.Servers() {
		if server.Status().State == upstream.Up {
			continue
		}
		if strings.HasPrefix(name, server.Name()+"__") {
			if _, err := g.forward(ctx, cs, x, server, upstream.Request{Method: "ping"}); err != nil {
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
	if method == "prompts/get" {
		return g.cfg.Catalog.Snapshot().Prompt(name)
	}
	return g.cfg.Catalog.Snapshot().Tool(name)
}

// resource forwards a request about a resource to the server that has it.
func (g *Gateway) resource(ctx context.Context, cs *clientSession, x *exchange, m jsonrpc.Message) (jsonrpc.Message, error) {
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
		return jsonrpc.Message{}, &jsonrpc.Error{Code: codeResourceNotFound, Message: "resource not found", Data: data}
	}
	return g.subscribing(ctx, cs, x, server, upstream.Request{Method: m.Method, Params: m.Params})
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

// subscribing forwards a request and keeps the subscription that it makes or
// ends, if the server accepts that.
func (g *Gateway) subscribing(ctx context.Context, cs *clientSession, x *exchange, server *upstream.Server, req upstream.Request) (jsonrpc.Message, error) {
	uri, ok := jsonrpc.StringField(req.Params, "uri")
	ends := req.Method == "resources/unsubscribe"
	if !ok || (req.Method != "resources/subscribe" && !ends) {
		return g.forward(ctx, cs, x, server, req)
	}
	if !ends && !cs.mayHave(uri) {
		return jsonrpc.Message{}, jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "the session has too many subscriptions: their URIs may take %d bytes together", maxSubscriptions)
	}
	response := jsonrpc.Message{Result: json.RawMessage(`{}`)}
	if !ends || server.Isolated() || !g.wantedElsewhere(cs, uri) {
		var err error
		if response, err = g.forward(ctx, cs, x, server, req); err != nil || response.Error != nil {
			return response, err
		}
	}
	cs.mu.Lock()
	if ends {
		delete(cs.subs, uri)
	} else if !cs.ended {
		put(&cs.subs, uri, true)
	}
	cs.mu.Unlock()
	err := g.cfg.Sessions.Update(ctx, cs.id, func(s *session.Session) {
		s.Subscriptions = slices.DeleteFunc(s.Subscriptions, func(have string) bool { return have == uri })
		if !ends {
			s.Subscriptions = append(s.Subscriptions, uri)
		}
	})
	if err != nil {
		g.log.DebugContext(ctx, "a subscription was not kept", "session", cs.id, "err", err)
	}
	return response, nil
}

// completion forwards completion/complete to the server whose prompt or
// template is to be completed.
func (g *Gateway) completion(ctx context.Context, cs *clientSession, x *exchange, m jsonrpc.Message) (jsonrpc.Message, error) {
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
	return g.forward(ctx, cs, x, g.cfg.Pool.Server(target.Server), upstream.Request{Method: m.Method, Params: params})
}

// unknown forwards a method that the hub does not know, if it is clear to whom.
func (g *Gateway) unknown(ctx context.Context, cs *clientSession, x *exchange, m jsonrpc.Message) (jsonrpc.Message, error) {
	servers := g.cfg.Pool.Servers()
	if len(servers) != 1 {
		return jsonrpc.Message{}, jsonrpc.Errorf(jsonrpc.CodeMethodNotFound,
			"the hub does not know the method %.64q and cannot tell which of its %d servers it is for", m.Method, len(servers))
	}
	return g.forward(ctx, cs, x, servers[0], upstream.Request{Method: m.Method, Params: m.Params})
}

// setLevel keeps the client's log level and tells the servers it uses. Servers
// it comes to use later are told then.
func (g *Gateway) setLevel(ctx context.Context, cs *clientSession, x *exchange, m jsonrpc.Message) (jsonrpc.Message, error) {
	level, _ := jsonrpc.StringField(m.Params, "level")
	if !slices.Contains(logLevels, level) {
		if g.only != nil {
			return g.forward(ctx, cs, x, g.only, upstream.Request{Method: m.Method, Params: m.Params})
		}
		return jsonrpc.Message{}, jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "unknown log level: %.32q", level)
	}
	if err := g.cfg.Sessions.Update(ctx, cs.id, func(s *session.Session) { s.LogLevel = level }); err != nil {
		return jsonrpc.Message{}, err
	}
	if g.only != nil {
		return g.tellLevel(ctx, cs, x, g.only, m, level)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, resumeTimeout, upstream.ErrTimeout)
	defer cancel()
	var telling sync.WaitGroup // one server that is slow does not keep the others waiting
	for _, server := range g.cfg.Pool.Servers() {
		init, _ := server.Initialized()
		has, err := jsonrpc.Fields(init.Capabilities, "logging")
		if err != nil || has[0] == nil || (server.Isolated() && !cs.uses(server.Name())) {
			continue
		}
		telling.Go(func() {
			if _, err := g.tellLevel(ctx, cs, x, server, m, level); err != nil {
				g.log.DebugContext(ctx, "a server was not told the log level", "session", cs.id, "err", err)
			}
		})
	}
	telling.Wait()
	return jsonrpc.Message{Result: json.RawMessage(`{}`)}, nil
}

// tellLevel asks a server for the log messages that the session wants.
func (g *Gateway) tellLevel(ctx context.Context, cs *clientSession, x *exchange, server *upstream.Server, m jsonrpc.Message, level string) (jsonrpc.Message, error) {
	params := m.Params
	if common := g.levelFor(server, cs, level); common != level {
		params = levelParams(common)
	}
	return g.forward(ctx, cs, x, server, upstream.Request{Method: m.Method, Params: params})
}

// forward sends a request over the session's link to server.
func (g *Gateway) forward(ctx context.Context, cs *clientSession, x *exchange, server *upstream.Server, req upstream.Request) (jsonrpc.Message, error) {
	if server == nil {
		return jsonrpc.Message{}, jsonrpc.Errorf(jsonrpc.CodeInternal, "the server is not configured any more")
	}
	link, err := cs.link(server)
	if err != nil {
		return jsonrpc.Message{}, err
	}
	req.Sink = x
	if !server.Isolated() {
		req.Sink = shared{x}
	}
	return link.Call(ctx, req)
}

// target is the tool or prompt that m names, for spans and metrics.
func (g *Gateway) target(m jsonrpc.Message) string {
	if m.Method != "tools/call" && m.Method != "prompts/get" {
		return ""
	}
	name, _ := jsonrpc.StringField(m.Params, "name")
	if _, ok := g.lookup(m.Method, name); !ok {
		return upstream.Other
	}
	return name
}

func invalidParams(err error) error {
	return jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "invalid params: %v", err)
}
