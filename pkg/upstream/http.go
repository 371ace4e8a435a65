package upstream

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
)

// The header names of Streamable HTTP, see specification 2025-11-25,
// basic/transports, streamable HTTP.
const (
	maxSessionID   = 1024 // bytes
	maxResumptions = 8    // attempts in a row to go on with a broken stream

	minRetry = 100 * time.Millisecond // between streams, whatever the server wishes
)

// httpWire is a session with a server over Streamable HTTP.
type httpWire struct {
	spec   Spec
	conn   *Conn
	log    *slog.Logger
	client *http.Client // for requests
	aside  *http.Client // for what has no response, see dialer
	tel    *telemetry
	loops  sync.WaitGroup // listen and the drains
	lost   chan struct{}
	once   sync.Once
	why    error // set before lost is closed

	calls context.Context //nolint:containedctx // ends with the session, and with it the calls under way
	fail  context.CancelCauseFunc

	mu      sync.Mutex
	session string
	version string
	closed  bool
}

func newHTTPWire(d dialer, c *Conn, session string) *httpWire {
	w := &httpWire{spec: d.spec, conn: c, log: c.log, client: d.client, aside: d.aside, tel: d.tel, session: session,
		lost: make(chan struct{})}
	w.calls, w.fail = context.WithCancelCause(context.Background())
	return w
}

// newHTTPClient makes the client that all connections to one server share. It
// follows no redirects: they could carry the configured headers to a stranger.
func newHTTPClient() *http.Client {
	t := http.DefaultTransport.(*http.Transport).Clone() //nolint:forcetypeassert // documented
	t.MaxIdleConns, t.MaxIdleConnsPerHost = 0, 64
	t.IdleConnTimeout = 4 * time.Second // shorter than servers keep them: Node.js closes after 5 s, maybe under a request
	return &http.Client{
		Transport:     t,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

func (w *httpWire) done() <-chan struct{} { return w.lost }
func (w *httpWire) err() error            { return w.why }

func (w *httpWire) bound() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.session
}

func (w *httpWire) negotiated(version string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.version = version
}

func (w *httpWire) lose(why error) {
	w.once.Do(func() {
		w.why = why
		close(w.lost)
		w.conn.lost()
	})
}

// background runs fn on a goroutine that close waits for, unless it is closed.
func (w *httpWire) background(fn func()) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.closed {
		w.loops.Go(fn)
	}
	return !w.closed
}

func (w *httpWire) close(end bool) {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	gone := false
	select {
	case <-w.lost: // the calls under way will be told so themselves, and may be repeated
		gone = true
	default:
		w.lose(errClosed)
		w.fail(fmt.Errorf("%w: %w", ErrLost, errClosed))
	}
	if end && !gone && w.bound() != "" {
		w.delete()
	}
	w.loops.Wait()
}

// delete tells the server that its session is over. Servers may refuse.
func (w *httpWire) delete() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	response, err := w.do(ctx, w.aside, http.MethodDelete, nil, "", nil)
	if err != nil {
		w.log.DebugContext(ctx, "the server's session could not be ended", "err", err)
		return
	}
	discard(response)
}

// do sends one HTTP request with everything that each of them carries.
func (w *httpWire) do(ctx context.Context, client *http.Client, method string, body []byte, resume string, extra http.Header) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, method, w.spec.URL, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	w.tel.injectHeader(ctx, request.Header)
	for name, value := range w.spec.Headers {
		request.Header.Set(name, value)
	}
	switch method {
	case http.MethodPost:
		request.Header.Set("Content-Type", protocol.TypeJSON)
		request.Header.Set("Accept", protocol.TypeJSON+", "+protocol.TypeEventStream)
	case http.MethodGet:
		request.Header.Set("Accept", protocol.TypeEventStream)
	}
	if resume != "" {
		request.Header.Set(protocol.HeaderLastEventID, resume)
	}
	w.mu.Lock()
	session, version := w.session, w.version
	w.mu.Unlock()
	if session != "" {
		request.Header.Set(protocol.HeaderSessionID, session)
	}
	if version != "" {
		request.Header.Set(protocol.HeaderProtocolVersion, version)
	}
	for name, values := range extra {
		if configured := request.Header[name] != nil; !configured || !strings.HasPrefix(name, protocol.HeaderParamPrefix) { // clients choose those
			request.Header[name] = values
		}
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, withoutURL(err)
	}
	answeredBy(ctx, response.ProtoMajor, response.ProtoMinor)
	if response.StatusCode == http.StatusNotFound && session != "" && !(method == http.MethodPost && isUnknownMethod(response)) {
		discard(response)
		if method != http.MethodGet { // there are servers that have no GET at all
			w.lose(ErrSessionGone)
		}
		return nil, ErrSessionGone
	}
	return response, nil
}

