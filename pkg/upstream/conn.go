package upstream

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mcphub-go/mcphub/pkg/budget"
	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
	"github.com/mcphub-go/mcphub/pkg/upstream/transport"
)

// cancelTimeout is for a cancellation when the connection is being closed, which waits for it.
const cancelTimeout = 2 * time.Second

// Conn is one initialized connection to a server. Its methods may be called concurrently.
type Conn struct {
	spec       Spec
	tel        *connTelemetry
	sink       Sink // takes what belongs to no call
	shared     bool // serves several clients
	transport  transport.Transport
	background *background
	pending    pendingCalls
	requests   *serverRequests
	memory     *budget.Account // for what the server sends outside of a response; nil: no limit
	tools      *toolHeaders    // that the server lists

	lastLines transport.LastLines // of a child, besides messages

	init     Initialized  // set before the connection is used
	provedAt atomic.Int64 // when the server was last seen to know the session, in ns since 1970; for sessionChecks
	closing  sync.Once
	onLost   func() // called once, when the connection is lost or closed
	onClosed func() // called once, when nothing of the connection is left

	currentDialect atomic.Pointer[dialect]
}

// dialect returns the dialect of the server: the legacy one until the negotiation is over.
func (c *Conn) dialect() dialect { return *c.currentDialect.Load() }

func (c *Conn) setDialect(d dialect) { c.currentDialect.Store(&d) }

// newConn makes a Conn. The caller sets its transport, its dialect, onLost and onClosed.
func newConn(spec Spec, tel *connTelemetry, b *background, tools *toolHeaders) *Conn {
	c := &Conn{spec: spec, tel: tel, background: b, tools: tools, sink: noSink{}, pending: newPendingCalls(),
		requests: newServerRequests(tel, b, spec.callTimeout())}
	c.requests.send = func(ctx context.Context, message []byte) error {
		c.pending.sentOneWay()
		return c.transport.Send(ctx, message, nil)
	}
	c.requests.report = func(ctx context.Context, params json.RawMessage) error {
		return c.notify(ctx, protocol.MethodProgress, params)
	}
	c.requests.isLost = c.isLost
	return c
}

// Server returns the name of the server.
func (c *Conn) Server() string { return c.spec.Name }

// Initialized returns the server's answer when the connection was made. Of a resumed connection only the protocol
// version is known.
func (c *Conn) Initialized() Initialized { return c.init }

// serverSession returns the server's session behind the connection.
func (c *Conn) serverSession() ServerSession {
	if c.dialect().era() == protocol.Modern {
		return ServerSession{} // there is none
	}
	return ServerSession{SessionID: c.transport.SessionID(), ProtocolVersion: c.init.ProtocolVersion}
}

// done is closed when the connection is lost or closed.
func (c *Conn) done() <-chan struct{} { return c.transport.Done() }

// err returns why the connection was lost, after done is closed.
func (c *Conn) err() error { return c.transport.Err() }

// isLost reports whether the connection is lost or closed.
func (c *Conn) isLost() bool {
	select {
	case <-c.done():
		return true
	default:
		return false
	}
}

// isBound reports whether requests belong to a session that the server may forget while it runs on, whether or not the
// session has an id.
func (c *Conn) isBound() bool {
	return c.dialect().era() == protocol.Legacy && c.spec.kind().HasHeaders()
}

// hasForgotten reports whether the connection is lost because the server does not know its session any more.
func (c *Conn) hasForgotten() bool { return c.isLost() && errors.Is(c.err(), transport.ErrSessionGone) }

// loggable returns the reason of a refusal for the log.
func (c *Conn) loggable(r refusal, params json.RawMessage) string {
	return r.loggable(c.spec, c.transport.SessionID(), params)
}

// close closes the connection. With endSession it also ends the session at the server. It waits for everything that
// the connection started, a few seconds at most.
func (c *Conn) close(endSession bool) {
	c.closing.Do(func() {
		c.background.stop()
		c.transport.Close(endSession)
		c.background.wait()
		c.onClosed()
	})
}

