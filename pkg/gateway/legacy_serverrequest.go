package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
	"github.com/mcphub-go/mcphub/pkg/session"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

// request sends a request of a server, or of the hub, to the client and waits for the response. send
// puts it on a stream, and returns a reason if it cannot.
func (cs *clientSession) request(ctx context.Context, m jsonrpc.Message, send func(context.Context, jsonrpc.Message) string) (
	result json.RawMessage, err error,
) {
	id, response := cs.requests.add()
	if response == nil {
		return nil, jsonrpc.Errorf(jsonrpc.CodeInternal, "too many requests of servers wait for the client's answer")
	}
	defer cs.requests.remove(id)
	m.ID = id
	m = cs.requests.replaceToken(ctx, m)
	start := time.Now()
	ctx = cs.tel.StartServerRequest(ctx, cs.opened, &m)
	answered := false
	defer func() { cs.tel.EndServerRequest(ctx, cs.opened, m.Method, start, answered, err) }()
	ctx = session.WithID(ctx, cs.id) // the context of a shared connection has no session
	if reason := send(ctx, m); reason != "" {
		return nil, jsonrpc.Errorf(jsonrpc.CodeInternal, "the request cannot be sent to the client: %s", unreachable(reason))
	}
	inFlight := cs.tel.Messages.Begin(instrument.Out, m)
	cs.tel.Tap.Message(ctx, instrument.Out, m, instrument.About{})
	take := func(r jsonrpc.Message) (json.RawMessage, error) {
		answered = true
		inFlight.Answer(r)
		cs.tel.Tap.Message(ctx, instrument.In, r, instrument.About{Method: m.Method, Since: start})
		if r.Error != nil {
			return nil, jsonrpc.ParseError(r.Error)
		}
		return r.Result, nil
	}
	select {
	case r := <-response:
		return take(r)
	case <-ctx.Done():
	case <-cs.ctx.Done():
	}
	if !cs.requests.remove(id) { // the response came at the same moment
		return take(<-response)
	}
	cause := context.Cause(cs.ctx)
	if cause != nil {
		inFlight.Cancel(instrument.SessionEnded)
	} else {
		cause = context.Cause(ctx)
		inFlight.Cancel(unansweredReason(cause))
		// Best effort: a client that does not get the cancellation only does needless work.
		_ = send(ctx, jsonrpc.Message{Method: protocol.MethodCancelled, Params: fmt.Appendf(nil, `{"requestId":%s}`, id)})
	}
	return nil, jsonrpc.Errorf(jsonrpc.CodeInternal, "the client did not answer: %v", cause)
}

// unansweredReason returns the reason why a request to a client is cancelled.
func unansweredReason(cause error) instrument.CancelReason {
	if errors.Is(cause, upstream.ErrTimeout) || errors.Is(cause, context.DeadlineExceeded) {
		return instrument.TimedOut
	}
	return instrument.Withdrawn
}

// unreachable returns the text for a reason why a message cannot be sent to a client.
func unreachable(reason string) string {
	switch reason {
	case "no_stream":
		return "it has no stream open"
	case "slow_reader":
		return "it does not read its stream"
	}
	return reason
}

// progressed forwards the progress of an answer to the server that waits for the answer. Other progress
// is dropped.
func (cs *clientSession) progressed(ctx context.Context, m jsonrpc.Message) {
	fields, err := jsonrpc.Fields(m.Params, "progressToken")
	var waiting answerProgress
	if err == nil && fields[0] != nil {
		waiting = cs.requests.progressOf(fields[0])
	}
	if waiting.report == nil {
		cs.tel.Dropped("unsupported")
		return
	}
	params, err := jsonrpc.Rewrite(m.Params, jsonrpc.Edit{Name: "progressToken", Value: waiting.token})
	if err == nil {
		err = waiting.report(ctx, params)
	}
	if err != nil {
		cs.log.DebugContext(ctx, "a notification of the client was not forwarded", "session", cs.id, "err", instrument.Redacted(err))
	}
}
