package transport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"sync"
	"time"

	"github.com/mcphub-go/mcphub/pkg/budget"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
	"github.com/mcphub-go/mcphub/pkg/sse"
)

// httpSSE is a connection to a server over HTTP with server-sent events, the transport before Streamable HTTP, see
// specification 2024-11-05, basic/transports. One stream has all messages of the server. Its first event names the
// endpoint to which messages are POSTed. The stream cannot be resumed, so the connection ends with it.
type httpSSE struct {
	*lifetime // of the stream and of the POSTs of calls
	cfg       Config
	endpoint  string        // set before ready is closed
	ready     chan struct{} // closed when the endpoint is known

	connected context.Context //nolint:containedctx // ends when the connection is lost, and with it the stream and the POSTs
	fail      context.CancelCauseFunc

	mu      sync.Mutex
	version string
}

const (
	maxEndpoint     = 8 << 10     // bytes of the URI reference
	minPathID       = 16          // bytes of a part of a path that may be the id of a session
	latePOSTTimeout = time.Second // for the answer to the POST of a request whose response has arrived on the stream
)

func newHTTPSSE(cfg Config) *httpSSE {
	t := &httpSSE{cfg: cfg, ready: make(chan struct{})}
	t.connected, t.fail = context.WithCancelCause(context.Background())
	t.lifetime = newLifetime(func(reason error) {
		t.fail(fmt.Errorf("%w: %w", ErrLost, reason))
		cfg.Handler.Lost(reason)
	})
	return t
}

// Start implements Transport. It opens the stream and waits for the endpoint.
func (t *httpSSE) Start(ctx context.Context) error {
	t.start(func() { t.lose(t.readStream()) })
	select {
	case <-t.ready:
		return nil
	case <-t.done:
		return t.reason
	case <-ctx.Done():
	}
	cause := CauseOf(ctx)
	t.lose(cause)
	return cause
}

// SessionID implements Transport. The id of the session is a part of the endpoint and cannot be used again.
func (t *httpSSE) SessionID() string { return "" }

// Listen implements Transport. The one stream is open already.
func (t *httpSSE) Listen(context.Context) {}

// SetVersion implements Transport.
func (t *httpSSE) SetVersion(version string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.version = version
}

// Close implements Transport. The end of the stream ends the server's session.
func (t *httpSSE) Close(bool) {
	t.refuse()
	t.lose(ErrClosed)
	t.wait()
}

// readStream reads the stream and returns why it ended.
func (t *httpSSE) readStream() error {
	response, err := t.do(t.connected, http.MethodGet, t.cfg.URL, nil)
	if err != nil {
		return classify(t.connected, err)
	}
	defer func() { _ = response.Body.Close() }()
	if err := checkEventStream(response); err != nil {
		return err
	}
	events := sse.NewReader(response.Body, t.cfg.MaxMessage)
	if t.endpoint, err = readEndpoint(response.Request.URL, events); err != nil {
		return err
	}
	close(t.ready)
	var reading budget.Hold // for the event that was read last
	reading.On(t.cfg.Memory)
	defer reading.Release()
	events.Reserve(reserve(&reading, t.cfg.Own, t.done))
	for {
		reading.Release()
		if t.cfg.Own {
			t.cfg.Memory.Wait(t.connected, t.done)
		}
		ev, err := events.Next()
		if err != nil {
			return streamEnd(err)
		}
		t.handle(ev)
	}
}

func streamEnd(err error) error {
	if errors.Is(err, io.EOF) {
		return errors.New("it closed its stream")
	}
	return fmt.Errorf("its stream ended: %w", eventError(err))
}

func checkEventStream(response *http.Response) error {
	kind := mediaType(response)
	if status := (StatusError{Code: response.StatusCode, MediaType: kind}); status.RefusesCredentials() {
		return fmt.Errorf("%w: %w", ErrProtocol, status)
	}
	if response.StatusCode != http.StatusOK || kind != protocol.TypeEventStream {
		return fmt.Errorf("%w: HTTP status %s, content type %s where a stream of events is due; check whether it speaks Streamable HTTP",
			ErrProtocol, statusText(response.StatusCode), mediaTypeText(kind))
	}
	return nil
}

// readEndpoint reads the endpoint, which must come with the first event of the stream.
func readEndpoint(stream *url.URL, events *sse.Reader) (string, error) {
	for {
		ev, err := events.Next()
		switch {
		case err != nil:
			return "", fmt.Errorf("%w: it named no endpoint: %w", ErrProtocol, streamEnd(err))
		case ev.Name == "endpoint":
			return resolveEndpoint(stream, ev.Data)
		case len(ev.Data) > 0:
			return "", fmt.Errorf("%w: the first event on its stream names no endpoint; check whether it speaks Streamable HTTP", ErrProtocol)
		}
	}
}

