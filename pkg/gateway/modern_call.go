package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mcphub-go/mcphub/pkg/budget"
	"github.com/mcphub-go/mcphub/pkg/gateway/observe"
	"github.com/mcphub-go/mcphub/pkg/gateway/stream"
	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
)

// multiRoundCall is one call for a modern client. It has several rounds if a legacy server sends requests during the
// call, specification 2026-07-28, basic/utilities/mrtr: the hub answers the client's request with the requests of the
// server (input_required), and the client sends its request again with the answers. In between the call is suspended.
//
//	run ──Ask──▶ waiting ──collectTimer──▶ suspend ──resume──▶ next round ... finish ──▶ complete
//
// It is the routing.Caller and the upstream.Sink of the call. Its methods may be called concurrently.
type multiRoundCall struct {
	*core
	bridges   *bridges
	suspended *suspendedCalls[*multiRoundCall]
	message   jsonrpc.Message // of the first round
	client    modernClient
	digest    []byte          // of what the requests of all rounds have in common
	ctx       context.Context //nolint:containedctx // ends with the call
	cancel    context.CancelCauseFunc
	memory    budget.Account
	held      budget.Hold   // on memory: the request, and the response until the client gets it
	over      chan struct{} // closed when the call has its outcome; the client may not have got it yet

	mu           sync.Mutex
	current      *modernRequest           // that waits for a response; nil: the call is suspended
	id           string                   // of the suspended call; empty: it was never suspended
	round        int                      // number of times that the call was suspended
	lastInput    int                      // number of the newest input request
	waiting      map[string]*inputRequest // by key in inputRequests
	collectTimer *time.Timer              // ends the collection of input requests; nil: there were none
	expiryTimer  *time.Timer              // ends the suspended call; nil: it was never suspended
	outcome      *outcome                 // set when the call has ended

	bridge atomic.Pointer[bridge] // that the call uses; nil before it is forwarded

	spent atomic.Int64 // ns for which the call waited for others than the hub
}

// inputRequest is a request of a server that waits for the client.
type inputRequest struct {
	message  jsonrpc.Message
	response chan json.RawMessage
	sent     bool // to the client
}

// outcome is the response to a call, or the reason why there is none.
type outcome struct {
	response jsonrpc.Message
	err      error
}

// collectTime is the time for which a call waits for more requests of its server after one.
const collectTime = 50 * time.Millisecond

// errSuspensionExpired is the cause of the end of a suspended call without a retry.
var errSuspensionExpired = errors.New("the client did not come back with the answers in time")

// newMultiRoundCall makes the call of req. The caller runs it.
func newMultiRoundCall(parts *core, b *bridges, suspended *suspendedCalls[*multiRoundCall], req *modernRequest) *multiRoundCall {
	c := &multiRoundCall{core: parts, bridges: b, suspended: suspended, message: req.message, client: req.client,
		digest: digestOf(req.message), current: req, waiting: map[string]*inputRequest{}, over: make(chan struct{})}
	c.ctx, c.cancel = context.WithCancelCause(context.WithoutCancel(req.ctx))
	c.memory.Open(parts.cfg.Memory, req.group)
	c.held.On(&c.memory)
	return c
}

// run makes the call and delivers its outcome.
func (c *multiRoundCall) run() {
	response, err := c.route()
	c.finish(response, err)
}

// route has the router answer or forward the request.
func (c *multiRoundCall) route() (response jsonrpc.Message, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = c.panicked(c.ctx, p, c.message.Method)
		}
	}()
	return c.router.Route(c.ctx, c, c.message)
}

// finish is called with the outcome of the call.
func (c *multiRoundCall) finish(response jsonrpc.Message, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.outcome = &outcome{response, err}
	close(c.over) // the server may have ended without cancelling its requests
	if c.collectTimer != nil {
		c.collectTimer.Stop()
	}
	switch {
	case c.current != nil:
		c.complete()
	case c.ctx.Err() != nil: // it was cancelled while suspended, so it cannot be resumed
		c.suspended.remove(c.id)
		c.held.Release()
	}
}

// complete answers the current request with the outcome. The caller holds mu.
func (c *multiRoundCall) complete() {
	req, out := c.current, c.outcome
	c.current = nil
	c.suspended.remove(c.id)
	cause := c.endCause(out.err, context.Cause(c.ctx))
	c.cancel(nil)
	c.held.Release()
	response := out.response
	if out.err == nil {
		if err := req.out.Reserve(answerSize(response)); err != nil {
			out.err = memoryError(err)
		}
	}
	if out.err != nil {
		response = jsonrpc.NewError(req.message.ID, c.callError(out.err, cause))
	}
	response = c.router.ToModern(c.message.Method, response)
	response.ID = req.message.ID
	if c.round == 0 { // otherwise the call waited for the client, too
		req.op.Spent.Store(c.spent.Load())
	}
	req.op.EndFor(req.ctx, cause, response, out.err)
	if errors.Is(cause, observe.ErrClientCancelled) {
		req.op.InFlight.Cancel(instrument.Disconnected)
		req.out.Answer(nil)
		return
	}
	req.op.Respond(req.ctx, response)
	if response.Error != nil {
		req.out.Status = modernStatus(jsonrpc.ParseError(response.Error).Code)
	}
	req.out.Answer(response.Encode())
}

// disconnected is called when the client has closed the connection of req. That cancels a call without
// response.
func (c *multiRoundCall) disconnected(req *modernRequest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current == req {
		c.cancel(observe.ErrClientCancelled)
	}
}

// expire ends a call that has been suspended since the given round.
func (c *multiRoundCall) expire(round int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current == nil && c.round == round {
		c.abort(errSuspensionExpired)
	}
}

// stop ends the call if it is suspended.
func (c *multiRoundCall) stop(cause error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current == nil {
		c.abort(cause)
	}
}

// abort ends a suspended call. The caller holds mu.
func (c *multiRoundCall) abort(cause error) {
	if c.expiryTimer != nil { // nil: the call was just completed and has never been suspended
		c.expiryTimer.Stop()
	}
	c.cancel(cause)
	if c.outcome != nil { // otherwise finish removes it
		c.suspended.remove(c.id)
		c.held.Release()
	}
}

// Notify sends a notification of the server on the stream of the current request.
func (c *multiRoundCall) Notify(m jsonrpc.Message) {
	if protocol.IsListChanged(m.Method) {
		return // Gateway.ListChanged notifies the subscriptions
	}
	if m.Method == protocol.MethodLogMessage && !c.wantsLog(m) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current == nil {
		c.tel.Dropped("no_stream")
		return
	}
	if m.Method == protocol.MethodProgress {
		if c.current.token == nil {
			return
		}
		params, err := jsonrpc.Rewrite(m.Params, jsonrpc.Edit{Name: "progressToken", Value: c.current.token})
		if err != nil {
			return
		}
		m.Params = params
	}
	if reason := c.current.out.Push(m.Encode(), stream.ReadNow); reason != "" {
		c.tel.Dropped(reason)
		return
	}
	c.tel.Sent(c.current.ctx, m)
	c.current.op.AddNotification(m.Method)
}

// wantsLog reports whether the request asked for log messages of the level of m, specification
// 2026-07-28, server/utilities/logging.
func (c *multiRoundCall) wantsLog(m jsonrpc.Message) bool {
	if c.client.logLevel == "" {
		return false
	}
	level, ok := jsonrpc.StringField(m.Params, "level")
	return !ok || protocol.LogSeverity(level) >= protocol.LogSeverity(c.client.logLevel)
}
