package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
)

// A connection to a modern server behaves towards legacy callers as one to a
// legacy server does: what is gone from the modern protocol is done here in the
// way that took its place.

// translate carries out a request of a legacy caller.
func (c *Conn) translate(ctx context.Context, req Request) (jsonrpc.Message, error) {
	switch req.Method {
	case protocol.MethodPing:
		response, err := c.call(ctx, Request{Method: protocol.MethodServerDiscover, stamped: true, identity: req.identity})
		if err == nil && response.Error != nil && c.spec.URL != "" && !fitsModern(response) {
			return jsonrpc.Message{}, serverError(c.spec.Name, errEra)
		}
		if err == nil && response.Error == nil {
			if readDiscovery(response.Result) == nil {
				return jsonrpc.Message{}, serverError(c.spec.Name, errEra)
			}
			response.Result = json.RawMessage(`{}`)
		}
		return response, err
	case protocol.MethodLoggingSetLevel:
		return c.setLevel(req)
	case protocol.MethodResourcesSubscribe, protocol.MethodResourcesUnsubscribe:
		return c.subscribe(ctx, req)
	case protocol.MethodSubscriptionsListen: // the hub does that, and where there is one connection for all, the end of one stream may be that of others
		return jsonrpc.Message{}, jsonrpc.Errorf(jsonrpc.CodeMethodNotFound, "there is no method %s in the protocol version of the client", req.Method)
	}
	req.stamped = true
	response, err := c.rounds(ctx, req)
	if err != nil {
		return response, err
	}
	return protocol.ToLegacy(req.Method, response), nil
}

// setLevel keeps the level that requests carry from now on.
func (c *Conn) setLevel(req Request) (jsonrpc.Message, error) {
	has, err := jsonrpc.Fields(c.init.Capabilities, "logging")
	if err != nil || has[0] == nil {
		return jsonrpc.Message{}, jsonrpc.Errorf(jsonrpc.CodeMethodNotFound, "the server has no log messages")
	}
	level, _ := jsonrpc.StringField(req.Params, "level")
	if !protocol.IsLogLevel(level) {
		return jsonrpc.Message{}, jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "unknown log level: %.32q", level)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.level = level
	return jsonrpc.Message{Result: json.RawMessage(`{}`)}, nil
}

func (c *Conn) logLevel() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.level
}

// The pauses before a request is sent again that the server put off.
const (
	firstPutOff = 100 * time.Millisecond
	maxPutOff   = 5 * time.Second
)

// rounds sends a request, has the caller answer what the server asks for, and
// sends it again with the answers, as often as the server wants and the time of
// a call lasts, specification 2026-07-28, basic/utilities/mrtr.
func (c *Conn) rounds(ctx context.Context, req Request) (jsonrpc.Message, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, c.spec.callTimeout(), ErrTimeout)
	defer cancel()
	defer context.AfterFunc(c.quit, cancel)()
	original := req.Params
	for putOff := firstPutOff; ; {
		response, err := c.call(ctx, req)
		if err != nil || response.Error != nil {
			return response, err
		}
		wanted, err := readWanted(response.Result)
		if err != nil {
			return jsonrpc.Message{}, serverError(c.spec.Name, fmt.Errorf("%w: %w", ErrProtocol, err))
		}
		if wanted == nil {
			return response, nil
		}
		asked := time.Now()
		answers, err := c.gather(ctx, req.Sink, wanted.questions)
		req.spend(asked)
		if err != nil {
			return jsonrpc.Message{}, err
		}
		if len(wanted.questions) == 0 {
			if err := pause(ctx, putOff+rand.N(putOff)); err != nil { //nolint:gosec // jitter
				return jsonrpc.Message{}, c.ended(ctx)
			}
			putOff = min(2*putOff, maxPutOff)
		}
		if req.Params, err = jsonrpc.Rewrite(original, jsonrpc.Edit{Name: "inputResponses", Value: answers},
			jsonrpc.Edit{Name: "requestState", Value: wanted.state}); err != nil {
			return jsonrpc.Message{}, jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "invalid params: %v", err)
		}
	}
}

