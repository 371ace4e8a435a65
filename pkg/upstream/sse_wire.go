package upstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
	"github.com/mcphub-go/mcphub/pkg/sse"
)

// sseWire is a connection to a server over HTTP with server-sent events, the
// transport before Streamable HTTP: one stream on which the server says
// everything, answers too, and an endpoint for POSTs that it names first, see
// specification 2024-11-05, basic/transports. A stream that ended cannot be
// gone on with, so the connection ends with it.
type sseWire struct {
	spec     Spec
	conn     *Conn
	log      *slog.Logger
	client   *http.Client
	tel      *telemetry
	endpoint string        // where messages are POSTed to; set before ready is closed
	ready    chan struct{} // closed when the endpoint is known
	lost     chan struct{}
	once     sync.Once
	why      error // set before lost is closed

	life context.Context //nolint:containedctx // ends when the connection is lost, and with it the stream and the POSTs
	fail context.CancelCauseFunc

	mu      sync.Mutex
	loops   sync.WaitGroup // the stream and the POSTs of calls
	closed  bool           // no more loops
	version string
}

const (
	maxEndpoint  = 8 << 10     // bytes of the URI reference
	lateAccepted = time.Second // for the answer to a POST whose request was answered on the stream already
)

func newSSEWire(d dialer, c *Conn) *sseWire {
	w := &sseWire{spec: d.spec, conn: c, log: c.log, client: d.client, tel: d.tel,
		ready: make(chan struct{}), lost: make(chan struct{})}
	w.life, w.fail = context.WithCancelCause(context.Background())
	return w
}

// open starts to read the stream and waits for the endpoint. After an error
// the wire is lost and must be closed still. What the server says may need an
// answer over conn's wire, which has to be this one by then.
func (w *sseWire) open(ctx context.Context) error {
	w.background(func() { w.lose(w.read()) })
	select {
	case <-w.ready:
		return nil
	case <-w.lost:
		return w.why
	case <-ctx.Done():
	}
	cause := context.Cause(ctx)
	if !errors.Is(cause, ErrTimeout) && !errors.Is(cause, errConnectTimeout) {
		cause = fmt.Errorf("%w: %w", ErrCancelled, cause)
	}
	w.lose(cause)
	return cause
}

func (w *sseWire) done() <-chan struct{}  { return w.lost }
func (w *sseWire) err() error             { return w.why }
func (w *sseWire) bound() string          { return "" }
func (w *sseWire) listen(context.Context) {}

func (w *sseWire) negotiated(version string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.version = version
}

// lose ends the connection for the reason that comes first.
func (w *sseWire) lose(why error) {
	w.once.Do(func() {
		w.why = why
		close(w.lost)
		w.fail(fmt.Errorf("%w: %w", ErrLost, why))
		w.conn.lost()
	})
}

// background runs fn on a goroutine that close waits for, unless it is closed.
func (w *sseWire) background(fn func()) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.closed {
		w.loops.Go(fn)
	}
	return !w.closed
}

// close ends the stream, and for the server that is the end of the session.
func (w *sseWire) close(bool) {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.lose(errClosed)
	w.loops.Wait()
}

// read reads the stream to its end and says why it ended.
func (w *sseWire) read() error {
	response, err := w.do(w.life, http.MethodGet, w.spec.URL, nil)
	if err != nil {
		return transportError(w.life, err)
	}
	defer func() { _ = response.Body.Close() }()
	if err := isEventStream(response); err != nil {
		return err
	}
	events := sse.NewReader(response.Body, w.spec.maxMessage())
	if w.endpoint, err = w.first(events); err != nil {
		return err
	}
	close(w.ready)
	for {
		ev, err := events.Next()
		if err != nil {
			return streamEnd(readError(err))
		}
		w.take(ev)
	}
}

func streamEnd(err error) error {
	if errors.Is(err, io.EOF) {
		return errors.New("it closed its stream")
	}
	return fmt.Errorf("its stream ended: %w", err)
}

func isEventStream(response *http.Response) error {
	switch response.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		return refusesHub(response)
	}
	kind, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type"))
	if response.StatusCode != http.StatusOK || kind != protocol.TypeEventStream {
		return fmt.Errorf("%w: HTTP status %s, content type %s where a stream of events is due; check whether it speaks Streamable HTTP",
			ErrProtocol, status(response), knownType(kind))
	}
	return nil
}

// first reads the endpoint, which has to be the first thing that is said.
func (w *sseWire) first(events *sse.Reader) (string, error) {
	for {
		ev, err := events.Next()
		switch {
		case err != nil:
			return "", fmt.Errorf("%w: it named no endpoint: %w", ErrProtocol, streamEnd(readError(err)))
		case ev.Name == "endpoint":
			return resolveEndpoint(w.spec.URL, ev.Data)
		case len(ev.Data) > 0:
			return "", fmt.Errorf("%w: the first event on its stream names no endpoint; check whether it speaks Streamable HTTP", ErrProtocol)
		}
	}
}

