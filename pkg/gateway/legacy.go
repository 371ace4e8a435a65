package gateway

import (
	"context"
	"encoding/json"
	"slices"
	"sync"

	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
	"github.com/mcphub-go/mcphub/pkg/session"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

// legacyCall is a request of a session: a caller.
type legacyCall struct {
	g  *Gateway
	cs *clientSession
	x  *exchange
}

// route answers a request of a session.
func (g *Gateway) route(ctx context.Context, cs *clientSession, x *exchange, m jsonrpc.Message) (jsonrpc.Message, error) {
	c := legacyCall{g, cs, x}
	switch m.Method {
	case protocol.MethodPing:
		return jsonrpc.Message{Result: json.RawMessage(`{}`)}, nil
	case protocol.MethodLoggingSetLevel:
		return c.setLevel(ctx, m)
	}
	if isTaskMethod(m.Method) {
		return c.tasks(ctx, m)
	}
	return g.dispatch(ctx, c, m)
}

func (c legacyCall) forward(ctx context.Context, server *upstream.Server, req upstream.Request) (jsonrpc.Message, error) {
	if req.Method == protocol.MethodResourcesSubscribe || req.Method == protocol.MethodResourcesUnsubscribe {
		return c.subscribe(ctx, server, req)
	}
	return c.call(ctx, server, req)
}

// call sends a request over the session's link to server.
func (c legacyCall) call(ctx context.Context, server *upstream.Server, req upstream.Request) (jsonrpc.Message, error) {
	if server == nil {
		return jsonrpc.Message{}, errUnconfigured()
	}
	link, err := c.cs.link(server)
	if err != nil {
		return jsonrpc.Message{}, err
	}
	req.Sink = c.x
	if c.x.op != nil {
		req.Spent = &c.x.op.spent
	}
	if !server.Isolated() {
		req.Sink = shared{c.x, server.Name()}
	}
	if asksForTask(req) {
		if req.Task = keepsTasks(server); !req.Task {
			if req, err = withoutTask(req); err != nil {
				return jsonrpc.Message{}, err
			}
		}
	}
	response, err := link.Call(ctx, req)
	switch {
	case err != nil:
	case req.Task:
		c.learnTask(server, response)
	case !server.Isolated():
		c.cs.elicited.add(server.Name(), needsPages(response)...)
	}
	return response, err
}

func errUnconfigured() error {
	return jsonrpc.Errorf(jsonrpc.CodeInternal, "the server is not configured any more")
}

// subscribe forwards a request and keeps the subscription that it makes or
// ends, if the server accepts that.
func (c legacyCall) subscribe(ctx context.Context, server *upstream.Server, req upstream.Request) (jsonrpc.Message, error) {
	g, cs := c.g, c.cs
	ends := req.Method == protocol.MethodResourcesUnsubscribe
	uri, ok := jsonrpc.StringField(req.Params, "uri")
	switch {
	case !ok && server.Isolated():
		return c.call(ctx, server, req)
	case !ok:
		return jsonrpc.Message{}, jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "%s needs the uri of a resource", req.Method)
	case !server.Isolated(): // a server may read another uri in the client's params, and end what others have asked for
		req.Params = protocol.URIParams(uri)
	}
	if !ends && !cs.mayHave(uri) {
		return jsonrpc.Message{}, jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "the session has too many subscriptions: their URIs may take %d bytes together", maxSubscriptions)
	}
	response := jsonrpc.Message{Result: json.RawMessage(`{}`)}
	if !ends || server.Isolated() || !g.wantedElsewhere(cs, uri) {
		var err error
		if response, err = c.call(ctx, server, req); err != nil || response.Error != nil {
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
		g.log.DebugContext(ctx, "a subscription was not kept", "session", cs.id, "err", instrument.Redacted(err))
	}
	return response, nil
}

// setLevel keeps the client's log level and tells the servers it uses. Servers
// it comes to use later are told then.
func (c legacyCall) setLevel(ctx context.Context, m jsonrpc.Message) (jsonrpc.Message, error) {
	g, cs := c.g, c.cs
	level, ok := jsonrpc.StringField(m.Params, "level")
	if !protocol.IsLogLevel(level) {
		if g.only != nil && g.only.Isolated() {
			return c.call(ctx, g.only, upstream.Request{Method: m.Method, Params: m.Params})
		}
		if g.only != nil && ok { // a shared server may read another level in the client's params
			return c.call(ctx, g.only, upstream.Request{Method: m.Method, Params: protocol.LevelParams(level)})
		}
		return jsonrpc.Message{}, jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "unknown log level: %.32q", level)
	}
	if err := g.cfg.Sessions.Update(ctx, cs.id, func(s *session.Session) { s.LogLevel = level }); err != nil {
		return jsonrpc.Message{}, err
	}
	if g.only != nil {
		return c.tellLevel(ctx, g.only, m, level)
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
			if _, err := c.tellLevel(ctx, server, m, level); err != nil {
				g.log.DebugContext(ctx, "a server was not told the log level", "session", cs.id, "err", instrument.Redacted(err))
			}
		})
	}
	telling.Wait()
	return jsonrpc.Message{Result: json.RawMessage(`{}`)}, nil
}

// tellLevel asks a server for the log messages that the session wants.
func (c legacyCall) tellLevel(ctx context.Context, server *upstream.Server, m jsonrpc.Message, level string) (jsonrpc.Message, error) {
	params := m.Params
	if !server.Isolated() { // which may read another level in the client's params
		params = protocol.LevelParams(c.g.levelFor(server, c.cs, level))
	}
	return c.call(ctx, server, upstream.Request{Method: m.Method, Params: params})
}
