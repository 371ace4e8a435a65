package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/mcphub-go/mcphub/pkg/gateway/observe"
	"github.com/mcphub-go/mcphub/pkg/gateway/stream"
	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
)

// serve answers a request of the session. The call does not depend on the HTTP request: a client that
// loses its connection has not cancelled, specification 2025-11-25, basic/transports.
func (cs *clientSession) serve(w http.ResponseWriter, r *http.Request, v *visitor, m jsonrpc.Message) {
	out := cs.streamLog().NewPost(1, m.ID)
	lease := v.keep()
	if e := cs.startCall(r, m, out, lease.Release); e != nil {
		lease.Release()
		refuse(w, callStatus(w.Header(), e), m.ID, e)
		return
	}
	v.body.Release() // the call has it
	cs.sender.Respond(w, r, out, false)
}

// callStatus returns the HTTP status for a request whose call was refused.
func callStatus(h http.Header, e *jsonrpc.Error) int {
	switch {
	case e == errOverShare || e == errMemoryFull:
		return memoryStatus(h, e)
	case e.Code == jsonrpc.CodeInternal:
		h.Set("Retry-After", "1")
		return http.StatusServiceUnavailable
	}
	return http.StatusBadRequest
}

// startCall starts the call of a request, whose response goes to out. release is called when the call
// has ended, unless startCall refuses it. The refusal is counted.
func (cs *clientSession) startCall(r *http.Request, m jsonrpc.Message, out *stream.Stream, release func()) *jsonrpc.Error {
	ctx, op := cs.tel.StartOperation(r, cs.id, cs.opened.ProtocolVersion, m)
	cs.cfg.Sessions.LogUse(ctx, cs.id)
	cs.tel.Tap.Message(ctx, instrument.In, m, op.AboutRequest())
	ctx, cancel := cs.callContext(ctx)
	x := newExchange(ctx, cs, out)
	if e := x.begin(m, cancel); e != nil {
		cancel(nil)
		refusal := jsonrpc.NewError(m.ID, e)
		op.End(ctx, refusal, nil)
		op.Respond(ctx, refusal)
		return e
	}
	out.SetSpan(op.Span)
	x.op = op
	cs.background.Go(func() {
		defer release()
		response, err := cs.route(ctx, x, m)
		err = x.makeRoom(response, err)
		cs.end(m.ID)
		if x.cut.Load() { // the server answered because its own request was given up; the client gets the end of the session
			response, err = jsonrpc.Message{}, context.Cause(cs.ctx)
		}
		cause := context.Cause(ctx)
		if cs.ctx.Err() != nil && !errors.Is(cause, observe.ErrClientCancelled) {
			cause = context.Cause(cs.ctx) // the connections end shortly before ctx does
		}
		cause = cs.endCause(err, cause)
		cancel(nil)
		op.EndFor(ctx, cause, response, err)
		switch {
		case errors.Is(cause, observe.ErrClientCancelled):
			op.InFlight.Cancel(instrument.Withdrawn)
			x.finish(jsonrpc.Message{}) // a cancelled request gets no response
			return
		case err != nil:
			response = jsonrpc.NewError(m.ID, cs.callError(err, cause))
		default:
			response.ID = m.ID
		}
		// The response is counted here, also if the client does not read it any more, so that every request that
		// was not cancelled has one response in the counters.
		op.Respond(ctx, response)
		x.finish(response)
	})
	return nil
}

// route answers a request, or has the router forward it.
func (cs *clientSession) route(ctx context.Context, x *exchange, m jsonrpc.Message) (response jsonrpc.Message, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = cs.panicked(ctx, p, m.Method)
		}
	}()
	c := legacyCall{cs, x}
	switch {
	case m.Method == protocol.MethodPing:
		return jsonrpc.Message{Result: json.RawMessage(`{}`)}, nil
	case m.Method == protocol.MethodLoggingSetLevel:
		return c.setLevel(ctx, m)
	case isTaskMethod(m.Method):
		return c.tasks(ctx, m)
	}
	return cs.router.Route(ctx, c, m)
}
