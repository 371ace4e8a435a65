package upstream

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
)

// receive takes a request or notification of the server to where it belongs.
// It does not block.
func (c *Conn) receive(related *call, m jsonrpc.Message) {
	if m.Kind() == jsonrpc.Request {
		q := c.inquire(m)
		c.showReceived(related, m)
		c.inquired(related, q)
		return
	}
	c.tel.messages.Add(instrument.In, m)
	c.showReceived(related, m)
	start := time.Now()
	c.told(related, m)
	c.tel.served.Observe(context.Background(), instrument.Operation{Method: instrument.MethodLabel(m.Method), Transport: networkTransport(c.spec), Version: c.version()}, "", time.Since(start))
}

// told takes a notification of the server to where it belongs.
func (c *Conn) told(related *call, m jsonrpc.Message) {
	if c.modern() {
		if m.Method == protocol.MethodSubscriptionsAcknowledged {
			c.acknowledged(related, m)
			return
		}
		m = withoutSubscription(m)
	}
	m.Params = instrument.CheckedContext(m.Params, c.tel.baggage)
	switch m.Method {
	case protocol.MethodProgress:
		c.progress(related, m)
	case protocol.MethodCancelled:
		c.withdrawn(m)
	default:
		c.sinkFor(related, m.Method).Notify(m)
	}
}

// sinkFor finds out whom a message concerns: the call on whose stream it came,
// or the only call there is, or nobody in particular. News of a shared server
// are for everybody, even while only one has a call under way. And a server may
// still be at work for a client that has given its call up: what a shared one
// says then is not given to another. The end of an elicitation concerns whoever
// was given its id, which is nobody's call.
func (c *Conn) sinkFor(related *call, method string) Sink {
	sink, _ := c.concerns(related, method)
	return sink
}

// concerns is sinkFor with the call, if there is one.
func (c *Conn) concerns(related *call, method string) (Sink, askedFor) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if (isNews(method) && (related == nil || c.many)) || (method == protocol.MethodElicitationComplete && c.many) {
		return c.sink, askedFor{session: c.session}
	}
	if related == nil && (!c.many || !c.haunted(time.Now())) {
		related = c.onlyCall()
	}
	if related == nil {
		return c.sink, askedFor{session: c.session}
	}
	return c.sinkOf(related), related.origin
}

// onlyCall is the call under way, if there is exactly one. The caller holds mu.
func (c *Conn) onlyCall() *call {
	var only *call
	for _, cl := range c.calls {
		if cl.acked != nil {
			continue // a stream of changes
		}
		if only != nil {
			return nil
		}
		only = cl
	}
	return only
}

// haunted reports whether the server may still be at work for a call that was
// given up. The caller holds mu.
func (c *Conn) haunted(now time.Time) bool {
	for id, until := range c.abandoned {
		if now.After(until) {
			delete(c.abandoned, id)
		}
	}
	return len(c.abandoned) > 0
}

// sinkOf is the sink of cl, which may be nil.
func (c *Conn) sinkOf(cl *call) Sink {
	if cl != nil && cl.sink != nil {
		return cl.sink
	}
	return c.sink
}

// isNews reports whether method says that something of the server changed,
// which no call is needed for.
func isNews(method string) bool {
	switch method {
	case protocol.MethodToolsListChanged, protocol.MethodPromptsListChanged, protocol.MethodResourcesListChanged,
		protocol.MethodResourcesUpdated:
		return true
	}
	return false
}

// progress gives the caller its own token back. Progress for a call that is
// over and became no task, or that asked for none, is dropped.
func (c *Conn) progress(related *call, m jsonrpc.Message) {
	fields, err := jsonrpc.Fields(m.Params, "progressToken")
	if err != nil || fields[0] == nil {
		c.tel.unmatched("progress")
		return
	}
	c.mu.Lock()
	cl := c.tokens[jsonrpc.ID(fields[0])]
	var token json.RawMessage
	if cl != nil {
		token = cl.token
	} else {
		cl, token = related, c.taskTokenOf(jsonrpc.ID(fields[0]))
	}
	c.mu.Unlock()
	if token == nil {
		c.tel.unmatched("progress")
		return
	}
	if m.Params, err = jsonrpc.Rewrite(m.Params, jsonrpc.Edit{Name: "progressToken", Value: token}); err != nil {
		c.tel.unmatched("progress")
		return
	}
	c.sinkOf(cl).Notify(m)
}

