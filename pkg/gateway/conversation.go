package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/mcphub-go/mcphub/pkg/gateway/stream"
	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
	"github.com/mcphub-go/mcphub/pkg/session"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

// conversation is a request of a modern client and, where a legacy server asks
// something in the middle of the call, the requests by which the client answers
// (specification 2026-07-28, basic/utilities/mrtr). In between the call waits,
// parked, for the client to come back. It is the caller and the upstream.Sink of
// the call.
type conversation struct {
	g      *Gateway
	about  aboutClient
	method string
	digest []byte          // of what every request of the conversation has in common
	ctx    context.Context //nolint:containedctx // ends with the call
	cancel context.CancelCauseFunc
	over   chan struct{} // closed when the call has its outcome, which may wait for the client

	mu      sync.Mutex
	round   *round // the request that waits for an answer; nil: parked
	id      string // of the parked conversation; "" until it is parked first
	rounds  int
	asked   int
	waiting map[string]*asking
	quiet   *time.Timer // collects the questions that come together
	expiry  *time.Timer // of a parked conversation
	final   *outcome    // what the call came to while it was parked

	spent atomic.Int64 // ns, of the call
}

// round is one HTTP request of a conversation.
type round struct {
	id    jsonrpc.ID
	token json.RawMessage // its progress token
	out   *stream.Stream
	op    *operation
	ctx   context.Context //nolint:containedctx // of its span
}

// asking is a question of a server that waits for its answer.
type asking struct {
	question jsonrpc.Message
	reply    chan json.RawMessage
	shown    bool // the client has been asked
}

// outcome is what a call came to.
type outcome struct {
	response jsonrpc.Message
	err      error
}

const (
	quietPeriod = 50 * time.Millisecond // for more questions, after one has come
	parkTimeout = 15 * time.Minute      // for a client to come back with answers
	maxParked   = 1000                  // conversations that wait for that
)

var (
	errParkExpired = errors.New("the client did not come back with the answers in time")
	errTooManyWait = jsonrpc.Errorf(jsonrpc.CodeInternal, "too many calls wait for answers of their clients")
)

func (g *Gateway) newConversation(ctx context.Context, about aboutClient, m jsonrpc.Message) *conversation {
	c := &conversation{g: g, about: about, method: m.Method, digest: digestOf(m), waiting: map[string]*asking{}, over: make(chan struct{})}
	c.ctx, c.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	return c
}

// run makes the call and sees that its outcome is told.
func (c *conversation) run(m jsonrpc.Message) {
	response, err := c.dispatchOrRecover(m)
	c.finish(response, err)
}

// finish is called with what the call came to.
func (c *conversation) finish(response jsonrpc.Message, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.final = &outcome{response, err}
	close(c.over) // a server may have given up without taking its questions back
	if c.quiet != nil {
		c.quiet.Stop()
	}
	switch {
	case c.round != nil:
		c.tell()
	case c.ctx.Err() != nil: // nobody will come back for it
		c.g.parked.remove(c)
	}
}

func (c *conversation) dispatchOrRecover(m jsonrpc.Message) (response jsonrpc.Message, err error) {
	defer func() {
		if p := recover(); p != nil {
			c.g.log.ErrorContext(c.ctx, "panic while answering a request", "method", instrument.MethodLabel(m.Method),
				"panic", p, "stack", string(debug.Stack()))
			err = jsonrpc.Errorf(jsonrpc.CodeInternal, "internal error of the hub")
		}
	}()
	return c.g.dispatch(c.ctx, c, m)
}

// tell answers the round with the outcome, which ends the conversation. The
// caller holds mu.
func (c *conversation) tell() {
	r, out := c.round, c.final
	c.round = nil
	c.g.parked.remove(c)
	cause := c.g.whyEnded(out.err, context.Cause(c.ctx))
	c.cancel(nil)
	response := out.response
	if out.err != nil {
		response = jsonrpc.NewError(r.id, c.g.callError(out.err, cause))
	}
	response = c.g.toModern(c.method, response)
	response.ID = r.id
	if c.rounds == 0 { // otherwise it waited for the client, too
		r.op.spent.Store(c.spent.Load())
	}
	r.op.endFor(r.ctx, cause, response, out.err)
	if errors.Is(cause, errClientCancelled) {
		r.op.flight.Cancel(instrument.Disconnected)
		r.out.Answer(nil)
		return
	}
	c.g.responded(r.ctx, r.op, response)
	if response.Error != nil {
		r.out.Status = modernStatus(jsonrpc.ParseError(response.Error).Code)
	}
	r.out.Answer(response.Encode())
}

