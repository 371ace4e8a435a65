package transport

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
	"github.com/mcphub-go/mcphub/pkg/sse"
)

const (
	maxResumptions = 8 // attempts in a row to resume a broken stream that bring no event

	// The pause between streams. Servers may change it by the field retry of an event, within the bounds.
	defaultRetry = time.Second
	minRetry     = 100 * time.Millisecond
	maxRetry     = time.Minute

	// listenTimeout is how long Listen waits for the GET stream to be open. Most servers answer at once, some only with
	// their first event.
	listenTimeout = time.Second
)

// cursor is the position in a stream.
type cursor struct {
	lastID string // of the last event that had one
	retry  time.Duration
}

// readStream reads events until the response to call arrives. A legacy stream that ends before is resumed if its
// events have ids, see specification 2025-11-25, basic/transports, resumability.
func (t *streamableHTTP) readStream(ctx context.Context, call *Call, response *http.Response) (jsonrpc.Message, error) {
	cursor := cursor{retry: defaultRetry}
	m, err := t.readEvents(ctx, response, &cursor, call)
	for attempt := 0; err != nil; attempt++ {
		if ctx.Err() != nil {
			return m, context.Cause(ctx)
		}
		if cursor.lastID == "" || call.Header != nil || attempt == maxResumptions || errors.Is(err, ErrProtocol) {
			return m, fmt.Errorf("%w: its stream ended early: %w", ErrLost, err)
		}
		if err := Pause(ctx, cursor.retry); err != nil { // the server chooses this pause
			return m, err
		}
		before := cursor.lastID
		again, doErr := t.do(ctx, t.cfg.Clients.requests, http.MethodGet, nil, cursor.lastID, nil) //nolint:bodyclose // resume closes it
		if doErr != nil {
			if err = doErr; errors.Is(doErr, ErrSessionGone) {
				return m, fmt.Errorf("%w: %w", ErrLost, doErr)
			}
			continue
		}
		if m, err = t.resume(ctx, again, &cursor, call); cursor.lastID != before {
			attempt = 0
		}
	}
	return m, nil
}

// resume reads the response to a GET that resumes a stream.
func (t *streamableHTTP) resume(ctx context.Context, response *http.Response, cursor *cursor, call *Call) (jsonrpc.Message, error) {
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK || mediaType(response) != protocol.TypeEventStream {
		return jsonrpc.Message{}, fmt.Errorf("HTTP status %s", statusText(response.StatusCode))
	}
	return t.readEvents(ctx, response, cursor, call)
}

// readEvents reads a stream until the response to call arrives. The end of the stream is an error, and the only way to
// end if call is nil. Ctx is for the log.
func (t *streamableHTTP) readEvents(ctx context.Context, response *http.Response, cursor *cursor, call *Call) (jsonrpc.Message, error) {
	events := sse.NewReader(response.Body, t.cfg.MaxMessage)
	var id jsonrpc.ID
	if call != nil {
		id = call.ID
	}
	for {
		ev, err := events.Next()
		if err != nil {
			return jsonrpc.Message{}, eventError(err)
		}
		if ev.ID != "" {
			cursor.lastID = ev.ID
		}
		if ev.Retry > 0 {
			cursor.retry = min(max(ev.Retry, minRetry), maxRetry)
		}
		if !isMessage(ev) {
			continue
		}
		m, err := jsonrpc.Parse(ev.Data)
		switch {
		case err != nil:
			t.cfg.Log.WarnContext(ctx, "the server sent an event that is no message", "bytes", len(ev.Data), "err", err)
		case m.Kind() != jsonrpc.Response:
			t.cfg.Handler.Receive(id, m)
		case call != nil && m.ID == id:
			return m, nil
		default:
			t.cfg.Unmatched()
		}
	}
}

func isMessage(ev sse.Event) bool {
	return len(ev.Data) > 0 && (ev.Name == "" || ev.Name == "message")
}

// eventError marks an event that is too long as a violation of the protocol.
func eventError(err error) error {
	if errors.Is(err, sse.ErrTooLong) {
		return fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	return err
}

// Listen implements Transport. It keeps the GET stream open, if the server offers one, on which the server sends
// messages that belong to no request. It waits up to listenTimeout for the stream: some servers send the requests that
// belong to a call on it, and drop them if it is not open yet.
func (t *streamableHTTP) Listen(ctx context.Context) {
	answered := make(chan struct{})
	t.start(func() { t.listenLoop(sync.OnceFunc(func() { close(answered) })) })
	timer := time.NewTimer(listenTimeout)
	defer timer.Stop()
	select {
	case <-answered:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// listenLoop opens the GET stream again whenever it ends. It calls answered after the server's first answer, and when
// it returns.
func (t *streamableHTTP) listenLoop(answered func()) {
	defer answered()
	ctx := t.cfg.Context
	cursor := cursor{retry: defaultRetry}
	pauses := Backoff{Max: maxRetry, Jitter: 0.25}
	for {
		pauses.First = cursor.retry
		response, err := t.do(ctx, t.cfg.Clients.requests, http.MethodGet, nil, cursor.lastID, nil)
		answered()
		if errors.Is(err, ErrSessionGone) {
			// A request that the server must know shows whether the session is gone or there is no such stream.
			t.cfg.CheckSession(ctx)
			return
		}
		if err == nil {
			if response.StatusCode != http.StatusOK || mediaType(response) != protocol.TypeEventStream {
				discard(response)
				if !isTemporary(response.StatusCode) {
					return // the server offers no such stream
				}
			} else {
				_, err = t.readEvents(ctx, response, &cursor, nil)
				_ = response.Body.Close()
				t.cfg.Log.DebugContext(ctx, "the server's stream ended", "err", err)
				pauses = Backoff{First: cursor.retry, Max: maxRetry, Jitter: 0.25}
			}
		}
		if pauses.Wait(ctx) != nil {
			return
		}
	}
}

// isTemporary reports whether a later attempt may succeed. Servers that have not noticed the end of a stream yet answer
// with 409.
func isTemporary(status int) bool {
	switch status {
	case http.StatusNotImplemented:
		return false
	case http.StatusRequestTimeout, http.StatusConflict, http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	}
	return status >= 500
}
