package gateway

import (
	"sync"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
	"github.com/mcphub-go/mcphub/pkg/session"
)

// legacySessions owns the live halves of the sessions of the legacy protocol. Its methods may be
// called concurrently.
type legacySessions struct {
	*core

	mu   sync.Mutex
	open map[*clientSession]bool // the live halves
}

func newLegacySessions(c *core) *legacySessions {
	return &legacySessions{core: c, open: map[*clientSession]bool{}}
}

// start makes the live half of a session, and renews its subscriptions and log level at the shared servers.
func (l *legacySessions) start(s session.Session) *clientSession {
	cs := newClientSession(l.core, s, l.forget)
	l.mu.Lock()
	l.open[cs] = true
	l.mu.Unlock()
	l.interests.Join(cs, s.LogLevel, s.Subscriptions)
	l.interests.Opened(s.LogLevel, s.Subscriptions)
	return cs
}

// forget removes a live half that is closed.
func (l *legacySessions) forget(cs *clientSession) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.open, cs)
}

// all returns the present live halves.
func (l *legacySessions) all() []*clientSession {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := make([]*clientSession, 0, len(l.open))
	for cs := range l.open {
		all = append(all, cs)
	}
	return all
}

// listChanged sends each client notifications of these methods.
func (l *legacySessions) listChanged(methods map[string]bool) {
	for _, cs := range l.all() {
		for method := range methods {
			cs.push(jsonrpc.Message{Method: method})
		}
	}
}

// elicitationCompleted sends notifications/elicitation/complete to the sessions that got the id of the
// elicitation from server. It reports whether there were any.
func (l *legacySessions) elicitationCompleted(server string, m jsonrpc.Message) bool {
	id, ok := jsonrpc.StringField(m.Params, "elicitationId")
	if m.Method != protocol.MethodElicitationComplete || !ok {
		return false
	}
	found := false
	for _, cs := range l.all() {
		if cs.elicitations.take(server, id) {
			l.tel.Tap.FromServer(cs.ctx, server, m)
			cs.push(m)
			found = true
		}
	}
	return found
}