// abandoned is called when the client has closed the connection of r. A call
// that is not answered by then is cancelled: that is what closing means.
func (c *conversation) abandoned(r *round) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.round == r {
		c.cancel(errClientCancelled)
	}
}

// expire ends a conversation that has been parked since that round.
func (c *conversation) expire(round int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.round == nil && c.rounds == round {
		c.end(errParkExpired)
	}
}

// end ends a parked conversation, whose client will not come back. The caller
// holds mu.
func (c *conversation) end(cause error) {
	if c.expiry != nil { // nil: it was answered at this moment, and never parked
		c.expiry.Stop()
	}
	c.cancel(cause)
	if c.final != nil { // otherwise the call is still to hear of it
		c.g.parked.remove(c)
	}
}

// forward sends the request over a connection that is the client's to use.
func (c *conversation) forward(ctx context.Context, server *upstream.Server, req upstream.Request) (jsonrpc.Message, error) {
	if server == nil {
		return jsonrpc.Message{}, errUnconfigured()
	}
	b, err := c.g.bridges.enter(server, c.about)
	if err != nil {
		return jsonrpc.Message{}, err
	}
	defer b.leave()
	if err := b.raiseLevel(ctx, server, c.about.logLevel); err != nil {
		c.g.log.DebugContext(ctx, "a server was not told the log level", "upstream", server.Name(), "err", instrument.Redacted(err))
	}
	if !server.Modern() && asksForTask(req) { // which a modern client does not mean, whatever it says
		if req, err = withoutTask(req); err != nil {
			return jsonrpc.Message{}, err
		}
	}
	req.Modern, req.Header, req.Sink, req.Spent = true, c.about.params, c, &c.spent
	return b.link.Call(ctx, req)
}

// Notify puts a notification on the stream of the request that waits now.
func (c *conversation) Notify(m jsonrpc.Message) {
	if protocol.IsListChanged(m.Method) {
		return // who wants to know listens to subscriptions
	}
	if m.Method == protocol.MethodLogMessage && !c.wantsLog(m) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.round == nil {
		c.g.tel.dropped("no_stream")
		return
	}
	if m.Method == protocol.MethodProgress {
		if c.round.token == nil {
			return
		}
		params, err := jsonrpc.Rewrite(m.Params, jsonrpc.Edit{Name: "progressToken", Value: c.round.token})
		if err != nil {
			return
		}
		m.Params = params
	}
	if reason := c.round.out.Push(m.Encode(), stream.ReadNow); reason != "" {
		c.g.tel.dropped(reason)
		return
	}
	c.g.said(c.round.ctx, m)
	c.round.op.said(m.Method)
}

// wantsLog reports whether the request asked for log messages like m,
// specification 2026-07-28, server/utilities/logging.
func (c *conversation) wantsLog(m jsonrpc.Message) bool {
	if c.about.logLevel == "" {
		return false
	}
	level, ok := jsonrpc.StringField(m.Params, "level")
	return !ok || protocol.LogSeverity(level) >= protocol.LogSeverity(c.about.logLevel)
}

// asks are the methods whose results may ask the client, specification
// 2026-07-28, basic/utilities/mrtr.
var asks = []string{protocol.MethodToolsCall, protocol.MethodPromptsGet, protocol.MethodResourcesRead}

// Ask has the client answer a question of a legacy server, by way of a result
// that says what is wanted and a request that brings it.
func (c *conversation) Ask(ctx context.Context, m jsonrpc.Message) (json.RawMessage, error) {
	if err := answerable(c.about.identity.Capabilities, m); err != nil {
		return nil, err
	}
	if m.Method == protocol.MethodPing || questions[m.Method] == "" {
		return nil, jsonrpc.Errorf(jsonrpc.CodeMethodNotFound, "clients of protocol version %s cannot be asked %s", protocol.ModernVersion, instrument.MethodLabel(m.Method))
	}
	if !slices.Contains(asks, c.method) {
		return nil, jsonrpc.Errorf(jsonrpc.CodeMethodNotFound, "clients of protocol version %s cannot be asked %s during %s",
			protocol.ModernVersion, m.Method, instrument.MethodLabel(c.method))
	}
	a := &asking{question: m, reply: make(chan json.RawMessage, 1)}
	key, err := c.ask(a)
	if err != nil {
		return nil, err
	}
	defer c.unask(key)
	select {
	case result := <-a.reply:
		return result, nil
	case <-c.over:
		return nil, jsonrpc.Errorf(jsonrpc.CodeInternal, "the client did not answer: the call is over")
	case <-ctx.Done():
		return nil, jsonrpc.Errorf(jsonrpc.CodeInternal, "the client did not answer: %v", context.Cause(ctx))
	case <-c.ctx.Done():
		return nil, jsonrpc.Errorf(jsonrpc.CodeInternal, "the client did not answer: %v", context.Cause(c.ctx))
	}
}