// setVersion sets the protocol version that was negotiated.
func (c *Conn) setVersion(version string) {
	c.tel.setVersion(version)
	c.transport.SetVersion(version)
}

// withLastLines adds the last lines of a child that did not start to err, for clients, the API and the log; spans do not
// have them. It is called after close, so that they have been read.
func (c *Conn) withLastLines(err error) error {
	lines := c.lastLines.String()
	if lines == "" {
		return err
	}
	return fmt.Errorf("%w%w", err, instrument.NewPastError("; it printed: "+lines, ""))
}

// sinkOf returns the sink of cl, which may be nil.
func (c *Conn) sinkOf(cl *call) Sink {
	if cl != nil && cl.sink != nil {
		return cl.sink
	}
	return c.sink
}

// notify sends a notification. One that a modern server has no use for is not sent.
func (c *Conn) notify(ctx context.Context, method string, params json.RawMessage) error {
	return c.notifyFor(ctx, c.tel.session, method, params)
}

// notifyFor is notify for the client session with that public id, or for none.
func (c *Conn) notifyFor(ctx context.Context, session, method string, params json.RawMessage) error {
	d := c.dialect()
	header, wanted := d.notification(method)
	if !wanted {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, notifyTimeout, ErrTimeout)
	defer cancel()
	ctx, span := c.tel.startNotification(ctx, method, session, d.era() == protocol.Modern)
	m := jsonrpc.Message{Method: method, Params: c.tel.inject(ctx, params)}
	c.tel.messages.Add(instrument.Out, m)
	c.tel.messageEvent(ctx, instrument.Out, m, instrument.About{})
	start := time.Now()
	c.pending.sentOneWay()
	err := c.transport.Send(ctx, m.Encode(), header)
	if err != nil {
		err = serverError(c.spec.Name, err)
	}
	c.tel.endNotification(ctx, span, method, time.Since(start), err)
	return err
}

// Call sends a request and returns the server's response with its raw result or error. An error means that there is
// none; see package transport for those. If ctx ends first, the server is sent a cancellation.
func (c *Conn) Call(ctx context.Context, req Request) (jsonrpc.Message, error) {
	return c.dialect().call(ctx, req)
}

// roundTrip sends one request in the dialect d and returns the response to it.
func (c *Conn) roundTrip(ctx context.Context, d dialect, req Request) (jsonrpc.Message, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, c.spec.callTimeout(), ErrTimeout)
	defer cancel()
	cl := c.pending.add(&call{sink: req.Sink, Call: transport.Call{Memory: req.Memory, Tentative: req.tentative}})
	defer c.remove(cl)
	ctx, span := c.tel.startCall(ctx, cl.ID, req, d.era() == protocol.Modern)
	c.pending.setOrigin(cl, origin{ctx, cmp.Or(req.session, c.tel.session)})
	params, err := c.params(ctx, d, cl, req)
	if err == nil {
		cl.Header, err = d.requestHeader(ctx, req, params)
	}
	if err != nil {
		refusal := jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "invalid params: %v", err)
		span.end(jsonrpc.Message{}, refusal)
		return jsonrpc.Message{}, refusal
	}
	m := jsonrpc.Message{ID: cl.ID, Method: req.Method, Params: params}
	inFlight := c.tel.messages.Begin(instrument.Out, m)
	sent := time.Now()
	c.tel.messageEvent(ctx, instrument.Out, m, instrument.About{Target: req.Target})
	response, err := c.transport.Call(ctx, &cl.Call, m.Encode())
	req.addSpent(sent)
	if req.refused != nil {
		*req.refused = refusalOf(response, err, cl.Answer)
	}
	if err == nil {
		inFlight.Answer(response)
		c.tel.responseEvent(ctx, req, sent, response)
		response = c.processed(cl, req, d.adaptResponse(ctx, req, response))
	} else {
		if ctx.Err() != nil {
			err = c.cancel(ctx, d, cl, req.Method)
		}
		inFlight.Cancel(cancelReason(err))
		err = serverError(c.spec.Name, c.unknownMethod(req.Method, err))
	}
	span.end(response, err)
	return response, err
}

