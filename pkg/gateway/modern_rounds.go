package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
)

// errTooManySuspended is the error of a server request in a call beyond maxSuspendedCalls.
var errTooManySuspended = jsonrpc.Errorf(jsonrpc.CodeInternal, "too many calls wait for answers of their clients")

// maxRounds is the limit of the rounds of one call: a server may ask for ever, and each round is a request of the client.
const maxRounds = 100

// errTooManyRounds is the error of a server request in a call beyond maxRounds.
var errTooManyRounds = jsonrpc.Errorf(jsonrpc.CodeInternal, "the client was asked for input in %d rounds of this call already", maxRounds)

// allowsInput reports whether the result of a method may ask the client for input, specification
// 2026-07-28, basic/utilities/mrtr.
func allowsInput(method string) bool {
	switch method {
	case protocol.MethodToolsCall, protocol.MethodPromptsGet, protocol.MethodResourcesRead:
		return true
	}
	return false
}

// Ask takes a request that a legacy server sent during the call. One that needs no call waits for the next if this one
// ends without an answer.
func (c *multiRoundCall) Ask(ctx context.Context, m jsonrpc.Message) (json.RawMessage, error) {
	result, err := c.askNow(ctx, m)
	if err == nil || ctx.Err() != nil || !c.isOver() || !holds(m) {
		return result, err
	}
	if b := c.bridge.Load(); b != nil && b.private() {
		return b.unasked.ask(ctx, m)
	}
	return nil, err
}

// isOver reports whether the call has ended: its client can be asked no more.
func (c *multiRoundCall) isOver() bool {
	select {
	case <-c.over:
		return true
	default:
		return c.ctx.Err() != nil
	}
}

// askNow sends a request of a legacy server to the client: the current request is answered with
// input_required, and the next round brings the answer.
func (c *multiRoundCall) askNow(ctx context.Context, m jsonrpc.Message) (json.RawMessage, error) {
	if err := checkSupported(c.client.identity.Capabilities, m); err != nil {
		return nil, err
	}
	if neededCapability(m.Method) == "" {
		return nil, jsonrpc.Errorf(jsonrpc.CodeMethodNotFound, "clients of protocol version %s do not support %s", protocol.ModernVersion,
			instrument.MethodLabel(m.Method))
	}
	if !allowsInput(c.message.Method) {
		return nil, jsonrpc.Errorf(jsonrpc.CodeMethodNotFound, "clients of protocol version %s do not support %s during %s",
			protocol.ModernVersion, m.Method, instrument.MethodLabel(c.message.Method))
	}
	in := &inputRequest{message: m, response: make(chan json.RawMessage, 1)}
	key, err := c.addInput(in)
	if err != nil {
		return nil, err
	}
	defer c.removeInput(key)
	select {
	case result := <-in.response:
		return result, nil
	case <-c.over:
		return nil, jsonrpc.Errorf(jsonrpc.CodeInternal, "the client did not answer: the call is over")
	case <-ctx.Done():
		return nil, jsonrpc.Errorf(jsonrpc.CodeInternal, "the client did not answer: %v", context.Cause(ctx))
	case <-c.ctx.Done():
		return nil, jsonrpc.Errorf(jsonrpc.CodeInternal, "the client did not answer: %v", context.Cause(c.ctx))
	}
}

// addInput adds an input request, and returns its key in inputRequests.
func (c *multiRoundCall) addInput(in *inputRequest) (key string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.outcome != nil {
		return "", jsonrpc.Errorf(jsonrpc.CodeInternal, "the call is over")
	}
	if len(c.waiting) >= maxServerRequests {
		return "", jsonrpc.Errorf(jsonrpc.CodeInternal, "too many requests of servers wait for the client's answer")
	}
	if c.round >= maxRounds {
		return "", errTooManyRounds
	}
	if c.id == "" {
		if c.id = c.suspended.add(c); c.id == "" {
			return "", errTooManySuspended
		}
	}
	c.lastInput++
	key = fmt.Sprintf("q%d", c.lastInput)
	c.waiting[key] = in
	c.collect()
	return key, nil
}