// resolveEndpoint finds the URL that reference means on the stream of base. It
// has to be of the same origin: the configured headers are for nobody else.
func resolveEndpoint(base string, reference []byte) (string, error) {
	stream, err := url.Parse(base)
	if err != nil {
		return "", withoutURL(err)
	}
	endpoint, err := stream.Parse(string(reference))
	switch {
	case err != nil || len(reference) == 0 || len(reference) > maxEndpoint:
		return "", fmt.Errorf("%w: the endpoint that it names is no URL", ErrProtocol)
	case origin(endpoint) != origin(stream):
		return "", fmt.Errorf("%w: it names an endpoint of another origin, %.200q instead of %q; the configured headers must not go there",
			ErrProtocol, origin(endpoint), origin(stream))
	}
	endpoint.User = stream.User
	return endpoint.String(), nil
}

// origin is scheme, host and port, see RFC 6454 section 4.
func origin(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return u.Scheme + "://" + strings.ToLower(u.Hostname()) + ":" + port
}

// take takes what the server says to where it belongs.
func (w *sseWire) take(ev sse.Event) {
	if len(ev.Data) == 0 || (ev.Name != "" && ev.Name != "message") {
		return
	}
	m, err := jsonrpc.Parse(ev.Data)
	switch {
	case err != nil:
		w.log.Warn("the server sent an event that is no message", "bytes", len(ev.Data), "err", err)
	case m.Kind() == jsonrpc.Response:
		w.conn.deliver(m)
	default:
		w.conn.receive(nil, m)
	}
}

// do sends one HTTP request with everything that each of them carries.
func (w *sseWire) do(ctx context.Context, method, address string, body []byte) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(body))
	if err != nil {
		return nil, withoutURL(err)
	}
	w.tel.injectHeader(ctx, request.Header)
	for name, value := range w.spec.Headers {
		request.Header.Set(name, value)
	}
	if method == http.MethodPost {
		request.Header.Set("Content-Type", protocol.TypeJSON)
	} else {
		request.Header.Set("Accept", protocol.TypeEventStream)
	}
	w.mu.Lock()
	version := w.version
	w.mu.Unlock()
	if version != "" {
		request.Header.Set(protocol.HeaderProtocolVersion, version) // servers that negotiate 2025-06-18 may want it over any HTTP
	}
	response, err := w.client.Do(request)
	return response, withoutURL(err)
}

// call sends a request. Its answer comes on the stream, sometimes before that
// to the POST, which some servers give when they are done with the request.
func (w *sseWire) call(ctx context.Context, c *call, message []byte) (jsonrpc.Message, error) {
	pctx, giveUp := context.WithCancelCause(context.WithoutCancel(ctx))
	posted := make(chan error, 1)
	if !w.background(func() { defer giveUp(nil); posted <- w.send(pctx, message, nil) }) {
		giveUp(nil)
		return jsonrpc.Message{}, fmt.Errorf("%w: %w", ErrDown, errClosed)
	}
	select {
	case err := <-posted: // at once if the connection is lost
		if err != nil {
			return heard(c, err)
		}
	case m := <-c.reply:
		time.AfterFunc(lateAccepted, func() { giveUp(nil) }) // its TCP connection can be used again if it ends before
		return m, nil
	case <-ctx.Done():
		giveUp(context.Cause(ctx))
		return jsonrpc.Message{}, context.Cause(ctx)
	}
	select {
	case m := <-c.reply:
		return m, nil
	case <-ctx.Done():
		return jsonrpc.Message{}, context.Cause(ctx)
	case <-w.lost:
		return heard(c, fmt.Errorf("%w: %w", ErrLost, w.why))
	}
}

// heard returns the response to c if it is there, and err if not.
func heard(c *call, err error) (jsonrpc.Message, error) {
	select {
	case m := <-c.reply:
		return m, nil
	default:
		return jsonrpc.Message{}, err
	}
}

// send POSTs a message to the endpoint. What the answer says beside its status
// does not matter.
func (w *sseWire) send(ctx context.Context, message []byte, _ http.Header) error {
	select {
	case <-w.lost:
		return fmt.Errorf("%w: %w", ErrDown, w.why)
	default:
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(w.life, func() { cancel(context.Cause(w.life)) })()
	response, err := w.do(ctx, http.MethodPost, w.endpoint, message)
	if err != nil {
		return transportError(ctx, err)
	}
	defer discard(response)
	switch {
	case response.StatusCode/100 == 2:
		return nil
	case deniesStream(response, message):
		w.lose(ErrSessionGone)
		return ErrSessionGone
	case response.StatusCode == http.StatusUnauthorized, response.StatusCode == http.StatusForbidden:
		return refusesHub(response)
	}
	return fmt.Errorf("%w: HTTP status %s", ErrProtocol, status(response))
}

// deniesStream recognizes that the server does not know the session of the
// endpoint (any more), so that it has not taken the message. Some servers say
// so with 404, others with 400 and words. Words that may be the message's own,
// which clients choose, do not count.
func deniesStream(response *http.Response, message []byte) bool {
	switch response.StatusCode {
	case http.StatusNotFound, http.StatusGone:
		return !isUnknownMethod(response)
	case http.StatusBadRequest:
		body, err := io.ReadAll(io.LimitReader(response.Body, 4<<10))
		return err == nil && mentionsSession(body) && !mentionsSession(message) && !bytes.Contains(message, []byte(`\u`))
	}
	return false
}

func mentionsSession(text []byte) bool {
	return bytes.Contains(bytes.ToLower(text), []byte("session"))
}