func (c *conversation) ask(a *asking) (key string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.final != nil {
		return "", jsonrpc.Errorf(jsonrpc.CodeInternal, "the call is over")
	}
	if len(c.waiting) >= maxAsks {
		return "", jsonrpc.Errorf(jsonrpc.CodeInternal, "too many questions wait for the client's answer")
	}
	if c.id == "" {
		if c.id = c.g.parked.add(c); c.id == "" {
			return "", errTooManyWait
		}
	}
	c.asked++
	key = fmt.Sprintf("q%d", c.asked)
	c.waiting[key] = a
	c.settleSoon()
	return key, nil
}

func (c *conversation) unask(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.waiting, key)
}

// settleSoon parks the conversation when no more questions come. The caller
// holds mu.
func (c *conversation) settleSoon() {
	if c.round == nil || c.final != nil {
		return
	}
	if c.quiet != nil {
		c.quiet.Stop()
	}
	c.quiet = time.AfterFunc(quietPeriod, c.park)
}

// park answers the round with the questions that wait.
func (c *conversation) park() {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.round
	if r == nil || c.final != nil || len(c.waiting) == 0 {
		return
	}
	if c.g.parked.stopped() {
		c.cancel(errStopping)
		return
	}
	c.rounds++
	state, err := c.g.parked.seal(c)
	if err != nil {
		c.cancel(err)
		return
	}
	response := jsonrpc.NewResult(r.id, c.inputRequired(state))
	c.round = nil
	round := c.rounds
	c.expiry = time.AfterFunc(parkTimeout, func() { c.expire(round) })
	r.op.end(r.ctx, response, nil)
	c.g.responded(r.ctx, r.op, response)
	r.out.Answer(response.Encode())
}

// inputRequired is the result that says what the server wants to know. The
// caller holds mu.
func (c *conversation) inputRequired(state string) json.RawMessage {
	type input struct {
		Method string          `json:"method"`
		Params json.RawMessage `json:"params"`
	}
	wanted := map[string]input{}
	for key, a := range c.waiting {
		a.shown = true
		params := a.question.Params
		if params == nil { // of roots/list; go-sdk's client cannot read a question without params
			params = json.RawMessage(`{}`)
		}
		wanted[key] = input{a.question.Method, params}
	}
	b, err := json.Marshal(struct {
		ResultType    string           `json:"resultType"`
		InputRequests map[string]input `json:"inputRequests"`
		RequestState  string           `json:"requestState"`
	}{"input_required", wanted, state})
	if err != nil { // params of a message that was parsed are JSON
		panic(err)
	}
	return b
}

// resume goes on with the conversation: r brings the answers to the questions
// of the round before.
func (c *conversation) resume(r *round, rounds int, answers json.RawMessage) *jsonrpc.Error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.round == nil && rounds == c.rounds && c.ctx.Err() != nil {
		return jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "%v", errStateExpired)
	}
	if c.round != nil || rounds != c.rounds {
		return jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "requestState was used already: each may be sent back once")
	}
	given, err := c.given(answers)
	if err != nil {
		return jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "invalid inputResponses: %v", err)
	}
	c.expiry.Stop()
	c.round = r
	if first := trace.SpanContextFromContext(c.ctx); first.IsValid() && r.op.span.IsRecording() {
		r.op.span.AddLink(trace.Link{SpanContext: first}) // the call hangs below that, whatever trace this request is of
	}
	if c.final != nil {
		c.tell()
		return nil
	}
	for key, result := range given {
		c.waiting[key].reply <- result // has room for it
		delete(c.waiting, key)
	}
	if len(c.waiting) > 0 { // what was not answered is asked again
		c.settleSoon()
	}
	return nil
}

// given reads the answers to questions that the client was asked. The caller
// holds mu.
func (c *conversation) given(answers json.RawMessage) (map[string]json.RawMessage, error) {
	var all map[string]json.RawMessage
	if len(answers) > 0 {
		if err := json.Unmarshal(answers, &all); err != nil {
			return nil, errors.New("they are no object")
		}
	}
	given := map[string]json.RawMessage{}
	for key, a := range c.waiting {
		result := all[key]
		if result == nil || !a.shown {
			continue
		}
		if result[0] != '{' {
			return nil, fmt.Errorf("the answer to %q is no object", key)
		}
		given[key] = result
	}
	return given, nil
}

// errStopping is the cause of calls that are cancelled because the hub stops.
var errStopping = endedError{session.Shutdown}
