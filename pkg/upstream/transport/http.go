package transport

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
)

// maxSessionID bounds the id of a session, in bytes.
const maxSessionID = 1024

// streamableHTTP is a session with a server over Streamable HTTP, see specification 2025-11-25, basic/transports,
// streamable HTTP. Requests of the modern era have no session.
type streamableHTTP struct {
	*lifetime // of the GET stream and of response bodies that are being drained
	cfg       Config

	calls context.Context //nolint:containedctx // ends with Close, and with it the calls under way
	fail  context.CancelCauseFunc

	mu      sync.Mutex
	session string
	version string
}

func newStreamableHTTP(cfg Config) *streamableHTTP {
	t := &streamableHTTP{lifetime: newLifetime(cfg.Handler.Lost), cfg: cfg, session: cfg.SessionID}
	t.calls, t.fail = context.WithCancelCause(context.Background())
	return t
}

// Start implements Transport. HTTP connects with each request.
func (t *streamableHTTP) Start(context.Context) error { return nil }

// SessionID implements Transport.
func (t *streamableHTTP) SessionID() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.session
}

// SetVersion implements Transport.
func (t *streamableHTTP) SetVersion(version string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.version = version
}

// Close implements Transport.
func (t *streamableHTTP) Close(endSession bool) {
	t.refuse()
	if !t.isLost() {
		t.lose(ErrClosed)
		t.fail(fmt.Errorf("%w: %w", ErrLost, ErrClosed))
		if endSession && t.SessionID() != "" {
			t.deleteSession()
		}
	} // If the session is gone, each call under way gets 404 itself, and its caller may repeat it.
	t.wait()
}

// deleteSession ends the server's session. Servers may refuse.
func (t *streamableHTTP) deleteSession() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	response, err := t.do(ctx, t.cfg.Clients.noBody, http.MethodDelete, nil, "", nil)
	if err != nil {
		t.cfg.Log.DebugContext(ctx, "the server's session could not be ended", "err", err)
		return
	}
	discard(response)
}

// do sends one HTTP request with the headers that all requests have. LastEventID resumes a stream; extra are the
// headers of one request.
func (t *streamableHTTP) do(ctx context.Context, client *http.Client, method string, body []byte, lastEventID string,
	extra http.Header) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, method, t.cfg.URL, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	t.cfg.setHeaders(ctx, request.Header)
	switch method {
	case http.MethodPost:
		request.Header.Set("Content-Type", protocol.TypeJSON)
		request.Header.Set("Accept", protocol.TypeJSON+", "+protocol.TypeEventStream)
	case http.MethodGet:
		request.Header.Set("Accept", protocol.TypeEventStream)
	}
	if lastEventID != "" {
		request.Header.Set(protocol.HeaderLastEventID, lastEventID)
	}
	t.mu.Lock()
	session, version := t.session, t.version
	t.mu.Unlock()
	if session != "" {
		request.Header.Set(protocol.HeaderSessionID, session)
	}
	if version != "" {
		request.Header.Set(protocol.HeaderProtocolVersion, version)
	}
	for name, values := range extra {
		// Clients choose Mcp-Param-* headers: they must not replace configured ones.
		if configured := request.Header[name] != nil; !configured || !strings.HasPrefix(name, protocol.HeaderParamPrefix) {
			request.Header[name] = values
		}
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, withoutURL(err)
	}
	if t.cfg.HTTPVersion != nil {
		t.cfg.HTTPVersion(ctx, response.ProtoMajor, response.ProtoMinor)
	}
	if response.StatusCode == http.StatusNotFound && session != "" && !(method == http.MethodPost && isUnknownMethod(response)) {
		discard(response)
		if method != http.MethodGet { // some servers have no GET at all
			t.lose(ErrSessionGone)
		}
		return nil, ErrSessionGone
	}
	return response, nil
}

// isUnknownMethod recognizes a 404 that is not about the session: some servers answer an unknown method with it and a
// JSON-RPC error. The body can still be read afterwards.
func isUnknownMethod(response *http.Response) bool {
	if mediaType(response) != protocol.TypeJSON {
		return false
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	_ = response.Body.Close()
	response.Body = io.NopCloser(bytes.NewReader(body))
	if err != nil {
		return false
	}
	m, err := jsonrpc.Parse(body)
	return err == nil && m.Error != nil && m.ID != jsonrpc.Null && jsonrpc.ParseError(m.Error).Code == jsonrpc.CodeMethodNotFound
}

func mediaType(response *http.Response) string {
	kind, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type"))
	return kind
}

// Send implements Transport.
func (t *streamableHTTP) Send(ctx context.Context, message []byte, header http.Header) error {
	response, err := t.do(ctx, t.cfg.Clients.noBody, http.MethodPost, message, "", header)
	if err != nil {
		return classify(ctx, err)
	}
	defer discard(response)
	if response.StatusCode/100 != 2 {
		return fmt.Errorf("%w: HTTP status %s", ErrProtocol, statusText(response.StatusCode))
	}
	return nil
}

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
// whoever stores the session id would not learn of it.
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
	body, err := io.ReadAll(io.LimitReader(response.Body, limit+1))
	switch {
	case err != nil:
		return jsonrpc.Message{}, classify(ctx, err)
	case int64(len(body)) > limit:
		return jsonrpc.Message{}, tooLong(limit)
	}
	m, err := jsonrpc.Parse(body)
	if err != nil || m.Kind() != jsonrpc.Response || (m.ID != call.ID && (m.ID != jsonrpc.Null || m.Error == nil)) {
		return jsonrpc.Message{}, fmt.Errorf("%w: its answer is no response to the request", ErrProtocol)
	}
	return m, nil
}