// isUnknownMethod recognizes a 404 that is not about the session: some servers
// answer a method that they do not know so, with a JSON-RPC error. The body can
// still be read afterwards.
func isUnknownMethod(response *http.Response) bool {
	if kind, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type")); kind != protocol.TypeJSON {
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

// withoutURL drops the URL from the error of an HTTP client, which may well have
// a secret in it, and what it repeats of an answer.
func withoutURL(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return plain(e.Err)
	}
	return err
}

// transportError sorts the failure of an HTTP request into the errors of this
// package. What failed to connect was not dispatched.
func transportError(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, ErrSessionGone):
		return err
	case isUndispatched(err):
		return fmt.Errorf("%w: %w", ErrDown, err)
	}
	return fmt.Errorf("%w: %w", ErrLost, err)
}

// isUndispatched reports whether an HTTP request failed before a connection was there
// to send it over.
func isUndispatched(err error) bool {
	if op, ok := errors.AsType[*net.OpError](err); ok && (op.Op == "dial" || op.Op == "proxyconnect") {
		return true
	}
	_, untrusted := errors.AsType[*tls.CertificateVerificationError](err)
	_, noTLS := errors.AsType[tls.RecordHeaderError](err)
	return untrusted || noTLS || errors.Is(err, http.ErrSchemeMismatch)
}

// status is the HTTP status of a response in the words of the standard, not in
// those of the server.
func status(response *http.Response) string { return statusText(response.StatusCode) }

func statusText(code int) string {
	return strings.TrimSpace(fmt.Sprintf("%d %s", code, http.StatusText(code)))
}

// refusesHub is the error of a response with status 401 or 403.
func refusesHub(response *http.Response) error {
	return fmt.Errorf("%w: it refuses the hub with HTTP status %s; check the headers configured for it", ErrProtocol, status(response))
}

func (w *httpWire) send(ctx context.Context, message []byte, header http.Header) error {
	response, err := w.do(ctx, w.aside, http.MethodPost, message, "", header)
	if err != nil {
		return transportError(ctx, err)
	}
	defer discard(response)
	if response.StatusCode/100 != 2 {
		return fmt.Errorf("%w: HTTP status %s", ErrProtocol, status(response))
	}
	return nil
}

func (w *httpWire) call(ctx context.Context, c *call, message []byte) (jsonrpc.Message, error) {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	defer context.AfterFunc(w.calls, func() { fail(context.Cause(w.calls)) })()
	// The request outlives ctx by the moment that the end of its stream takes,
	// so that the TCP connection can be used again.
	rctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, cancel)
	response, err := w.do(rctx, w.client, http.MethodPost, message, "", c.header)
	if err != nil {
		cancel()
		return jsonrpc.Message{}, transportError(ctx, err)
	}
	m, err := w.answer(ctx, c, message, response)
	if err != nil || !stop() {
		cancel()
		discard(response)
		return m, err
	}
	if !w.background(func() { defer cancel(); discard(response) }) {
		cancel()
		discard(response)
	}
	return m, nil
}

