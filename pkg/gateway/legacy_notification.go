package gateway

import (
	"context"
	"net/http"

	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
	"github.com/mcphub-go/mcphub/pkg/session"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

// notified handles a notification of the client.
func (cs *clientSession) notified(ctx context.Context, m jsonrpc.Message) {
	switch m.Method {
	case protocol.MethodInitialized:
		if err := cs.cfg.Sessions.Update(ctx, cs.id, func(s *session.Session) { s.State = session.Ready }); err != nil {
			cs.log.DebugContext(ctx, "session is gone", "session", cs.id, "err", instrument.Redacted(err))
		}
	case protocol.MethodCancelled:
		cs.cancelCall(m)
	case protocol.MethodProgress:
		cs.progressed(ctx, m)
	default: // roots/list_changed and methods that the hub does not know
		if m.Method == protocol.MethodRootsListChanged {
			cs.learnRoots(true)
		}
		if cs.router.Only != nil && instrument.MethodLabel(m.Method) == instrument.Other {
			cs.connect(ctx, cs.router.Only)
		}
		cs.eachLink(func(l *upstream.Link) {
			if cs.router.Only == nil && !l.Isolated() {
				return // it is not known for which of the servers it is
			}
			if err := l.Notify(ctx, m.Method, m.Params); err != nil {
				cs.log.DebugContext(ctx, "a notification of the client was not forwarded", "session", cs.id,
					"err", instrument.Redacted(err))
			}
		})
	}
}

// connect makes the session's connection to a server, to send a notification over it.
func (cs *clientSession) connect(ctx context.Context, server *upstream.Server) {
	link, err := cs.link(server)
	if err == nil {
		err = link.Connect(ctx)
	}
	if err != nil {
		cs.log.DebugContext(ctx, "a notification was not forwarded: there is no connection", "session", cs.id,
			"upstream", server.Name(), "err", instrument.Redacted(err))
	}
}

// accept handles a response or notification of the client. It reports false for a response to a request
// that the client never got.
func (cs *clientSession) accept(r *http.Request, m jsonrpc.Message) bool {
	if m.Kind() == jsonrpc.Response {
		cs.cfg.Sessions.LogUse(cs.tel.WithRemoteParent(r.Context(), r), cs.id)
		if cs.requests.deliver(m) { // the sender of the request counts it
			return true
		}
		cs.tel.CountUnmatched()
		cs.tel.Tap.Message(cs.ctx, instrument.In, m, instrument.About{Outcome: "unmatched"})
		return cs.requests.issued(m.ID) // a late response is no error, specification 2025-11-25, basic/utilities/cancellation
	}
	ctx, op := cs.tel.StartOperation(r, cs.id, cs.opened.ProtocolVersion, m)
	cs.cfg.Sessions.LogUse(ctx, cs.id)
	cs.tel.Tap.Message(ctx, instrument.In, m, op.AboutRequest())
	cs.notified(ctx, m)
	op.End(ctx, jsonrpc.Message{}, nil)
	return true
}
