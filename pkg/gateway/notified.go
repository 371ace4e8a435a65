package gateway

import (
	"context"

	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
	"github.com/mcphub-go/mcphub/pkg/session"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

// notified takes a notification of the client.
func (cs *clientSession) notified(ctx context.Context, m jsonrpc.Message) {
	switch m.Method {
	case protocol.MethodInitialized:
		if err := cs.g.cfg.Sessions.Update(ctx, cs.id, func(s *session.Session) { s.State = session.Ready }); err != nil {
			cs.g.log.DebugContext(ctx, "session is gone", "session", cs.id, "err", instrument.Redacted(err))
		}
	case protocol.MethodCancelled:
		cs.cancelled(m)
	case protocol.MethodProgress:
		cs.progressed(ctx, m)
	default: // roots/list_changed and what the hub does not know
		if m.Method == protocol.MethodRootsListChanged {
			cs.learnRoots(true)
		}
		if cs.g.only != nil && instrument.MethodLabel(m.Method) == instrument.Other {
			cs.connect(ctx, cs.g.only)
		}
		cs.eachLink(func(l *upstream.Link) {
			if cs.g.only == nil && !l.Isolated() {
				return // it cannot be told for which of the servers it is
			}
			if err := l.Notify(ctx, m.Method, m.Params); err != nil {
				cs.g.log.DebugContext(ctx, "a notification of the client was not forwarded", "session", cs.id, "err", instrument.Redacted(err))
			}
		})
	}
}

// connect makes the session's connection to a server, so that there is something
// to send a notification over.
func (cs *clientSession) connect(ctx context.Context, server *upstream.Server) {
	link, err := cs.link(server)
	if err == nil {
		err = link.Connect(ctx)
	}
	if err != nil {
		cs.g.log.DebugContext(ctx, "a notification has nowhere to go", "session", cs.id, "upstream", server.Name(), "err", instrument.Redacted(err))
	}
}

// cancelled cancels a request of this session, and of no other.
func (cs *clientSession) cancelled(m jsonrpc.Message) {
	fields, err := jsonrpc.Fields(m.Params, "requestId")
	if err != nil || fields[0] == nil {
		return
	}
	cs.mu.Lock()
	cancel := cs.calls[jsonrpc.ID(fields[0])]
	cs.mu.Unlock()
	if cancel != nil {
		cancel(errClientCancelled)
	}
}
