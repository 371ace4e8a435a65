package transport

import (
	"context"
	"fmt"
	"io"
	"net/http"

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
		return jsonrpc.Message{}, classify(ctx, err)
	}
	m, err := t.read(ctx, call, message, response)
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
func (t *streamableHTTP) read(ctx context.Context, call *Call, message []byte, response *http.Response) (jsonrpc.Message, error) {
	kind := mediaType(response)
	ok := response.StatusCode == http.StatusOK
	if ok && call.Header == nil { // requests of the modern era have no session
		if err := t.adoptSession(response.Header.Get(protocol.HeaderSessionID)); err != nil {
			return jsonrpc.Message{}, err
		}
	}
	switch {
	case ok && kind == protocol.TypeEventStream:
		return t.readStream(ctx, call, response)
	case kind == protocol.TypeJSON:
		m, err := t.readObject(ctx, call, response)
		if err == nil && response.StatusCode == http.StatusBadRequest && t.deniesSession(m, message) {
			t.lose(ErrSessionGone)
			return jsonrpc.Message{}, ErrSessionGone
		}
		if ok || err == nil { // an error status may come with a JSON-RPC error
			return m, err
		}
	}
	if err := hubRefused(response); err != nil {
		return jsonrpc.Message{}, err
	}
	return jsonrpc.Message{}, fmt.Errorf("%w: %w", ErrProtocol, StatusError{response.StatusCode, kind})
}

// deniesSession recognizes servers that answer an unknown session with 400 and an error with the id null, where the
// specification demands 404: some SDKs have done so. The word "session" does not count if it may be a quotation of the
// request: clients choose its text.
func (t *streamableHTTP) deniesSession(m jsonrpc.Message, message []byte) bool {
	return t.SessionID() != "" && m.ID == jsonrpc.Null && m.Error != nil &&
		mentionsSession([]byte(jsonrpc.ParseError(m.Error).Message)) && !mayMentionSession(message)
}

// adoptSession keeps the session that the server gives with its answer to initialize. It may not give another later:
// the store of session ids would not learn of it.
func (t *streamableHTTP) adoptSession(session string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if session == "" || t.session != "" || t.version != "" {
		return nil
	}
	for _, c := range []byte(session) {
		if c < 0x21 || c > 0x7e || len(session) > maxSessionID {
			return fmt.Errorf("%w: it gave an unusable session id", ErrProtocol)
		}
	}
	t.session = session
	return nil
}

func (t *streamableHTTP) readObject(ctx context.Context, call *Call, response *http.Response) (jsonrpc.Message, error) {
	limit := t.cfg.MaxMessage
	body, err := call.Memory.ReadAll(io.LimitReader(response.Body, limit+1), response.ContentLength)
	switch {
	case isRefused(err):
		return dropped(call.ID, err), nil
	case err != nil:
		return jsonrpc.Message{}, classify(ctx, err)
	case int64(len(body)) > limit:
		return jsonrpc.Message{}, tooLong(limit)
	}
	m, err := jsonrpc.Parse(body)
	if err != nil || m.Kind() != jsonrpc.Response || (m.ID != call.ID && (m.ID != jsonrpc.Null || m.Error == nil)) {
		return jsonrpc.Message{}, fmt.Errorf("%w: its answer is not a response to the request", ErrProtocol)
	}
	return m, nil
}
