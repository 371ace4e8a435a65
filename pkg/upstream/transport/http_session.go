package transport

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"time"

	"github.com/mcphub-go/mcphub/pkg/protocol"
)

const (
	deleteTimeout = 5 * time.Second
	maxGivingBack = 8 // sessions that are being given back at once
)

// adoptSession keeps the session that the server gives with its answer to initialize. It may not give another later:
// the store of session ids would not learn of it.
func (t *streamableHTTP) adoptSession(session string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if session == "" || t.session != "" || t.version != "" {
		return nil
	}
	if !isUsable(session) {
		return fmt.Errorf("%w: it gave an unusable session id", ErrProtocol)
	}
	t.session = session
	return nil
}

// isUsable reports whether a session id has visible ASCII characters only and is not too long, specification
// 2025-11-25, basic/transports, session management.
func isUsable(session string) bool {
	for _, c := range []byte(session) {
		if c < 0x21 || c > 0x7e {
			return false
		}
	}
	return len(session) <= maxSessionID
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

// deleteSession ends the session of the connection.
func (t *streamableHTTP) deleteSession() {
	if !t.end(t.SessionID(), nil) && t.cfg.Sessions.NotEnded != nil {
		t.cfg.Sessions.NotEnded()
	}
}

// giveBack ends, in the background, a session that the server gave with its answer to a request of the modern era, which
// has no sessions: some servers begin a session with whatever they are asked. The session would stay open there.
func (t *streamableHTTP) giveBack(session string) {
	if session == "" || !isUsable(session) {
		return
	}
	t.mu.Lock()
	isKnown, tooMany := session == t.session || session == t.givenBack, t.givingBack >= maxGivingBack
	if !isKnown && !tooMany {
		t.givenBack = session
		t.givingBack++
	}
	t.mu.Unlock()
	if isKnown {
		return
	}
	done := func(bool) {}
	if t.cfg.Sessions.GivingBack != nil {
		done = t.cfg.Sessions.GivingBack()
	}
	if tooMany {
		done(false)
		return
	}
	end := func() {
		// The session has no version yet. That of the modern era would be wrong.
		done(t.end(session, http.Header{protocol.HeaderProtocolVersion: nil}))
		t.mu.Lock()
		t.givingBack--
		t.mu.Unlock()
	}
	if !t.start(end) { // the connection is being closed, which waits for its callers
		end()
	}
}

// end ends a session at the server, and reports whether it is gone there. Servers may refuse. Header replaces headers of
// the connection.
func (t *streamableHTTP) end(session string, header http.Header) bool {
	ctx, cancel := context.WithTimeout(context.Background(), deleteTimeout)
	defer cancel()
	replaced := http.Header{protocol.HeaderSessionID: {session}}
	maps.Copy(replaced, header)
	response, err := t.do(ctx, t.cfg.Clients.noBody, http.MethodDelete, nil, "", replaced)
	if err != nil {
		t.cfg.Log.DebugContext(ctx, "the server's session could not be ended", "err", err)
		return false
	}
	discard(response)
	if response.StatusCode/100 == 2 || response.StatusCode == http.StatusNotFound {
		return true
	}
	t.cfg.Log.DebugContext(ctx, "the server did not end its session", "status", response.StatusCode)
	return false
}
