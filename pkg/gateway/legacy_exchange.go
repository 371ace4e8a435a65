package gateway

import (
	"context"
	"encoding/json"
	"sync/atomic"

	"github.com/mcphub-go/mcphub/pkg/budget"
	"github.com/mcphub-go/mcphub/pkg/gateway/observe"
	"github.com/mcphub-go/mcphub/pkg/gateway/stream"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

// exchange is one request of a client and the stream of its response. It is the upstream.Sink of the call:
// notifications and requests of the server precede the response on the stream. The requests of a batch share a stream.
type exchange struct {
	cs   *clientSession
	call context.Context    //nolint:containedctx // ends with the call
	out  *stream.Stream     // of the response
	op   *observe.Operation // nil: not measured
	held budget.Hold        // the memory of the request, and of the response until it is on the stream
	cut  atomic.Bool        // a request of the server was given up because the session ended
}

func newExchange(call context.Context, cs *clientSession, out *stream.Stream) *exchange {
	x := &exchange{cs: cs, call: call, out: out}
	x.held.On(cs.memory)
	return x
}

// begin makes the request one in flight, if the session has memory for it.
func (x *exchange) begin(m jsonrpc.Message, cancel context.CancelCauseFunc) *jsonrpc.Error {
	if err := x.held.Grow(sizeOf(m)); err != nil {
		return memoryError(err)
	}
	e := x.cs.begin(m.ID, inFlight{cancel, x.out}, x.cs.cfg.maxInFlight())
	if e != nil {
		x.held.Release()
	}
	return e
}

// makeRoom gives the memory of the call back and makes room for its response on the stream. It returns err, or an error
// if there is no room.
func (x *exchange) makeRoom(response jsonrpc.Message, err error) error {
	x.held.Release()
	if err != nil {
		return err
	}
	if err := x.out.Reserve(answerSize(response)); err != nil {
		return memoryError(err)
	}
	return nil
}

// Notify sends a notification of the server on the stream of this request.
func (x *exchange) Notify(m jsonrpc.Message) {
	if protocol.IsListChanged(m.Method) { // it concerns the session, not the call
		x.cs.Notify(m)
		return
	}
	if reason := x.put(m, stream.MayWait); reason != "" {
		x.cs.tel.Dropped(reason)
	} else {
		x.op.AddNotification(m.Method)
	}
}

// Ask sends a request of the server on the stream of this request. If the client has lost that stream,
// the request is sent on a GET stream. Without one, it waits until the client resumes the stream. It ends with this
// request, unless the server has not said that it belongs to it.
func (x *exchange) Ask(ctx context.Context, m jsonrpc.Message) (json.RawMessage, error) {
	if err := checkSupported(x.cs.opened.Capabilities, m); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if !upstream.NamesNoCall(ctx) {
		defer context.AfterFunc(x.call, func() { cancel(context.Cause(x.call)) })()
	}
	result, err := x.cs.request(ctx, m, func(ctx context.Context, m jsonrpc.Message) string {
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

// put adds m to the stream, or returns the reason for the metric of dropped notifications.
func (x *exchange) put(m jsonrpc.Message, d stream.Delivery) (reason string) {
	if reason = x.out.Push(m.Encode(), d); reason == "" {
		x.cs.tel.Sent(x.call, m)
	}
	return reason
}

// finish adds the response to the stream. A message without id means that there is none.
func (x *exchange) finish(m jsonrpc.Message) {
	if m.ID == "" {
		x.out.Answer(nil)
		return
	}
	x.out.Answer(m.Encode())
}

// sharedExchange is the exchange of a call over a shared connection.
type sharedExchange struct {
	*exchange
	server string
}

// Notify is Notify of the exchange without the log messages that the client does not want.
func (s sharedExchange) Notify(m jsonrpc.Message) {
	if m.Method != protocol.MethodLogMessage || s.cs.interests.WantsLog(s.cs, m) {
		s.exchange.Notify(m)
	}
}

// Ask is Ask of the exchange. It remembers the id of an elicitation by URL.
func (s sharedExchange) Ask(ctx context.Context, m jsonrpc.Message) (json.RawMessage, error) {
	if id := requestedElicitation(m); id != "" && checkSupported(s.cs.opened.Capabilities, m) == nil {
		s.cs.elicitations.add(s.server, id)
	}
	return s.exchange.Ask(ctx, m)
}
