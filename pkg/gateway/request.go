package gateway

import (
	"context"
	"errors"
	"net/http"
	"runtime/debug"

	"github.com/mcphub-go/mcphub/pkg/gateway/stream"
	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/session"
)

const endedByClient = session.ClientDelete

// errClientCancelled is the cause of a call that the client took back.
var errClientCancelled = errors.New("cancelled by the client")

// request answers a request of a session. The call itself does not depend on
// the HTTP request: a client that loses its connection has not cancelled,
// specification 2025-11-25, basic/transports.
func (g *Gateway) request(w http.ResponseWriter, r *http.Request, cs *clientSession, lease *session.Lease, m jsonrpc.Message) {
	out := cs.log().NewPost(1, m.ID)
	if e := g.start(r, cs, m, out, lease.Release); e != nil {
		lease.Release()
		status := http.StatusBadRequest
		if e.Code == jsonrpc.CodeInternal {
			status = http.StatusServiceUnavailable
			w.Header().Set("Retry-After", "1")
		}
		refuse(w, status, m.ID, e)
		return
	}
	g.sender.Respond(w, r, out, false)
}

// start starts the call of a request, whose answer goes to out. release is
// called when it has ended, unless start refuses it; the refusal is counted.
func (g *Gateway) start(r *http.Request, cs *clientSession, m jsonrpc.Message, out *stream.Stream, release func()) *jsonrpc.Error {
	ctx, op := g.tel.startServe(r, cs.id, cs.opened.ProtocolVersion, m)
	g.show(ctx, instrument.In, m, op.toAsk())
	ctx, cancel := cs.callContext(ctx)
	if e := cs.begin(m.ID, cancel, g.cfg.maxInFlight()); e != nil {
		cancel(nil)
		refusal := jsonrpc.NewError(m.ID, e)
		op.end(ctx, refusal, nil)
		g.responded(ctx, op, refusal)
		return e
	}
	out.SetSpan(op.span)
	x := newExchange(ctx, g, cs, out)
	x.op = op
	g.running.Go(func() {
		defer release()
		response, err := g.routeOrRecover(ctx, cs, x, m)
		cs.end(m.ID)
		if x.cut.Load() { // what the server makes of that is no answer to the request
			response, err = jsonrpc.Message{}, context.Cause(cs.ctx)
		}
		cause := context.Cause(ctx)
		if cs.ctx.Err() != nil && !errors.Is(cause, errClientCancelled) {
			cause = context.Cause(cs.ctx) // ctx hears of it a moment later than the connections do
		}
		cause = g.whyEnded(err, cause)
		cancel(nil)
		op.endFor(ctx, cause, response, err)
		switch {
		case errors.Is(cause, errClientCancelled):
			op.flight.Cancel(instrument.Withdrawn)
			x.finish(jsonrpc.Message{}) // a cancelled request gets no response
			return
		case err != nil:
			response = jsonrpc.NewError(m.ID, g.callError(err, cause))
		default:
			response.ID = m.ID
		}
		// Counted here, whether anybody still reads it or not, so that every
		// request that was not cancelled has its response in the counters.
		g.responded(ctx, op, response)
		x.finish(response)
	})
	return nil
}

// routeOrRecover is route, but a panic costs its own request only, as net/http
// has it for handlers: the other sessions are worth more than a clean crash.
func (g *Gateway) routeOrRecover(ctx context.Context, cs *clientSession, x *exchange, m jsonrpc.Message) (response jsonrpc.Message, err error) {
	defer func() {
		if p := recover(); p != nil {
			g.log.ErrorContext(ctx, "panic while answering a request", "session", cs.id, "method", instrument.MethodLabel(m.Method),
				"panic", p, "stack", string(debug.Stack()))
			err = jsonrpc.Errorf(jsonrpc.CodeInternal, "internal error of the hub")
		}
	}()
	return g.route(ctx, cs, x, m)
}