// ask has sink answer a request of the server. Too many at once are refused.
func (c *Conn) ask(sink Sink, of askedFor, q *inquiry) {
	m := q.Message
	m.Params = bytes.Clone(m.Params)
	ctx, withdraw := context.WithCancelCause(c.quit)
	q.withdraw = withdraw
	c.mu.Lock()
	c.asked[m.ID] = q // before the next message can withdraw it
	c.mu.Unlock()
	forget := func() {
		c.mu.Lock()
		if c.asked[m.ID] == q { // else the server has used the id again
			delete(c.asked, m.ID)
		}
		c.mu.Unlock()
		withdraw(nil)
	}
	started := c.start(&c.questions, maxQuestions, func(context.Context) {
		ctx, cancel := context.WithTimeoutCause(ctx, c.spec.callTimeout(), ErrTimeout)
		defer cancel()
		ctx, span := c.tel.startAsk(ctx, c, of, m)
		m.Params = c.tel.inject(ctx, m.Params)
		result, err := sink.Ask(c.reported(ctx), m)
		endAsk(ctx, span, err)
		defer forget()
		if errors.Is(context.Cause(ctx), errWithdrawn) { // which wants no response
			q.drop(ctx, instrument.Withdrawn, "cancelled")
			return
		}
		c.respond(ctx, q, result, err)
	})
	if !started {
		forget()
		c.answer(q, nil, jsonrpc.Errorf(jsonrpc.CodeInternal, "the hub is waiting for too many answers of clients"))
	}
}

// errWithdrawn is the cause of a question that the server does not want answered
// any more.
var errWithdrawn = errors.New("the server has withdrawn its question")

// withdrawn ends a question of the server that the server has cancelled.
func (c *Conn) withdrawn(m jsonrpc.Message) {
	fields, err := jsonrpc.Fields(m.Params, "requestId")
	if err != nil || fields[0] == nil {
		return
	}
	c.mu.Lock()
	q := c.asked[jsonrpc.ID(fields[0])]
	c.mu.Unlock()
	if q != nil {
		q.withdraw(errWithdrawn)
	}
}

// answer sends a response without making the caller wait, who may be the one
// that reads from the server.
func (c *Conn) answer(q *inquiry, result json.RawMessage, err error) {
	switch {
	case c.start(&c.answers, maxAnswers, func(ctx context.Context) { c.respond(ctx, q, result, err) }):
	case c.quit.Err() != nil:
		q.drop(c.quit, instrument.ConnectionLost, string(instrument.ConnectionLost))
	default:
		c.tel.unmatched("overload")
		q.drop(c.quit, instrument.Overloaded, string(instrument.Overloaded))
	}
}

// respond sends the response to a request of the server. Whether it arrives is
// not counted; what cannot be sent because the connection is lost is no response.
// about, which may have ended, says for log and measurement what it belongs to.
func (c *Conn) respond(about context.Context, q *inquiry, result json.RawMessage, err error) {
	if c.quit.Err() != nil || isClosed(c.wire.done()) {
		q.drop(about, instrument.ConnectionLost, string(instrument.ConnectionLost))
		return
	}
	m := jsonrpc.NewResult(q.ID, result)
	if err != nil {
		m = jsonrpc.NewError(q.ID, jsonrpc.AsError(err))
	}
	q.answered(about, m)
	ctx, cancel := context.WithTimeoutCause(c.quit, notifyTimeout, ErrTimeout)
	defer cancel()
	if err := c.wire.send(ctx, m.Encode(), nil); err != nil && c.quit.Err() == nil {
		c.log.WarnContext(about, "an answer did not reach the server", "err", instrument.Redacted(err))
	}
}

// start runs fn on a goroutine that Close waits for. It reports false
// when the connection is closed, or when there are limit goroutines of the sort
// that n counts.
func (c *Conn) start(n *int, limit int, fn func(context.Context)) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.quit.Err() != nil || *n >= limit {
		return false
	}
	*n++
	c.wait.Go(func() {
		fn(c.quit)
		c.mu.Lock()
		*n--
		c.mu.Unlock()
	})
	return true
}

// deliver hands a response to the call that waits for it.
func (c *Conn) deliver(m jsonrpc.Message) {
	c.mu.Lock()
	defer c.mu.Unlock() // until it is there: end looks for what came too late
	cl := c.calls[m.ID]
	delete(c.abandoned, m.ID) // it is done with that
	if cl == nil {
		c.tel.unmatched("response") // to a cancelled call, or to none
		return
	}
	select {
	case cl.reply <- m:
	default:
		c.tel.unmatched("response") // a second one
	}
}
