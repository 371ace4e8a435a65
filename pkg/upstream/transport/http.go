package transport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"

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

	givenBack  string // the last session that was given back
	givingBack int    // sessions that are being given back
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
	if err := redirectRefusal(response, t.cfg.masked); err != nil {
		discard(response)
		return nil, err
	}
	if t.cfg.HTTPVersion != nil {
		t.cfg.HTTPVersion(ctx, response.ProtoMajor, response.ProtoMinor)
	}
	isBound := session != "" && request.Header.Get(protocol.HeaderSessionID) == session
	if response.StatusCode == http.StatusNotFound && isBound && method != http.MethodDelete &&
		!(method == http.MethodPost && isUnknownMethod(response)) {
		defer discard(response)
		return nil, fmt.Errorf("%w: %w", ErrSessionGone, t.cfg.refusedBy(response, t.SessionID()))
	}
	return response, nil
}

// loseIfGone ends the connection if a POST failed with err because the server does not know the session any more. A GET
// or DELETE says nothing: some servers have none.
func (t *streamableHTTP) loseIfGone(err error) {
	if errors.Is(err, ErrSessionGone) {
		t.lose(ErrSessionGone)
	}
}

// Send implements Transport.
func (t *streamableHTTP) Send(ctx context.Context, message []byte, header http.Header) error {
	response, err := t.do(ctx, t.cfg.Clients.noBody, http.MethodPost, message, "", header)
	if err != nil {
		t.loseIfGone(err)
		return classify(ctx, err)
	}
	defer discard(response)
	if response.StatusCode/100 != 2 {
		return fmt.Errorf("%w: %w", ErrProtocol, t.cfg.refusedBy(response, t.SessionID()))
	}
	return nil
}
