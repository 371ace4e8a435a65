package upstream

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"mime"
	"net/http"
	"sync"
	"time"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
	"github.com/mcphub-go/mcphub/pkg/sse"
)

// stream reads events until the response to c comes. A legacy stream that ends
// before is resumed if the server gave its events ids, see specification 2025-11-25,
// basic/transports, resumability.
func (w *httpWire) stream(ctx context.Context, c *call, response *http.Response) (jsonrpc.Message, error) {
	cursor := cursor{retry: time.Second}
	m, err := w.events(ctx, response, &cursor, c)
	for attempt := 0; err != nil; attempt++ {
		if ctx.Err() != nil {
			return m, context.Cause(ctx)
		}
		if cursor.last == "" || c.header != nil || attempt == maxResumptions || errors.Is(err, ErrProtocol) {
			return m, fmt.Errorf("%w: its stream ended early: %w", ErrLost, err)
		}
		if err := pause(ctx, cursor.retry); err != nil {
			return m, err
		}
		before := cursor.last
		again, derr := w.do(ctx, w.client, http.MethodGet, nil, cursor.last, nil) //nolint:bodyclose // resumed closes it
		if derr != nil {
			if err = derr; errors.Is(derr, ErrSessionGone) {
				return m, fmt.Errorf("%w: %w", ErrLost, derr)
			}
			continue
		}
		if m, err = w.resumed(ctx, again, &cursor, c); cursor.last != before {
			attempt = 0
		}
	}
	return m, nil
}

func (w *httpWire) resumed(ctx context.Context, response *http.Response, cursor *cursor, c *call) (jsonrpc.Message, error) {
	defer func() { _ = response.Body.Close() }()
	if kind, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type")); response.StatusCode != http.StatusOK || kind != protocol.TypeEventStream {
		return jsonrpc.Message{}, fmt.Errorf("HTTP status %s", status(response))
	}
	return w.events(ctx, response, cursor, c)
}

// cursor is the position in a stream.
type cursor struct {
	last  string // id of the last event
	retry time.Duration
}

// events reads a stream until the response to c comes or the stream ends,
// which is an error. Without c it only ends. ctx is for the log.
func (w *httpWire) events(ctx context.Context, response *http.Response, cursor *cursor, c *call) (jsonrpc.Message, error) {
	events := sse.NewReader(response.Body, w.spec.maxMessage())
	for {
		ev, err := events.Next()
		if err != nil {
			return jsonrpc.Message{}, readError(err)
		}
		if ev.ID != "" {
			cursor.last = ev.ID
		}
		if ev.Retry > 0 {
			cursor.retry = min(max(ev.Retry, minRetry), time.Minute)
		}
		if len(ev.Data) == 0 || (ev.Name != "" && ev.Name != "message") {
			continue
		}
		m, err := jsonrpc.Parse(ev.Data)
		switch {
		case err != nil:
			w.log.WarnContext(ctx, "the server sent an event that is no message", "bytes", len(ev.Data), "err", err)
		case m.Kind() != jsonrpc.Response:
			w.conn.receive(c, m)
		case c != nil && m.ID == c.id:
			return m, nil
		default:
			w.tel.unmatched("response")
		}
	}
}

// listenPatience is how long a connection waits for the stream that listen
// opens. Most servers answer at once; some only when they have something to say.
const listenPatience = time.Second

// listen keeps the stream open on which the server sends what belongs to no
// call, if it offers one. It waits a moment for the stream: there are servers
// that ask on it what belongs to a call, and to nobody if it is not open yet.
func (w *httpWire) listen(ctx context.Context) {
	answered := make(chan struct{})
	w.background(func() {
		var once sync.Once
		settle := func() { once.Do(func() { close(answered) }) }
		defer settle()
		ctx := w.conn.quit
		cursor := cursor{retry: time.Second}
		for wait := time.Duration(0); ; wait = min(max(cursor.retry, 2*wait), time.Minute) {
			if pause(ctx, wait+rand.N(wait/4+1)) != nil { //nolint:gosec // jitter
				return
			}
			response, err := w.do(ctx, w.client, http.MethodGet, nil, cursor.last, nil)
			settle()
			if errors.Is(err, ErrSessionGone) {
				// If it is, the server says so to a request that it must know, too.
				_, _ = w.conn.Call(ctx, Request{Method: protocol.MethodPing})
				return
			}
			if err != nil {
				continue
			}
			kind, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type"))
			if response.StatusCode != http.StatusOK || kind != protocol.TypeEventStream {
				discard(response)
				if !isPassing(response.StatusCode) {
					return // it offers none
				}
				continue
			}
			wait = 0
			_, err = w.events(ctx, response, &cursor, nil)
			_ = response.Body.Close()
			w.log.DebugContext(ctx, "the server's stream ended", "err", err)
		}
	})
	timer := time.NewTimer(listenPatience)
	defer timer.Stop()
	select {
	case <-answered:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// isPassing reports whether a later attempt may have more success. Servers that
// have not noticed the end of a stream yet say that there is a conflict.
func isPassing(status int) bool {
	switch status {
	case http.StatusNotImplemented:
		return false
	case http.StatusRequestTimeout, http.StatusConflict, http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	}
	return status >= 500
}

// readError marks an event that is too long as a breach of the protocol.
func readError(err error) error {
	if errors.Is(err, sse.ErrTooLong) {
		return fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	return err
}
