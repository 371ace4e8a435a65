package gateway

import (
	"context"
	"net/http"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/session"
)

// delete handles a DELETE: it ends the session of the client.
func (g *Gateway) delete(w http.ResponseWriter, r *http.Request) {
	if refuseModern(w, r) {
		return
	}
	if !g.checkHeaders(w, r, jsonrpc.Message{}) {
		return
	}
	lease, ok := g.acquire(w, r, jsonrpc.Message{})
	if !ok {
		return
	}
	id := lease.Session().ID
	lease.Release()
	ctx := g.tel.withRemoteParent(context.WithoutCancel(r.Context()), r)
	if _, err := g.cfg.Sessions.End(ctx, id, session.ClientDelete); err != nil {
		g.refuseSession(w, jsonrpc.Message{}, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
