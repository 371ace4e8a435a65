package gateway

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
	"github.com/mcphub-go/mcphub/pkg/session"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

// A server whose connection all clients share knows one client, the hub. What
// it keeps per client, subscriptions and the log level, the hub has to keep
// apart: the server is told what any client wants, and each client hears what
// it asked for itself.

// resumeTimeout bounds how long a server is told again what it knew.
const resumeTimeout = 30 * time.Second

// shared is the Sink of a call over a shared connection.
type shared struct {
	*exchange
	server string
}

// Notify takes a notification of the server.
func (s shared) Notify(m jsonrpc.Message) {
	if m.Method != protocol.MethodLogMessage || s.cs.wantsLog(m) {
		s.exchange.Notify(m)
	}
}

// Ask takes a question of the server.
func (s shared) Ask(ctx context.Context, m jsonrpc.Message) (json.RawMessage, error) {
	if id := asksForPage(m); id != "" && answerable(s.cs.opened.Capabilities, m) == nil {
		s.cs.elicited.add(s.server, id)
	}
	return s.exchange.Ask(ctx, m)
}

// wantsLog reports whether the client asked for log messages like m. One that
// never said anything takes what comes.
func (cs *clientSession) wantsLog(m jsonrpc.Message) bool {
	s, err := cs.g.cfg.Sessions.Get(cs.ctx, cs.id)
	level, ok := jsonrpc.StringField(m.Params, "level")
	return err != nil || !ok || protocol.LogSeverity(level) >= protocol.LogSeverity(s.LogLevel)
}

// levelFor returns the level to ask of a server when cs wants level: over a
// shared connection, the most talkative that anybody wants.
func (g *Gateway) levelFor(server *upstream.Server, cs *clientSession, level string) string {
	if server.Isolated() {
		return level
	}
	own := ""
	if cs != nil {
		own = cs.id
	}
	for _, s := range g.openStored(server.Name()) {
		if own == "" || s.ID != own {
			level = protocol.MoreVerbose(level, s.LogLevel)
		}
	}
	return level
}

// wantedElsewhere reports whether another client shares the subscription of cs
// to uri. A session that is not open yet subscribes again when it opens.
func (g *Gateway) wantedElsewhere(cs *clientSession, uri string) bool {
	return g.wantedBesides(cs.id, uri)
}

// wantedBesides is wantedElsewhere for the session with that id, or for none.
func (g *Gateway) wantedBesides(id, uri string) bool {
	return slices.ContainsFunc(g.openStored(""), func(s session.Session) bool {
		return (id == "" || s.ID != id) && slices.Contains(s.Subscriptions, uri)
	})
}

// wantLevel notes a log level that a modern client asks of a shared server, and
// reports whether it is more talkative than what was asked before.
func (g *Gateway) wantLevel(server, level string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if have := g.levels[server]; have != "" && protocol.LogSeverity(have) <= protocol.LogSeverity(level) {
		return false
	}
	g.levels[server] = level
	return true
}

// forgetLevel has the next request tell a server its level that could not be told.
func (g *Gateway) forgetLevel(server string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.levels, server)
}

// openStored returns the records of the sessions that are open, and what modern
// clients want of a shared server in the same form.
func (g *Gateway) openStored(server string) []session.Session {
	g.mu.Lock()
	all := []session.Session{{LogLevel: g.levels[server]}}
	for s := range g.subs {
		all = append(all, session.Session{Subscriptions: s.uris})
	}
	g.mu.Unlock()
	for _, cs := range g.openSessions() {
		if s, err := g.cfg.Sessions.Get(cs.ctx, cs.id); err == nil {
			all = append(all, s)
		}
	}
	return all
}

// reconnected returns the shared servers that have a new connection since it
// was last called.
func (g *Gateway) reconnected() []*upstream.Server {
	g.mu.Lock()
	defer g.mu.Unlock()
	var again []*upstream.Server
	for _, server := range g.cfg.Pool.Servers() {
		st := server.Status()
		if !server.Isolated() && st.State == upstream.Up && !st.Since.Equal(g.upSince[st.Name]) {
			g.upSince[st.Name] = st.Since
			again = append(again, server)
		}
	}
	return again
}

// resume tells shared servers what the sessions had told an earlier connection
// to them, in the background. Gateway.Wait waits for it.
func (g *Gateway) resume(servers []*upstream.Server, sessions []session.Session) {
	sessions = slices.DeleteFunc(sessions, func(s session.Session) bool { return s.LogLevel == "" && len(s.Subscriptions) == 0 })
	if len(sessions) == 0 {
		return
	}
	for _, server := range servers {
		if !server.Isolated() {
			g.running.Go(func() { g.tell(server, sessions) })
		}
	}
}

func (g *Gateway) tell(server *upstream.Server, sessions []session.Session) {
	ctx, cancel := context.WithTimeout(context.Background(), resumeTimeout)
	defer cancel()
	link := server.Link(upstream.LinkConfig{})
	say := func(req upstream.Request) {
		if _, err := link.Call(ctx, req); err != nil {
			g.log.DebugContext(ctx, "a server was not told again what clients asked of it", "upstream", server.Name(), "err", instrument.Redacted(err))
		}
	}
	if !g.cfg.Pool.Settled(ctx) {
		return
	}
	init, _ := server.Initialized()
	has, err := jsonrpc.Fields(init.Capabilities, "logging", "resources")
	if err != nil {
		return
	}
	lowest, told := "", map[string]bool{}
	for _, s := range append(g.openStored(server.Name()), sessions...) { // the most talkative of all, not of these
		lowest = protocol.MoreVerbose(lowest, s.LogLevel)
	}
	for _, s := range sessions {
		for _, uri := range s.Subscriptions {
			if has[1] != nil && !told[uri] && g.serverOf(uri) == server.Name() {
				told[uri] = true
				say(upstream.Request{Method: protocol.MethodResourcesSubscribe, Params: protocol.URIParams(uri)})
			}
		}
	}
	if has[0] != nil && protocol.IsLogLevel(lowest) {
		say(upstream.Request{Method: protocol.MethodLoggingSetLevel, Params: protocol.LevelParams(lowest)})
	}
}

// unsubscribe gives up, in the background, what an ended session was the last to
// want of shared servers. At isolated ones its whole connection ends.
func (g *Gateway) unsubscribe(cs *clientSession, uris map[string]bool) {
	wanted := map[string]*upstream.Server{}
	for uri := range uris {
		server := g.cfg.Pool.Server(g.serverOf(uri))
		if server != nil && !server.Isolated() && server.Status().State == upstream.Up && !g.wantedElsewhere(cs, uri) {
			wanted[uri] = server
		}
	}
	if len(wanted) == 0 {
		return
	}
	g.running.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), unsubscribeTimeout)
		defer cancel()
		for uri, server := range wanted {
			_, err := server.Link(upstream.LinkConfig{}).Call(ctx, upstream.Request{Method: protocol.MethodResourcesUnsubscribe, Params: protocol.URIParams(uri)})
			if err != nil {
				g.log.DebugContext(ctx, "a server was not told that nobody is subscribed any more", "upstream", server.Name(), "err", instrument.Redacted(err))
			}
		}
	})
}

// unsubscribeTimeout bounds what only tidies up.
const unsubscribeTimeout = 5 * time.Second
