package gateway

import (
	"context"
	"encoding/json"
	"sync/atomic"

	"github.com/mcphub-go/mcphub/pkg/gateway/stream"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
)

// exchange is one request of a client and the way back to it: the stream that
// its answer, and what is said before, go out on. It is the upstream.Sink of
// the call. The requests of a batch share a stream.
type exchange struct {
	g    *Gateway
	cs   *clientSession
	call context.Context //nolint:containedctx // ends with the call
	out  *stream.Stream
	op   *operation  // nil: not measured
	cut  atomic.Bool // a question was given up because the session ended
}

func newExchange(call context.Context, g *Gateway, cs *clientSession, out *stream.Stream) *exchange {
	return &exchange{g: g, cs: cs, call: call, out: out}
}

// Notify puts a notification of the server on the stream of this request.
func (x *exchange) Notify(m jsonrpc.Message) {
	if protocol.IsListChanged(m.Method) { // the session's affair, whichever stream it came on
		x.cs.Notify(m)
		return
	}
	if reason := x.put(m, stream.MayWait); reason != "" {
		x.g.tel.dropped(reason)
	} else {
		x.op.said(m.Method)
	}
}

// Ask puts a question of the server on the stream of this request. If the
// client has lost that one it is asked on another, and if it has no other the
// question waits for it to come back.
func (x *exchange) Ask(ctx context.Context, m jsonrpc.Message) (json.RawMessage, error) {
	if err := answerable(x.cs.opened.Capabilities, m); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(x.call, func() { cancel(context.Cause(x.call)) })
	defer stop()
	result, err := x.cs.ask(ctx, m, func(ctx context.Context, m jsonrpc.Message) string {
		reason := x.put(m, stream.ReadNow)
		if reason == "" || x.cs.send(ctx, m, stream.ReadNow) == "" {
			return ""
		}
		return x.put(m, stream.MayWait)
	})
	if err != nil && x.cs.ctx.Err() != nil {
		x.cut.Store(true)
	}
	return result, err
}

// put puts m on the stream and says why if it cannot.
func (x *exchange) put(m jsonrpc.Message, until stream.Delivery) (reason string) {
	if reason = x.out.Push(m.Encode(), until); reason == "" {
		x.g.said(x.call, m)
	}
	return reason
}

// finish hands over the answer; one without id: there is none.
func (x *exchange) finish(m jsonrpc.Message) {
	if m.ID == "" {
		x.out.Answer(nil)
		return
	}
	x.out.Answer(m.Encode())
}
