package gateway

import (
	"context"
	"encoding/json"
	"slices"
	"sync"

	"github.com/mcphub-go/mcphub/pkg/gateway/routing"
	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
	"github.com/mcphub-go/mcphub/pkg/session"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

// legacyCall is the routing.Caller of one request of a session.
type legacyCall struct {
	cs *clientSession
	x  *exchange // the request and the stream of its response
}

// Forward implements routing.Caller.
func (c legacyCall) Forward(ctx context.Context, server *upstream.Server, req upstream.Request) (jsonrpc.Message, error) {
	if req.Method == protocol.MethodResourcesSubscribe || req.Method == protocol.MethodResourcesUnsubscribe {
		return c.subscribe(ctx, server, req)
	}
	return c.call(ctx, server, req)
}

// call sends a request over the session's link to a server.
func (c legacyCall) call(ctx context.Context, server *upstream.Server, req upstream.Request) (jsonrpc.Message, error) {
	if server == nil {
		return jsonrpc.Message{}, errUnconfigured()
	}
	link, err := c.cs.link(server)
	if err != nil {
		return jsonrpc.Message{}, err
	}
	req.Sink, req.Memory = c.x, &c.x.held
	if c.x.op != nil {
		req.Spent = &c.x.op.Spent
	}
	if !server.Isolated() {
		req.Sink = sharedExchange{c.x, server.Name()}
	}
	if asksForTask(req) {
		if req.Task = routing.KeepsTasks(server); !req.Task {
			if req, err = withoutTask(req); err != nil {
				return jsonrpc.Message{}, err
			}
		}
	}
	response, err := link.Call(ctx, req)
	switch {
	case err != nil:
	case req.Task:
		c.rememberTask(server, response)
	case !server.Isolated():
		c.cs.elicitations.add(server.Name(), requiredElicitations(response)...)
	}
	return response, err
}

// rememberTask remembers the server of the task that a call has created.
func (c legacyCall) rememberTask(server *upstream.Server, response jsonrpc.Message) {
	fields, err := jsonrpc.Fields(response.Result, "task")
	if err != nil || fields[0] == nil {
		return
	}
	if id, ok := jsonrpc.StringField(fields[0], "taskId"); ok {
		c.cs.taskOwners.add(id, server)
	}
}

// subscribe forwards resources/subscribe or resources/unsubscribe. If the server accepts it, the
// subscription is added to the record of the session, or removed.
func (c legacyCall) subscribe(ctx context.Context, server *upstream.Server, req upstream.Request) (jsonrpc.Message, error) {
	cs := c.cs
	ends := req.Method == protocol.MethodResourcesUnsubscribe
	uri, ok := jsonrpc.StringField(req.Params, "uri")
	switch {
	case !ok && server.Isolated():
		return c.call(ctx, server, req)
	case !ok:
		return jsonrpc.Message{}, jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "%s needs the uri of a resource", req.Method)
	case !server.Isolated(): // a server may read another uri in these params, and end the subscription of another client
		req.Params = protocol.URIParams(uri)
	}
	if !ends && !cs.hasRoomFor(uri) {
		return jsonrpc.Message{}, jsonrpc.Errorf(jsonrpc.CodeInvalidParams,
			"the session has too many subscriptions: their URIs may take %d bytes together", maxSubscriptions)
	}
	if !ends && !cs.cfg.Sessions.HasRoom(len(uri)) {
		return jsonrpc.Message{}, jsonrpc.Errorf(jsonrpc.CodeInternal, "the hub has no memory left for subscriptions (limits.memory)")
	}
	response := jsonrpc.Message{Result: json.RawMessage(`{}`)}
	if !ends || server.Isolated() || !cs.interests.WantedBesides(cs, uri) {
		var err error
		if response, err = c.call(ctx, server, req); err != nil || response.Error != nil {
			return response, err
		}
	}
	err := cs.cfg.Sessions.Update(ctx, cs.id, func(s *session.Session) { // sets both at once, so that they agree
		s.Subscriptions = slices.DeleteFunc(s.Subscriptions, func(have string) bool { return have == uri })
		if ends {
			cs.interests.Unsubscribe(cs, uri)
			return
		}
		s.Subscriptions = append(s.Subscriptions, uri)
		cs.interests.Subscribe(cs, uri)
	})
	if err != nil {
		cs.log.DebugContext(ctx, "a subscription was not stored", "session", cs.id, "err", instrument.Redacted(err))
	}
	return response, nil
}

// setLevel stores the log level of the session and sets it at the servers that the session uses. Other servers get the
// level when the session connects to them.
func (c legacyCall) setLevel(ctx context.Context, m jsonrpc.Message) (jsonrpc.Message, error) {
	cs := c.cs
	only := cs.router.Only
	level, ok := jsonrpc.StringField(m.Params, "level")
	if !protocol.IsLogLevel(level) {
		if only != nil && only.Isolated() {
			return c.call(ctx, only, upstream.Request{Method: m.Method, Params: m.Params})
		}
		if only != nil && ok { // a shared server may read another level in the params of the client
			return c.call(ctx, only, upstream.Request{Method: m.Method, Params: protocol.LevelParams(level)})
		}
		return jsonrpc.Message{}, jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "unknown log level: %.32q", level)
	}
	err := cs.cfg.Sessions.Update(ctx, cs.id, func(s *session.Session) { // sets both at once, so that they agree
		s.LogLevel = level
		cs.interests.SetLevel(cs, level)
	})
	if err != nil {
		return jsonrpc.Message{}, err
	}
	if only != nil {
		return c.sendLevel(ctx, only, m)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, routing.ResumeTimeout, upstream.ErrTimeout)
	defer cancel()
	var calls sync.WaitGroup // a slow server does not delay the others
	for _, server := range cs.router.Pool.Servers() {
		init, _ := server.Initialized()
		has, err := jsonrpc.Fields(init.Capabilities, "logging")
		if err != nil || has[0] == nil || (server.Isolated() && !cs.uses(server.Name())) {
			continue
		}
		calls.Go(func() {
			if _, err := c.sendLevel(ctx, server, m); err != nil {
				cs.log.DebugContext(ctx, "a server was not told the log level", "session", cs.id, "err", instrument.Redacted(err))
			}
		})
	}
	calls.Wait()
	return jsonrpc.Message{Result: json.RawMessage(`{}`)}, nil
}

// sendLevel sends logging/setLevel to a server: with the level of the session, or to a shared server with the most
// verbose level that any client wants.
func (c legacyCall) sendLevel(ctx context.Context, server *upstream.Server, m jsonrpc.Message) (jsonrpc.Message, error) {
	params := m.Params
	if !server.Isolated() {
		params = protocol.LevelParams(c.cs.interests.Level(server.Name()))
	}
	return c.call(ctx, server, upstream.Request{Method: m.Method, Params: params})
}

// maxSubscriptions is the limit, in bytes, of all subscribed URIs of a session together. Stores limit the record.
const maxSubscriptions = 64 << 10

// hasRoomFor reports whether the record of the session has room for a subscription to uri.
func (cs *clientSession) hasRoomFor(uri string) bool {
	size := len(uri)
	for _, have := range cs.interests.Subscriptions(cs) {
		if have != uri {
			size += len(have)
		}
	}
	return size <= maxSubscriptions
}
