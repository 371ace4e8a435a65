package transport

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/mcphub-go/mcphub/pkg/budget"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
	"github.com/mcphub-go/mcphub/pkg/sse"
)

const (
	maxResumptions = 8 // attempts in a row to resume a broken stream that bring no event

	// maxResumePause is the longest pause before a stream is resumed that the hub makes by itself: a server may end each
	// stream at once, until the timeout of the call.
	maxResumePause = 2 * time.Second

	// The pause between streams. Servers may change it by the field retry of an event, within the bounds.
	defaultRetry = time.Second
	minRetry     = 100 * time.Millisecond
	maxRetry     = time.Minute
)

// cursor is the position in a stream.
type cursor struct {
	lastID   string // of the last event that had one
	retry    time.Duration
	messages int // that have been read
}

// readStream reads events until the response to call arrives. A legacy stream that ends before is resumed if its
// events have ids, see specification 2025-11-25, basic/transports, resumability.
func (t *streamableHTTP) readStream(ctx context.Context, call *Call, response *http.Response) (jsonrpc.Message, error) {
	cursor := cursor{retry: defaultRetry}
	m, err := t.readEvents(ctx, response, &cursor, call)
	pauses := Backoff{First: minRetry, Max: maxResumePause}
	for attempt := 0; err != nil; attempt++ {
		if ctx.Err() != nil {
			return m, context.Cause(ctx)
		}
		if errors.Is(err, ErrProtocol) {
			return m, err
		}
		if cursor.lastID == "" || call.Header != nil || attempt == maxResumptions {
			return m, fmt.Errorf("%w: its stream ended early: %w", ErrLost, err)
		}
		if err := Pause(ctx, max(pauses.Next(), cursor.retry)); err != nil { // the server may choose this pause
			return m, err
		}
		before, start := cursor, time.Now()
		again, doErr := t.do(ctx, t.cfg.Clients.requests, http.MethodGet, nil, cursor.lastID, nil) //nolint:bodyclose // resume closes it
		if doErr != nil {
			if err = doErr; errors.Is(doErr, ErrSessionGone) {
				return m, fmt.Errorf("%w: %w", ErrLost, doErr)
			}
			continue
		}
		if m, err = t.resume(ctx, again, &cursor, call); cursor.lastID != before.lastID {
			attempt = 0
		}
		if cursor.messages > before.messages || time.Since(start) >= shortStream {
			pauses.Reset()
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
	var reading budget.Hold // for the event that was read last
	defer reading.Release()
	if reading.On(t.cfg.Memory); call != nil {
		reading.Like(call.Memory)
	}
	events.Reserve(reserve(&reading, t.cfg.Own, ctx.Done()))
	s := streamReader{t: t, call: call}
	take := s.take
	for {
		reading.Release()
		if t.cfg.Own { // ctx ends with the call, or with the connection
			t.cfg.Memory.Wait(ctx, t.done)
		}
		ev, err := events.Next()
		if err != nil {
			return jsonrpc.Message{}, s.ended(eventError(err))
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
		cursor.messages++
		if u := t.cfg.read(ev.Data, take); u != nil {
			if err := s.unreadable(ctx, u, ev.Data); err != nil {
				return jsonrpc.Message{}, err
			}
		}
		if s.hasResponse {
			reading.Release()
			return call.Keep(s.response), nil
		}
	}
}

// streamReader takes the messages on one stream: the response to call, which may be nil, and what comes before it.
type streamReader struct {
	t           *streamableHTTP
	call        *Call
	response    jsonrpc.Message
	hasResponse bool
	unread      *jsonrpc.Unreadable // the last event that may have been the response
}

func (s *streamReader) take(m jsonrpc.Message) {
	switch {
	case m.Kind() != jsonrpc.Response:
		var id jsonrpc.ID
		if s.call != nil {
			id, s.call.Answer.Preceded = s.call.ID, true
		}
		s.t.cfg.Handler.Receive(id, m)
	case s.call != nil && !s.hasResponse && s.t.cfg.isAnswer(s.call, m):
		if m.ID == "" {
			m.ID = jsonrpc.Null
		}
		s.response, s.hasResponse = m, true
	default:
		s.t.cfg.Unmatched()
	}
}

// unreadable takes an event that cannot be read. If it is the response, it returns an error.
func (s *streamReader) unreadable(ctx context.Context, u *jsonrpc.Unreadable, text []byte) error {
	if s.call == nil || u.IsMethod {
		s.t.cfg.giveUp(ctx, u, text)
		return nil
	}
	if mayAnswer(u, s.call) {
		s.t.cfg.Unreadable(true)
		return UnreadableError(u)
	}
	s.unread = u
	s.t.cfg.giveUp(ctx, &jsonrpc.Unreadable{Reason: u.Reason}, text)
	return nil
}

// ended returns why the stream ended without the response. An event that cannot be read may have been that.
func (s *streamReader) ended(err error) error {
	if s.unread == nil {
		return err
	}
	return fmt.Errorf("%w after an event that cannot be read: %s", err, s.unread.Reason.Message)
}

func isMessage(ev sse.Event) bool {
	return len(ev.Data) > 0 && (ev.Name == "" || ev.Name == "message")
}

// eventError marks an event that was not kept as a violation of the protocol.
func eventError(err error) error {
	if errors.Is(err, sse.ErrTooLong) || isRefused(err) {
		return fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	return err
}