// resolveEndpoint resolves reference against the URL of the stream. Both must have the same origin: the configured
// headers must not go to another host.
func resolveEndpoint(stream *url.URL, reference []byte) (string, error) {
	endpoint, err := stream.Parse(string(reference))
	switch {
	case err != nil || len(reference) == 0 || len(reference) > maxEndpoint:
		return "", fmt.Errorf("%w: the endpoint that it names is not a valid URL", ErrProtocol)
	case origin(endpoint) != origin(stream):
		return "", fmt.Errorf("%w: it names an endpoint of another origin, %.200q instead of %q; the configured headers must not go there",
			ErrProtocol, origin(endpoint), origin(stream))
	}
	endpoint.User = stream.User
	return endpoint.String(), nil
}

// handle passes a message of the stream to the Handler.
func (t *httpSSE) handle(ev sse.Event) {
	if !isMessage(ev) {
		return
	}
	if u := t.cfg.read(ev.Data, t.cfg.dispatch); u != nil {
		t.cfg.giveUp(t.cfg.Context, u, ev.Data)
	}
}

// do sends one HTTP request with the headers that all requests have.
func (t *httpSSE) do(ctx context.Context, method, address string, body []byte) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(body))
	if err != nil {
		return nil, withoutURL(err)
	}
	t.cfg.setHeaders(ctx, request.Header)
	if method == http.MethodPost {
		request.Header.Set("Content-Type", protocol.TypeJSON)
	} else {
		request.Header.Set("Accept", protocol.TypeEventStream)
	}
	t.mu.Lock()
	version := t.version
	t.mu.Unlock()
	if version != "" { // servers that negotiate 2025-06-18 may require it over any HTTP
		request.Header.Set(protocol.HeaderProtocolVersion, version)
	}
	response, err := t.cfg.Clients.requests.Do(request)
	if err != nil {
		return nil, withoutURL(err)
	}
	if err := redirectRefusal(response, t.cfg.masked); err != nil {
		discard(response)
		return nil, err
	}
	return response, nil
}

// Call implements Transport. The response arrives on the stream, sometimes before the answer to the POST, which some
// servers send when they have carried out the request.
func (t *httpSSE) Call(ctx context.Context, call *Call, message []byte) (jsonrpc.Message, error) {
	postCtx, cancelPOST := context.WithCancelCause(context.WithoutCancel(ctx))
	posted := make(chan error, 1)
	if !t.start(func() { defer cancelPOST(nil); posted <- t.Send(postCtx, message, nil) }) {
		cancelPOST(nil)
		return jsonrpc.Message{}, fmt.Errorf("%w: %w", ErrDown, ErrClosed)
	}
	select {
	case err := <-posted: // at once if the connection is lost
		if err != nil {
			return call.replyOr(err)
		}
	case r := <-call.Reply:
		time.AfterFunc(latePOSTTimeout, func() { cancelPOST(nil) }) // its TCP connection can be used again if it ends before
		return r.Message, r.Err
	case <-ctx.Done():
		cancelPOST(context.Cause(ctx))
		return jsonrpc.Message{}, context.Cause(ctx)
	}
	return t.awaitReply(ctx, call)
}

// Send implements Transport. It POSTs a message to the endpoint. Only the status of the answer matters.
func (t *httpSSE) Send(ctx context.Context, message []byte, _ http.Header) error {
	if t.isLost() {
		return fmt.Errorf("%w: %w", ErrDown, t.reason)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(t.connected, func() { cancel(context.Cause(t.connected)) })()
	response, err := t.do(ctx, http.MethodPost, t.endpoint, message)
	if err != nil {
		return classify(ctx, err)
	}
	defer discard(response)
	if response.StatusCode/100 == 2 {
		return nil
	}
	if deniesEndpoint(response) {
		t.lose(ErrSessionGone)
		return fmt.Errorf("%w: %w", ErrSessionGone, t.cfg.refusedBy(response, sessionIn(t.endpoint)))
	}
	return fmt.Errorf("%w: %w", ErrProtocol, t.cfg.refusedBy(response, sessionIn(t.endpoint)))
}

// deniesEndpoint recognizes that the server does not know the session of the endpoint (any more), so that it has not
// taken the message. Other refusals need a check of the session.
func deniesEndpoint(response *http.Response) bool {
	return (response.StatusCode == http.StatusNotFound || response.StatusCode == http.StatusGone) && !isUnknownMethod(response)
}

// sessionIn returns what is most likely the id of the session in an endpoint: the longest value of its query, or else
// the last part of its path, if that is as long as ids are.
func sessionIn(endpoint string) (session string) {
	u, err := url.Parse(endpoint)
	if err != nil {
		return ""
	}
	for _, values := range u.Query() {
		for _, value := range values {
			if len(value) > len(session) {
				session = value
			}
		}
	}
	if last := path.Base(u.Path); session == "" && len(last) >= minPathID {
		return last
	}
	return session
}
