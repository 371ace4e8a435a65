package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/upstream/transport"
)

// The limits of the rounds of one call.
const (
	maxQuestionRounds = 100 // in which the server asks something
	quickRounds       = 10  // of them without a pause
	firstRoundPause   = 100 * time.Millisecond
	maxRoundPause     = 5 * time.Second
)

// rounds are the rounds of one call so far.
type rounds struct {
	asked  int // in which the server asked something
	pauses transport.Backoff
}

func newRounds() *rounds {
	return &rounds{pauses: transport.Backoff{First: firstRoundPause, Max: maxRoundPause, Jitter: 1}}
}

// next returns the pause before the next round, after one with questions or without. It is an error if the server may
// ask no more.
func (r *rounds) next(questions bool) (time.Duration, error) {
	if questions {
		r.asked++
	}
	switch {
	case r.asked > maxQuestionRounds:
		return 0, fmt.Errorf("%w: it asked for input in more than %d rounds of one call", transport.ErrProtocol, maxQuestionRounds)
	case questions && r.asked <= quickRounds: // who answers makes the pause
		return 0, nil
	}
	return r.pauses.Next(), nil
}

// multiRoundCall sends a request. While the server answers that it requires input, it has the caller answer the
// server's requests and sends the request again with the answers, until the timeout of the call or maxQuestionRounds,
// specification 2026-07-28, basic/utilities/mrtr.
func (d *modernDialect) multiRoundCall(ctx context.Context, req Request) (jsonrpc.Message, error) {
	ctx, cancel := d.withCallTimeout(ctx)
	defer cancel()
	original := req.Params
	rounds := newRounds()
	for {
		response, err := d.conn.roundTrip(ctx, d, req)
		if err != nil || response.Error != nil {
			return response, err
		}
		required, err := parseInputRequired(response.Result)
		if err != nil {
			return jsonrpc.Message{}, serverError(d.conn.spec.Name, fmt.Errorf("%w: %w", transport.ErrProtocol, err))
		}
		if required == nil {
			return response, nil
		}
		pause, err := rounds.next(len(required.requests) > 0)
		if err != nil {
			return jsonrpc.Message{}, serverError(d.conn.spec.Name, err)
		}
		start := time.Now()
		answers, err := d.collectInput(ctx, req.Sink, required.requests)
		req.addSpent(start)
		if err != nil {
			return jsonrpc.Message{}, err
		}
		if pause > 0 && transport.Pause(ctx, pause) != nil {
			return jsonrpc.Message{}, d.callEnded(ctx)
		}
		if req.Params, err = jsonrpc.Rewrite(original, jsonrpc.Edit{Name: "inputResponses", Value: answers},
			jsonrpc.Edit{Name: "requestState", Value: required.state}); err != nil {
			return jsonrpc.Message{}, jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "invalid params: %v", err)
		}
	}
}

// inputRequired is an answer by which the server requires input before it carries out a request.
type inputRequired struct {
	requests map[string]inputRequest
	state    json.RawMessage // nil: there is none, and none may be sent
}

// inputRequest is a server request in an answer.
type inputRequest struct {
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
}

// parseInputRequired returns nil if result is complete. A result without resultType is.
func parseInputRequired(result json.RawMessage) (*inputRequired, error) {
	fields, err := jsonrpc.Fields(result, "resultType", "inputRequests", "requestState")
	if err != nil {
		return nil, errors.New("its result is not an object")
	}
	switch string(fields[0]) {
	case "", `"complete"`:
		return nil, nil //nolint:nilnil // see above
	case `"input_required"`:
	default:
		return nil, errors.New("unknown resultType")
	}
	r := &inputRequired{state: fields[2]}
	if string(r.state) == "null" {
		r.state = nil
	}
	if fields[1] != nil && json.Unmarshal(fields[1], &r.requests) != nil {
		return nil, errors.New("its inputRequests are not an object of requests")
	}
	if len(r.requests) == 0 && r.state == nil {
		return nil, errors.New("it requires input and has neither inputRequests nor requestState")
	}
	for key, request := range r.requests {
		if string(request.Params) == "null" {
			request.Params = nil
			r.requests[key] = request
		}
		if request.Method == "" || (request.Params != nil && request.Params[0] != '{') {
			return nil, errors.New("one of its inputRequests is not a request")
		}
	}
	if len(r.requests) > maxServerRequests {
		return nil, fmt.Errorf("it has more than %d inputRequests at once", maxServerRequests)
	}
	return r, nil
}

// collectInput has sink, or that of the connection if it is nil, answer the requests, all at the same time.
func (d *modernDialect) collectInput(ctx context.Context, sink Sink, requests map[string]inputRequest) (json.RawMessage, error) {
	if len(requests) == 0 {
		return nil, nil
	}
	if sink == nil {
		sink = d.conn.sink
	}
	keys := make([]string, 0, len(requests))
	for key := range requests {
		keys = append(keys, key)
	}
	answers := make([]jsonrpc.Edit, len(keys))
	group, groupCtx := errgroup.WithContext(ctx)
	for i, key := range keys {
		group.Go(func() error {
			result, err := sink.Ask(groupCtx, jsonrpc.Message{ID: "0", Method: requests[key].Method, Params: requests[key].Params})
			answers[i] = jsonrpc.Edit{Name: key, Value: result}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		if ctx.Err() != nil {
			return nil, d.callEnded(ctx)
		}
		return nil, jsonrpc.Errorf(jsonrpc.CodeInternal, "the server requires an answer of the client, which failed: %s",
			jsonrpc.AsError(err).Message)
	}
	return jsonrpc.Rewrite(nil, answers...)
}
