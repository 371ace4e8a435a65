package gateway

import (
	"net/http"
	"sync/atomic"

	"github.com/mcphub-go/mcphub/pkg/gateway/stream"
	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/session"
)

// startBatch handles the messages of a batch in their order. It releases the lease when the last call
// has ended.
func (cs *clientSession) startBatch(r *http.Request, lease *session.Lease, elements []element, out *stream.Stream) {
	var running atomic.Int64 // calls, and this function
	release := func() {
		if running.Add(-1) == 0 {
			lease.Release()
		}
	}
	running.Add(1)
	defer release()
	for _, e := range elements {
		request := e.Kind() == jsonrpc.Request
		switch {
		case e.refusal != nil && request:
			m := jsonrpc.NewError(e.ID, e.refusal)
			cs.tel.countRefused(e.Message, m)
			cs.tel.tap.message(cs.ctx, instrument.In, e.Message, instrument.About{})
			cs.tel.tap.message(cs.ctx, instrument.Out, m, instrument.About{Method: e.Method})
			out.Answer(m.Encode())
		case e.refusal != nil:
			out.Answer(jsonrpc.NewError("", e.refusal).Encode())
		case !request:
			cs.accept(r, e.Message)
		default:
			running.Add(1)
			if refusal := cs.startCall(r, e.Message, out, release); refusal != nil {
				release()
				out.Answer(jsonrpc.NewError(e.ID, refusal).Encode())
			}
		}
	}
}