// removeInput removes an input request.
func (c *multiRoundCall) removeInput(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.waiting, key)
}

// collect suspends the call if no more input requests come within collectTime. The caller holds mu.
func (c *multiRoundCall) collect() {
	if c.current == nil || c.outcome != nil {
		return
	}
	if c.collectTimer != nil {
		c.collectTimer.Stop()
	}
	c.collectTimer = time.AfterFunc(collectTime, c.suspend)
}

// suspend answers the current request with the waiting input requests. The call is suspended then.
func (c *multiRoundCall) suspend() {
	c.mu.Lock()
	defer c.mu.Unlock()
	req := c.current
	if req == nil || c.outcome != nil || len(c.waiting) == 0 {
		return
	}
	if c.suspended.stopped() {
		c.cancel(errStopping)
		return
	}
	c.round++
	state, err := c.suspended.seal(c.id, c.round, c.client.principal, c.digest)
	if err != nil {
		c.cancel(err)
		return
	}
	response := jsonrpc.NewResult(req.message.ID, c.inputRequired(state))
	c.current = nil
	round := c.round
	c.expiryTimer = time.AfterFunc(suspensionTimeout, func() { c.expire(round) })
	req.op.End(req.ctx, response, nil)
	req.op.Respond(req.ctx, response)
	req.out.Answer(response.Encode())
}

// inputRequired returns the result with the waiting input requests. The caller holds mu.
func (c *multiRoundCall) inputRequired(state string) json.RawMessage {
	type input struct {
		Method string          `json:"method"`
		Params json.RawMessage `json:"params"`
	}
	inputs := map[string]input{}
	for key, in := range c.waiting {
		in.sent = true
		params := in.message.Params
		if params == nil { // of roots/list; the client of go-sdk cannot read an input request without params
			params = json.RawMessage(`{}`)
		}
		inputs[key] = input{in.message.Method, params}
	}
	b, err := json.Marshal(struct {
		ResultType    string           `json:"resultType"`
		InputRequests map[string]input `json:"inputRequests"`
		RequestState  string           `json:"requestState"`
	}{"input_required", inputs, state})
	if err != nil { // the params of a parsed message are JSON
		panic(err)
	}
	return b
}

// resume continues the suspended call with req, which brings the answers to the input requests of the given
// round.
func (c *multiRoundCall) resume(req *modernRequest, round int, answers json.RawMessage) *jsonrpc.Error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current == nil && round == c.round && c.ctx.Err() != nil {
		return jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "%v", errStateExpired)
	}
	if c.current != nil || round != c.round {
		return jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "requestState was used already: each may be sent back once")
	}
	results, err := c.parseAnswers(answers)
	if err != nil {
		return jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "invalid inputResponses: %v", err)
	}
	c.expiryTimer.Stop()
	c.current = req
	if first := trace.SpanContextFromContext(c.ctx); first.IsValid() && req.op.Span.IsRecording() {
		// The spans of the call are children of the first request, which may belong to another trace.
		req.op.Span.AddLink(trace.Link{SpanContext: first})
	}
	if c.outcome != nil {
		c.complete()
		return nil
	}
	for key, result := range results {
		c.waiting[key].response <- result // it has room for one
		delete(c.waiting, key)
	}
	if len(c.waiting) > 0 { // input requests without answer are sent again
		c.collect()
	}
	return nil
}

// parseAnswers returns the answers to input requests that were sent, by key. The caller holds mu.
func (c *multiRoundCall) parseAnswers(answers json.RawMessage) (map[string]json.RawMessage, error) {
	keys := slices.Collect(maps.Keys(c.waiting)) // only these are read: a client can send any number
	values, err := jsonrpc.Fields(answers, keys...)
	if err != nil {
		return nil, errors.New("they are not an object with one answer to each request")
	}
	results := map[string]json.RawMessage{}
	for i, key := range keys {
		if values[i] == nil || !c.waiting[key].sent {
			continue
		}
		if values[i][0] != '{' {
			return nil, fmt.Errorf("the answer to %q is not an object", key)
		}
		results[key] = values[i]
	}
	return results, nil
}