// answer reads the response to c, be it one object or a stream.
func (w *httpWire) answer(ctx context.Context, c *call, message []byte, response *http.Response) (jsonrpc.Message, error) {
	kind, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type"))
	ok := response.StatusCode == http.StatusOK
	if ok && c.header == nil { // modern requests have no session
		if err := w.adopt(response.Header.Get(protocol.HeaderSessionID)); err != nil {
			return jsonrpc.Message{}, err
		}
	}
	switch {
	case ok && kind == protocol.TypeEventStream:
		return w.stream(ctx, c, response)
	case kind == protocol.TypeJSON:
		m, err := w.object(ctx, c, response)
		if err == nil && response.StatusCode == http.StatusBadRequest && w.deniesSession(m, message) {
			w.lose(ErrSessionGone)
			return jsonrpc.Message{}, ErrSessionGone
		}
		if ok || err == nil { // an error status may come with a JSON-RPC error
			return m, err
		}
	}
	switch response.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		return jsonrpc.Message{}, refusesHub(response)
	}
	return jsonrpc.Message{}, fmt.Errorf("%w: %w", ErrProtocol, statusError{response.StatusCode, kind})
}

// statusError is an answer that is no JSON-RPC.
type statusError struct {
	code int
	kind string // its media type
}

func (e statusError) Error() string {
	return fmt.Sprintf("HTTP status %s, content type %s", statusText(e.code), knownType(e.kind))
}

// knownType is a media type, in quotes, or in words where it is one that nobody
// would choose but to say something with it.
func knownType(kind string) string {
	switch kind {
	case "", "text/html", "text/plain", "text/xml", "application/xml", "application/octet-stream", "application/problem+json", protocol.TypeJSON, protocol.TypeEventStream:
		return strconv.Quote(kind)
	}
	return "unusual"
}

// deniesSession recognizes servers that answer an unknown session with 400 and
// an error to no request, where the standard says 404: some SDKs have done so.
// Words that may be the request's own, which clients choose, do not count.
func (w *httpWire) deniesSession(m jsonrpc.Message, message []byte) bool {
	return w.bound() != "" && m.ID == jsonrpc.Null && m.Error != nil && mentionsSession([]byte(jsonrpc.ParseError(m.Error).Message)) &&
		!mentionsSession(message) && !bytes.Contains(message, []byte(`\u`))
}

// adopt takes the session that the server gives with its answer to initialize.
// Later it may not give another: whoever keeps the session would not know.
func (w *httpWire) adopt(session string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if session == "" || w.session != "" || w.version != "" {
		return nil
	}
	for _, c := range []byte(session) {
		if c < 0x21 || c > 0x7e || len(session) > maxSessionID {
			return fmt.Errorf("%w: it gave an unusable session id", ErrProtocol)
		}
	}
	w.session = session
	return nil
}

func (w *httpWire) object(ctx context.Context, c *call, response *http.Response) (jsonrpc.Message, error) {
	limit := w.spec.maxMessage()
	body, err := io.ReadAll(io.LimitReader(response.Body, limit+1))
	switch {
	case err != nil:
		return jsonrpc.Message{}, transportError(ctx, err)
	case int64(len(body)) > limit:
		return jsonrpc.Message{}, fmt.Errorf("%w: %w: more than %d bytes", ErrProtocol, errTooLong, limit)
	}
	m, err := jsonrpc.Parse(body)
	if err != nil || m.Kind() != jsonrpc.Response || (m.ID != c.id && (m.ID != jsonrpc.Null || m.Error == nil)) {
		return jsonrpc.Message{}, fmt.Errorf("%w: its answer is no response to the request", ErrProtocol)
	}
	return m, nil
}

// pause waits for d or until ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// discard reads the little that may be left of a response, for no longer than
// a second, so that its TCP connection can be used again, and closes it.
func discard(response *http.Response) {
	timer := time.AfterFunc(time.Second, func() { _ = response.Body.Close() })
	defer timer.Stop()
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, 64<<10))
	_ = response.Body.Close()
}

// unknownMethod recognizes how some servers refuse a method that they do not
// know: with an HTTP status alone.
func unknownMethod(method string, err error) error {
	refused, ok := errors.AsType[statusError](err)
	if !ok || instrument.MethodLabel(method) != instrument.Other || refused.code/100 != 4 {
		return err
	}
	return jsonrpc.Errorf(jsonrpc.CodeMethodNotFound, "does not know the method %.64q: it answered with HTTP status %s", method, statusText(refused.code))
}