// remove forgets a call. A response that came too late is counted.
func (c *Conn) remove(cl *call) {
	if unread := c.pending.remove(cl); unread {
		c.tel.unmatched("response")
	}
}

// processed returns the response to cl as its caller gets it.
func (c *Conn) processed(cl *call, req Request, response jsonrpc.Message) jsonrpc.Message {
	if req.Task && protocol.Declares(response.Result, "task", "taskId") {
		c.pending.keepTaskToken(cl)
	}
	if req.Method == protocol.MethodToolsList && c.shared {
		response.Result = protocol.WithoutTaskSupport(response.Result)
	}
	return response
}

// params makes the params for the server from those of the caller. _meta gets the trace context of the call (SEP-414),
// a progress token that is unique on this connection and what the dialect demands.
func (c *Conn) params(ctx context.Context, d dialect, cl *call, req Request) (json.RawMessage, error) {
	if len(req.Params) > 0 && req.Params[0] != '{' { // an array, which methods outside of MCP may have
		return req.Params, nil
	}
	meta, err := jsonrpc.Field(req.Params, "_meta")
	if err != nil {
		return nil, err
	}
	token, err := jsonrpc.Field(meta, "progressToken")
	if err != nil {
		return nil, err
	}
	edits := make([]jsonrpc.Edit, 0, 8)
	if c.tel.propagator == nil {
		edits = instrument.ContextEdits(meta, c.tel.baggage, edits)
	} else {
		edits = instrument.TraceEdits(ctx, c.tel.propagator, &cl.trace, edits)
	}
	if token != nil {
		edits = append(edits, jsonrpc.Edit{Name: "progressToken", Value: c.pending.setToken(cl, token)})
	}
	edits = d.requestMeta(req).appendTo(edits, meta)
	if len(edits) == 0 {
		return req.Params, nil
	}
	return jsonrpc.Rewrite(req.Params, jsonrpc.Edit{Name: "_meta", Members: edits})
}

// cancel cancels cl, whose ctx has ended, at the server, and returns why it ended. The caller does not wait for the
// cancellation to be sent: the server may be hung.
func (c *Conn) cancel(ctx context.Context, d dialect, cl *call, method string) error {
	cause := transport.CauseOf(ctx)
	if d.canCancel(method) {
		c.pending.addCancelled(cl, c.spec.callTimeout())
		c.sendCancellation(ctx, cl, cause)
	}
	return cause
}

// sendCancellation sends notifications/cancelled for cl in the background.
func (c *Conn) sendCancellation(ctx context.Context, cl *call, cause error) {
	reason := "cancelled by the client"
	if transport.IsTimeout(cause) {
		reason = "timeout"
	}
	params := fmt.Appendf(nil, `{"requestId":%s,"reason":%s}`, cl.ID, jsonrpc.String(reason))
	session := c.pending.originOf(cl).session
	c.background.start(nil, func(life context.Context) {
		ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), notifyTimeout, ErrTimeout)
		defer cancel()
		defer context.AfterFunc(life, func() { time.AfterFunc(cancelTimeout, cancel) })()
		if err := c.notifyFor(ctx, session, protocol.MethodCancelled, params); err != nil {
			c.tel.log.DebugContext(ctx, "a cancellation could not be sent to the server", "err", instrument.Redacted(err))
		}
	})
}

// unknownMethod recognizes how some servers refuse a method that they do not know: by an HTTP status alone.
func (c *Conn) unknownMethod(method string, err error) error {
	refused, ok := errors.AsType[transport.StatusError](err)
	if !ok || !c.spec.kind().HasStreams() || instrument.MethodLabel(method) != instrument.Other || refused.Code/100 != 4 ||
		refused.RefusesCredentials() || errors.Is(err, transport.ErrSessionGone) {
		return err
	}
	return jsonrpc.Errorf(jsonrpc.CodeMethodNotFound, "does not know the method %.64q: it answered with HTTP status %s",
		method, refused.Status())
}
