package gateway

import (
	"net/http"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
)

// batch handles several messages in one POST, specification 2025-03-26, basic, batching.
func (d *door) batch(w http.ResponseWriter, r *http.Request, v *visitor, body []byte) {
	if r.Header.Get(protocol.HeaderProtocolVersion) >= protocol.ModernVersion {
		refuse(w, http.StatusBadRequest, "", jsonrpc.ErrBatch)
		return
	}
	if !d.checkHeaders(w, r, jsonrpc.Message{}) {
		return
	}
	if !d.admit(w, r, jsonrpc.Message{}, v) {
		return
	}
	cs := v.cs
	all, err := d.parseBatch(body)
	if cs.opened.ProtocolVersion != protocol.BatchVersion {
		_, err = jsonrpc.Parse(body)
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, "", jsonrpc.AsError(err))
		return
	}
	elements := d.parseElements(all)
	requests, answers := expected(elements)
	out := cs.streamLog().NewPost(answers, requests...)
	cs.startBatch(r, v.keep(), elements, out)
	if answers == 0 {
		w.WriteHeader(http.StatusAccepted)
		return
	}
	d.sender.Respond(w, r, out, true)
}
