package gateway

import (
	"context"
	"net/http"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/session"
)

// delete handles a DELETE: it ends the session of the client.
func (d *door) delete(w http.ResponseWriter, r *http.Request) {
	if refuseModern(w, r) {
		return
	}
	if !d.checkHeaders(w, r, jsonrpc.Message{}) {
		return
	}
	lease, ok := d.acquire(w, r, jsonrpc.Message{})
	if !ok {
		return
	}
	id := lease.Session().ID
	ctx := d.tel.WithRemoteParent(context.WithoutCancel(r.Context()), r)
	d.cfg.Sessions.LogUse(ctx, id)
	lease.Release()
	if _, err := d.cfg.Sessions.End(ctx, id, session.ClientDelete); err != nil {
		d.refuseSession(w, jsonrpc.Message{}, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
