package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
	"github.com/mcphub-go/mcphub/pkg/session"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

// ask sends a question of a server to the client, under an id of the hub's, and
// waits for the answer.
func (cs *clientSession) ask(ctx context.Context, m jsonrpc.Message, send func(context.Context, jsonrpc.Message) string) (result json.RawMessage, err error) {
	id, reply := cs.expect()
	if reply == nil {
		return nil, jsonrpc.Errorf(jsonrpc.CodeInternal, "too many questions wait for the client's answer")
	}
	defer cs.unexpect(id)
	m.ID = id
	m = cs.withToken(ctx, m)
	start := time.Now()
	ctx, _ = cs.g.tel.startAsk(ctx, cs, &m)
	answered := false
	defer func() { cs.g.tel.endAsk(ctx, cs, m.Method, start, answered, err) }()
	ctx = session.WithID(ctx, cs.id) // over a shared connection it is nobody's yet
	if reason := send(ctx, m); reason != "" {
		return nil, jsonrpc.Errorf(jsonrpc.CodeInternal, "the client cannot be asked: %s", unreachable[reason])
	}
	flight := cs.g.tel.messages.Begin(instrument.Out, m)
	cs.g.show(ctx, instrument.Out, m, instrument.About{})
	taken := func(answer jsonrpc.Message) (json.RawMessage, error) {
		answered = true
		flight.Answer(answer)
		cs.g.show(ctx, instrument.In, answer, instrument.About{Method: m.Method, Since: start})
		if answer.Error != nil {
			return nil, jsonrpc.ParseError(answer.Error)
		}
		return answer.Result, nil
	}
	select {
	case answer := <-reply:
		return taken(answer)
	case <-ctx.Done():
	case <-cs.ctx.Done():
	}
	if !cs.unexpect(id) { // it came at the same moment
		return taken(<-reply)
	}
	cause := context.Cause(cs.ctx)
	if cause != nil {
		flight.Cancel(instrument.SessionEnded)
	} else {
		cause = context.Cause(ctx)
		flight.Cancel(unanswered(cause))
		// Nobody wants to know any more; whether the client hears of it matters little.
		_ = send(ctx, jsonrpc.Message{Method: protocol.MethodCancelled, Params: fmt.Appendf(nil, `{"requestId":%s}`, id)})
	}
	return nil, jsonrpc.Errorf(jsonrpc.CodeInternal, "the client did not answer: %v", cause)
}

// unanswered is why nobody waits for a client's answer any more.
func unanswered(cause error) instrument.CancelReason {
	if errors.Is(cause, upstream.ErrTimeout) || errors.Is(cause, context.DeadlineExceeded) {
		return instrument.TimedOut
	}
	return instrument.Withdrawn
}

// unreachable says in words why a client gets no message.
var unreachable = map[string]string{
	"no_stream":   "it has no stream open",
	"slow_reader": "it does not read its stream",
}

// hasAsked reports whether the client was asked a question with this id, which may
// wait for an answer no more.
func (cs *clientSession) hasAsked(id jsonrpc.ID) bool {
	number, ours := strings.CutPrefix(string(id), `"hub-`+cs.prefix+`-`)
	n, err := strconv.ParseInt(strings.TrimSuffix(number, `"`), 10, 64)
	cs.mu.Lock()
	defer cs.mu.Unlock()
	return ours && err == nil && 0 < n && n <= cs.asked
}

// answered hands the client's answer to whoever asked.
func (cs *clientSession) answered(m jsonrpc.Message) bool {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	reply := cs.asks[m.ID]
	if reply == nil {
		return false
	}
	delete(cs.asks, m.ID) // the first answer counts
	reply <- m            // has room for it
	return true
}
