package transport

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/mcphub-go/mcphub/pkg/protocol"
)

const (
	// listenTimeout is how long Listen waits for the GET stream to be open. Most servers answer at once, some only with
	// their first event.
	listenTimeout = time.Second

	// maxBusyRetry is the longest pause after a short stream that brought a message.
	maxBusyRetry = 8 * time.Second

	// maxResumedRefusals are the attempts in a row to open the GET stream of a session from before a restart. A server
	// may still have the stream of the process before, for a minute or two.
	maxResumedRefusals = 8
)

// listening is what is known of the GET stream of a session, and when to ask for it again.
type listening struct {
	cursor   cursor
	resumed  bool // the session is from before a restart, which may have had a stream
	opened   bool // the server has had a stream in this session
	refusals int  // in a row
	pauses   Backoff
}

func newListening(resumed bool) *listening {
	return &listening{cursor: cursor{retry: defaultRetry}, resumed: resumed, pauses: Backoff{Max: maxRetry, Jitter: 0.25}}
}

// ended notes the end of a stream. The pauses grow while streams are short: a server that ends each one at once would
// otherwise be asked once a second, for each session, for ever.
func (l *listening) ended(lasted time.Duration, messages int) {
	l.opened, l.refusals, l.pauses.Max = true, 0, maxRetry
	if l.pauses.StreamEnded(lasted); lasted < shortStream && messages > 0 {
		l.pauses.Max = maxBusyRetry
	}
}

// refused notes that the server answered with an HTTP status instead of a stream. It reports whether to ask again: a
// server that has had a stream may refuse another one until it has noticed the end of the first, with any status.
func (l *listening) refused(status int) (again bool) {
	l.refusals++
	l.pauses.Max = maxRetry
	switch {
	case l.opened, isTemporary(status):
		return true
	case l.resumed && status == http.StatusBadRequest:
		return l.refusals < maxResumedRefusals
	}
	return false
}

// wait makes the next pause. The server may choose how long the first one is.
func (l *listening) wait(ctx context.Context) error {
	l.pauses.First = l.cursor.retry
	return l.pauses.Wait(ctx)
}

// isTemporary reports whether a later attempt may succeed even if the server has had no stream yet. Servers that have
// not noticed the end of a stream yet answer with 409.
func isTemporary(status int) bool {
	switch status {
	case http.StatusNotImplemented:
		return false
	case http.StatusRequestTimeout, http.StatusConflict, http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	}
	return status >= 500
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
	l := newListening(t.cfg.SessionID != "")
	for again := true; again; again = again && l.wait(ctx) == nil {
		response, err := t.do(ctx, t.cfg.Clients.requests, http.MethodGet, nil, l.cursor.lastID, nil)
		answered()
		if t.cfg.StreamAsked != nil && ctx.Err() == nil {
			t.cfg.StreamAsked(err == nil && isEventStream(response))
		}
		switch {
		case errors.Is(err, ErrSessionGone):
			// A request that the server must know shows whether the session is gone or there is no such stream.
			t.cfg.CheckSession(ctx)
			again = l.refused(http.StatusNotFound) && !t.isLost()
		case errors.Is(err, errRedirect):
			again = l.refused(http.StatusFound)
		case err == nil:
			again = t.listen(ctx, l, response)
		default:
			l.pauses.Max = maxRetry
		}
	}
}

// listen reads the answer to a GET. It reports whether to ask again.
func (t *streamableHTTP) listen(ctx context.Context, l *listening, response *http.Response) (again bool) {
	if !isEventStream(response) {
		discard(response)
		again = l.refused(response.StatusCode)
		t.cfg.Log.DebugContext(ctx, "the server refuses the stream for messages of its own", "status", response.StatusCode,
			"asked_again", again)
		return again
	}
	start, before := time.Now(), l.cursor.messages
	_, err := t.readEvents(ctx, response, &l.cursor, nil)
	_ = response.Body.Close()
	t.cfg.Log.DebugContext(ctx, "the server's stream ended", "err", err)
	l.ended(time.Since(start), l.cursor.messages-before)
	return true
}

func isEventStream(response *http.Response) bool {
	return response.StatusCode == http.StatusOK && mediaType(response) == protocol.TypeEventStream
}
