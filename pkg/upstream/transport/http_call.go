package transport

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"unicode/utf8"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
)

// Call implements Transport.
func (t *streamableHTTP) Call(ctx context.Context, call *Call, message []byte) (jsonrpc.Message, error) {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	defer context.AfterFunc(t.calls, func() { fail(context.Cause(t.calls)) })()
	// The context of the HTTP request is not cancelled when the call returns with its response, but after the rest of
	// the response has been drained: so the TCP connection can be used again.
	rctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, cancel)
	response, err := t.do(rctx, t.cfg.Clients.requests, http.MethodPost, message, "", call.Header)
	if err != nil {
		cancel()
		if !call.Tentative {
			t.loseIfGone(err)
		}
		return jsonrpc.Message{}, classify(ctx, err)
	}
	m, err := t.read(ctx, call, response)
	if err != nil || !stop() {
		cancel()
		discard(response)
		return m, err
	}
	if !t.start(func() { defer cancel(); discard(response) }) {
		cancel()
		discard(response)
	}
	return m, nil
}

// read reads the response to call, which is one JSON object or a stream.
func (t *streamableHTTP) read(ctx context.Context, call *Call, response *http.Response) (jsonrpc.Message, error) {
	call.Answer.Status = response.StatusCode
	kind := mediaType(response)
	ok := response.StatusCode == http.StatusOK
	if session := response.Header.Get(protocol.HeaderSessionID); call.Header != nil {
		t.giveBack(session)
	} else if err := t.adoptSession(session); ok && err != nil { // with a refusal, too, so that Close can end it
		return jsonrpc.Message{}, err
	}
	switch {
	case ok && kind == protocol.TypeEventStream:
		return t.readStream(ctx, call, response)
	case kind == protocol.TypeJSON:
		return t.readObject(ctx, call, response)
	}
	return jsonrpc.Message{}, fmt.Errorf("%w: %w", ErrProtocol, t.cfg.refusedBy(response, t.SessionID()))
}

// readObject reads a response that is one JSON object. An error status may come with a JSON-RPC error.
func (t *streamableHTTP) readObject(ctx context.Context, call *Call, response *http.Response) (jsonrpc.Message, error) {
	limit := t.cfg.MaxMessage
	body, err := call.Memory.ReadAll(io.LimitReader(response.Body, limit+1), response.ContentLength)
	switch {
	case isRefused(err):
		call.Answer.Status = 0 // the error is not of the server
		return dropped(call.ID, err), nil
	case err != nil:
		return jsonrpc.Message{}, classify(ctx, err)
	case int64(len(body)) > limit:
		return jsonrpc.Message{}, tooLong(limit)
	}
	m, u := t.responseIn(body, call)
	if m.Kind() == jsonrpc.Response && (m.Error != nil || m.Result != nil) {
		return m, nil
	}
	status := StatusError{Code: response.StatusCode, MediaType: protocol.TypeJSON}
	switch {
	case status.Code == http.StatusOK && u != nil:
		t.cfg.Unreadable(true)
		if len(u.IDs) > 0 {
			return jsonrpc.Message{}, UnreadableError(u)
		}
		return jsonrpc.Message{}, fmt.Errorf("%w: %w", UnreadableError(u), status) // perhaps it is no JSON-RPC on purpose
	case status.Code == http.StatusOK:
		return jsonrpc.Message{}, fmt.Errorf("%w: its answer is not a response to the request: %w", ErrProtocol, status)
	case status.Code/100 == 4:
		status.Said = t.cfg.reason(string(body[:min(len(body), maxReasonRead)]), status.MediaType, t.SessionID())
	}
	return jsonrpc.Message{}, fmt.Errorf("%w: %w", ErrProtocol, status)
}

// responseIn returns the response to call in the body of the answer to it, which may have other messages, too. The
// Message is empty if there is none; then u is what cannot be read, if anything.
func (t *streamableHTTP) responseIn(body []byte, call *Call) (response jsonrpc.Message, u *jsonrpc.Unreadable) {
	s := streamReader{t: t, call: call}
	switch m, err := jsonrpc.Parse(body); {
	case err == nil && m.Kind() != jsonrpc.Response: // alone, it is no answer
	case err == nil && m.Error == nil: // nearly always
		s.take(m)
	case err != nil && !utf8.Valid(body): // all of it is in another encoding: every character but ASCII would be lost
		u = &jsonrpc.Unreadable{IDs: []jsonrpc.ID{call.ID}, Reason: jsonrpc.AsError(err)}
	default:
		u = t.cfg.understand(body, s.take)
	}
	if s.hasResponse {
		return s.response, nil
	}
	return errorWithoutID(body), u
}

// errorWithoutID returns the error response in a body that lacks the id only. In the answer to a request it has one
// meaning. The Message is empty if there is none.
func errorWithoutID(body []byte) jsonrpc.Message {
	fields, err := jsonrpc.Fields(body, "id", "error", "result", "method")
	if err != nil || fields[0] != nil || fields[2] != nil || fields[3] != nil || len(fields[1]) == 0 || fields[1][0] != '{' {
		return jsonrpc.Message{}
	}
	return jsonrpc.Message{ID: jsonrpc.Null, Error: fields[1]}
}
