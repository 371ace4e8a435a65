package gateway

import (
	"context"
	"encoding/json"

	"github.com/mcphub-go/mcphub/pkg/gateway/routing"
	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
	"github.com/mcphub-go/mcphub/pkg/session"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

// link returns the session's link to a server.
func (cs *clientSession) link(server *upstream.Server) (*upstream.Link, error) {
	name := server.Name()
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.ended {
		return nil, context.Cause(cs.ctx)
	}
	l := cs.links[name]
	if l == nil {
		s := cs.opened
		info, _ := json.Marshal(map[string]string{"name": s.ClientName, "version": s.ClientVersion})
		capabilities := s.Capabilities
		if len(capabilities) == 0 || capabilities[0] != '{' { // a session of mcp-hub-lite may have none
			capabilities = json.RawMessage(`{}`)
		}
		l = server.Link(upstream.LinkConfig{
			Sink:            cs,
			Owner:           cs.ctx,
			Identity:        upstream.Identity{ClientInfo: info, Capabilities: capabilities},
			Resume:          upstream.ServerSession(s.Upstreams[name]),
			Session:         cs.id,
			Memory:          cs.memory,
			OnServerSession: cs.keepServerSession,
			OnReady:         cs.ready,
		})
		put(&cs.links, name, l)
	}
	return l, nil
}

// eachLink calls fn for every link of the session.
func (cs *clientSession) eachLink(fn func(*upstream.Link)) {
	cs.mu.Lock()
	links := make([]*upstream.Link, 0, len(cs.links))
	for _, l := range cs.links {
		links = append(links, l)
	}
	cs.mu.Unlock()
	for _, l := range links {
		fn(l)
	}
}

// uses reports whether the session has, or had before a restart, a connection of its own to the server.
func (cs *clientSession) uses(server string) bool {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	_, had := cs.opened.Upstreams[server]
	return had || cs.links[server] != nil
}

// reconnect connects, once and in the background, to the servers that the session used before a restart. So a client
// that sends no request, but reads a GET stream, gets the updates that it has subscribed to.
func (cs *clientSession) reconnect() {
	cs.mu.Lock()
	done := cs.reconnected
	cs.reconnected = true
	cs.mu.Unlock()
	if done {
		return
	}
	for name := range cs.opened.Upstreams {
		server := cs.router.Pool.Server(name)
		if server == nil || !server.Isolated() {
			continue
		}
		link, err := cs.link(server)
		if err != nil {
			return
		}
		cs.background.Go(func() {
			ctx, cancel := context.WithTimeout(cs.ctx, routing.ResumeTimeout)
			defer cancel()
			if err := link.Connect(ctx); err != nil {
				cs.log.DebugContext(ctx, "the session's connection to a server is not back yet", "session", cs.id,
					"err", instrument.Redacted(err))
			}
		})
	}
}

// keepServerSession stores the session that a server has created, so that a restarted hub can resume it.
func (cs *clientSession) keepServerSession(ctx context.Context, server string, b upstream.ServerSession) error {
	event := session.EventUpstreamInitialised
	err := cs.cfg.Sessions.UpdateDurably(ctx, cs.id, func(s *session.Session) {
		if s.Upstreams[server].SessionID != "" {
			event = session.EventUpstreamReinitialised
		}
		if b.SessionID == "" {
			delete(s.Upstreams, server)
			return
		}
		put(&s.Upstreams, server, session.Upstream(b))
	})
	if err == nil {
		cs.cfg.Sessions.AddEvent(cs.id, event, server)
	}
	return err
}

// ready sends the log level and the subscriptions of the session to a server that was just initialized for this
// client.
func (cs *clientSession) ready(ctx context.Context, c *upstream.Conn) error {
	s, err := cs.cfg.Sessions.Get(ctx, cs.id)
	if err != nil {
		return err
	}
	has, err := jsonrpc.Fields(c.Initialized().Capabilities, "logging", "resources")
	if err != nil {
		return nil //nolint:nilerr // a server with unreadable capabilities gets neither
	}
	if s.LogLevel != "" && has[0] != nil {
		_, err = c.Call(ctx, upstream.Request{Method: protocol.MethodLoggingSetLevel, Params: protocol.LevelParams(s.LogLevel)})
	}
	for _, uri := range s.Subscriptions {
		if err == nil && has[1] != nil && cs.router.ServerOf(uri) == c.Server() {
			_, err = c.Call(ctx, upstream.Request{Method: protocol.MethodResourcesSubscribe, Params: protocol.URIParams(uri)})
		}
	}
	return err
}