// wanted is what a server wants to know before it goes on with a request.
type wanted struct {
	questions map[string]question
	state     json.RawMessage // nil: there is none, and none must be sent
}

type question struct {
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
}

// readWanted returns nil if result is complete. No resultType means that, too.
func readWanted(result json.RawMessage) (*wanted, error) {
	fields, err := jsonrpc.Fields(result, "resultType", "inputRequests", "requestState")
	if err != nil {
		return nil, errors.New("its result is no object")
	}
	switch string(fields[0]) {
	case "", `"complete"`:
		return nil, nil //nolint:nilnil // see above
	case `"input_required"`:
	default:
		return nil, errors.New("unknown resultType")
	}
	w := &wanted{state: fields[2]}
	if string(w.state) == "null" {
		w.state = nil
	}
	if fields[1] != nil && json.Unmarshal(fields[1], &w.questions) != nil {
		return nil, errors.New("its inputRequests are no object of requests")
	}
	if len(w.questions) == 0 && w.state == nil {
		return nil, errors.New("it requires input and does not say which")
	}
	for key, q := range w.questions {
		if string(q.Params) == "null" {
			q.Params = nil
			w.questions[key] = q
		}
		if q.Method == "" || (q.Params != nil && q.Params[0] != '{') {
			return nil, errors.New("one of its inputRequests is no request")
		}
	}
	if len(w.questions) > maxQuestions {
		return nil, fmt.Errorf("it asks more than %d questions at once", maxQuestions)
	}
	return w, nil
}

// gather has sink answer the questions, all at the same time.
func (c *Conn) gather(ctx context.Context, sink Sink, questions map[string]question) (json.RawMessage, error) {
	if len(questions) == 0 {
		return nil, nil
	}
	if sink == nil {
		sink = c.sink
	}
	results := make([]json.RawMessage, 0, len(questions))
	keys := make([]string, 0, len(questions))
	for key := range questions {
		keys, results = append(keys, key), append(results, nil)
	}
	group, gctx := errgroup.WithContext(ctx)
	for i, key := range keys {
		q := questions[key]
		group.Go(func() error {
			result, err := sink.Ask(gctx, jsonrpc.Message{ID: "0", Method: q.Method, Params: q.Params})
			results[i] = result
			return err
		})
	}
	if err := group.Wait(); err != nil {
		if ctx.Err() != nil {
			return nil, c.ended(ctx)
		}
		e := jsonrpc.AsError(err)
		return nil, jsonrpc.Errorf(jsonrpc.CodeInternal, "the server needs an answer of the client, and there is none: %s", e.Message)
	}
	edits := make([]jsonrpc.Edit, len(keys))
	for i, key := range keys {
		edits[i] = jsonrpc.Edit{Name: key, Value: results[i]}
	}
	return jsonrpc.Rewrite(nil, edits...)
}

// ended says why nobody waits any more for what took several requests.
func (c *Conn) ended(ctx context.Context) error {
	cause := context.Cause(ctx)
	switch {
	case c.quit.Err() != nil:
		cause = fmt.Errorf("%w: %w", ErrLost, errClosed)
	case !errors.Is(cause, ErrTimeout) && !errors.Is(cause, errConnectTimeout):
		cause = fmt.Errorf("%w: %w", ErrCancelled, cause)
	}
	return serverError(c.spec.Name, cause)
}

// takes reports whether a modern server has a use for a notification. By HTTP
// a request is cancelled by closing its stream.
func (c *Conn) takes(method string) bool {
	switch method {
	case protocol.MethodInitialized, protocol.MethodRootsListChanged:
		return false
	case protocol.MethodCancelled:
		return c.spec.URL == ""
	}
	return true
}
