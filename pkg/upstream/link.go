package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/mcphub-go/mcphub/pkg/budget"
	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/upstream/transport"
)

// LinkConfig is what a Link needs to know of the client session that it belongs to.
type LinkConfig struct {
	Sink     Sink          // takes what belongs to no call
	Identity Identity      // of the client
	Resume   ServerSession // that the server gave this client earlier
	Modern   bool          // the client speaks a modern version
	Shared   bool          // the Link is used for several clients
	// Memory is the account of the client for what its own connection sends; nil: no limit.
	Memory  *budget.Account
	Session string // public id of the session of the client; empty: none, or several
	// Owner has the values for the context of what the Link's own connection does by itself; nil: none.
	Owner context.Context //nolint:containedctx // see above
	// OnServerSession is called with the server's session before the first call goes out over it. If it fails, so does
	// the call.
	OnServerSession func(ctx context.Context, server string, b ServerSession) error
	// OnReady is called with each new connection of the Link's own, before its first use, so that the state that the
	// client has set at the server can be set again.
	OnReady func(ctx context.Context, c *Conn) error
}

// Link connects one client session to one server: over the connection that all clients share, or over one of its own
// that is made when it is first needed. Its methods may be called concurrently.
type Link struct {
	server *Server
	cfg    LinkConfig

	mu      sync.Mutex
	conn    *Conn // of its own; nil: there is none
	resume  ServerSession
	dialing *dialAttempt      // nil: nobody connects
	failure error             // of the last attempt to connect
	pauses  transport.Backoff // between attempts
	deaths  restarts          // of its children
	next    time.Time         // no attempt before
	closed  bool
	end     bool // the argument of Close
}

// dialAttempt is one attempt to connect, whose result several callers wait for.
type dialAttempt struct {
	startingError // what those are told who do not wait for its end
	cancel        context.CancelCauseFunc
	done          chan struct{}
	conn          *Conn // this and the rest are set before done is closed
	err           error
	aborted       bool // the caller who connected gave up: err is not about the server
}

// Link makes the Link of a client session. It connects to nothing yet.
func (s *Server) Link(cfg LinkConfig) *Link {
	return &Link{server: s, cfg: cfg, resume: cfg.Resume, pauses: transport.Backoff{First: firstPause, Max: maxPause}, deaths: newRestarts()}
}

// Isolated reports whether the Link has a connection of its own.
func (l *Link) Isolated() bool { return l.server.Isolated() && !l.stateless() }

// stateless reports whether every request stands alone, so that a modern client needs no connection of its own.
func (l *Link) stateless() bool {
	return l.cfg.Modern && l.cfg.Sink == nil && l.server.Stateless()
}

// Call sends a request to the server. If the server refuses it because it does not know its session any more, the Link
// initializes again. It then sends the request again, once, if the server has certainly not carried it out.
func (l *Link) Call(ctx context.Context, req Request) (jsonrpc.Message, error) {
	req.identity, req.session = &l.cfg.Identity, l.cfg.Session
	for attempt := 0; ; attempt++ {
		start := time.Now()
		var how refusal
		req.refused = &how
		c, err := l.connection(ctx)
		var response jsonrpc.Message
		if err == nil {
			req.addSpent(start) // the connection may have had to be made first
			req.attempt = attempt
			if response, err = c.Call(ctx, req); err == nil {
				response, err = c.withObject(req.Method, response)
			}
		}
		if err == nil && refusesName(req, response) {
			l.server.supervisor.relists.addUnknown(time.Now())
		}
		switch {
		case c == nil:
		case c.dialect().isOtherEra(response, err):
			l.dropOtherEra(ctx, c)
		case attempt > 0:
		case l.isForgotten(ctx, c, req, err):
			l.dropSessionGone(ctx, c, c.loggable(how, req.Params))
			l.server.supervisor.checkSoon() // the hub's own session is most likely gone, too
			if how.harmless || errors.Is(err, transport.ErrSessionGone) {
				continue
			}
		}
		if c != nil && err == nil && !how.is {
			l.server.state.answered.Add(1)
		}
		if errors.Is(err, ErrDown) || errors.Is(err, ErrLost) {
			l.server.supervisor.checkSoon()
		}
		return response, err
	}
}

// isForgotten reports whether a call over c failed because the server has forgotten the session. If the server has not
// said so as the protocol demands, the hub checks it.
func (l *Link) isForgotten(ctx context.Context, c *Conn, req Request, err error) bool {
	if errors.Is(err, transport.ErrSessionGone) {
		return !errors.Is(err, ErrLost)
	}
	return req.refused.is && l.server.sessions.isGone(ctx, c, c.loggable(*req.refused, req.Params))
}

// Notify sends a notification to the server if the Link has a connection of its own, or if requests stand alone there.
// Over a shared connection only notifications outside of MCP are sent: one client cannot speak for all.
func (l *Link) Notify(ctx context.Context, method string, params json.RawMessage) error {
	if l.stateless() || (!l.Isolated() && instrument.MethodLabel(method) == instrument.Other) {
		c, err := l.server.state.ready(ctx)
		if err != nil {
			return err
		}
		return c.notifyFor(ctx, l.cfg.Session, method, params)
	}
	l.mu.Lock()
	c := l.conn
	l.mu.Unlock()
	if c == nil {
		return nil
	}
	return c.notify(ctx, method, params)
}

// Connect makes the Link's own connection, if it has none yet, so that what the server sends by itself arrives before
// the first call. A shared connection is there anyway.
func (l *Link) Connect(ctx context.Context) error {
	_, err := l.connection(ctx)
	return err
}

// Close closes the Link's own connection and waits for it, a few seconds at most. With endSession the server's session
// ends, too.
func (l *Link) Close(endSession bool) {
	l.mu.Lock()
	l.closed, l.end = true, endSession
	c, attempt := l.conn, l.dialing
	l.conn = nil
	l.mu.Unlock()
	if attempt != nil {
		attempt.cancel(transport.ErrClosed)
		<-attempt.done
	}
	if c != nil {
		c.close(endSession)
	}
}

// connection returns the connection to use. Of several callers one connects, and the others get its result.
func (l *Link) connection(ctx context.Context) (*Conn, error) {
	if !l.Isolated() {
		return l.server.state.ready(ctx)
	}
	own := l.usable()
	if own != nil { // one that works does not depend on the hub's own connection
		return own, nil
	}
	if _, err := l.server.state.ready(ctx); err != nil {
		return nil, err
	}
	var tooLong <-chan time.Time // only a child is started in the background
	if spec := l.server.dialer.spec; spec.kind().IsProcess() {
		patience := time.NewTimer(spec.startPatience())
		defer patience.Stop()
		tooLong = patience.C
	}
	for {
		l.mu.Lock()
		c, attempt := l.conn, l.dialing
		switch {
		case l.closed:
			l.mu.Unlock()
			return nil, serverError(l.server.Name(), ErrCancelled)
		case c != nil && !c.isLost():
			l.mu.Unlock()
			return c, nil
		case attempt == nil && time.Now().Before(l.next):
			err := fmt.Errorf("%w (next attempt in %s)", l.failure, time.Until(l.next).Round(100*time.Millisecond))
			l.mu.Unlock()
			return nil, err
		case attempt == nil:
			attempt = l.begin(ctx)
		}
		l.mu.Unlock()
		select {
		case <-attempt.done:
			if !attempt.aborted {
				return attempt.conn, attempt.err
			}
			if ctx.Err() != nil {
				return nil, attempt.err
			}
		case <-tooLong:
			return nil, serverError(l.server.Name(), attempt.startingError)
		case <-ctx.Done():
			return nil, serverError(l.server.Name(), fmt.Errorf("%w: %w", ErrCancelled, context.Cause(ctx)))
		}
	}
}

// usable returns the Link's own connection, or nil if there is none. One that was lost is given up.
func (l *Link) usable() *Conn {
	l.mu.Lock()
	c := l.conn
	lost := c != nil && c.isLost()
	if lost {
		l.forget(c)
		if l.server.dialer.spec.kind().IsProcess() {
			l.failure, l.next = serverError(l.server.Name(), fmt.Errorf("%w: %w", ErrDown, c.err())), l.deaths.afterDeath(time.Now())
		}
	}
	l.mu.Unlock()
	if !lost {
		return c
	}
	l.server.dialer.countRestart(c.err())
	c.close(false)
	l.server.supervisor.relists.addUnknown(time.Now()) // another program may have taken the place of the server
	return nil
}

// begin starts an attempt to connect. One to a child goes on without the caller, who may not wait until it has started.
// The caller holds mu.
func (l *Link) begin(ctx context.Context) *dialAttempt {
	if l.server.dialer.spec.kind().IsProcess() {
		ctx = context.WithoutCancel(ctx)
	}
	attempt := &dialAttempt{startingError: startingError{time.Now(), l.server.dialer.limits.next()}, done: make(chan struct{})}
	ctx, attempt.cancel = context.WithCancelCause(ctx)
	l.dialing = attempt
	go func() { // Close waits for it
		l.connect(ctx, attempt)
		attempt.cancel(nil)
	}()
	return attempt
}

// connect makes the connection for all callers that wait for attempt.
func (l *Link) connect(ctx context.Context, attempt *dialAttempt) {
	l.mu.Lock()
	resume := l.resume
	l.mu.Unlock()
	c, err := l.dial(ctx, resume)
	if err == nil {
		if err = l.prepare(ctx, c, resume); err != nil {
			c.close(true)
		}
	}
	l.mu.Lock()
	l.dialing = nil
	closed, end := l.closed, l.end
	switch {
	case err == nil:
		l.failure, l.next = nil, time.Time{}
		l.pauses.Reset()
	case ctx.Err() == nil:
		// A server to which connections fail at once must not get one with every call.
		l.failure, l.next = err, time.Now().Add(l.pauses.Next())
	}
	if err == nil && !closed {
		l.conn, l.resume, attempt.conn = c, c.serverSession(), c
		l.deaths.started = time.Now()
	}
	l.mu.Unlock()
	if err == nil && closed {
		c.close(end)
		err = serverError(l.server.Name(), ErrCancelled)
	}
	attempt.err, attempt.aborted = err, ctx.Err() != nil
	close(attempt.done)
}

// dial makes a connection in the era that suits the client.
func (l *Link) dial(ctx context.Context, resume ServerSession) (*Conn, error) {
	s := l.server
	by := openedBySession
	if l.cfg.Modern {
		by = openedByBridge
	}
	dial := func() (*Conn, error) {
		n := s.state.negotiationFor(negotiation{identity: l.cfg.Identity, resume: resume}, l.cfg.Modern)
		return s.dialer.dial(ctx, dialConfig{own: true, opener: by, negotiation: n, sse: s.state.isSSE(), sink: l.cfg.Sink,
			shared: l.cfg.Shared, session: l.cfg.Session, owner: l.cfg.Owner, memory: l.cfg.Memory})
	}
	c, err := dial()
	if err == nil && s.state.isSessionless(c) {
		c.close(true)
		return dial()
	}
	return c, err
}

// prepare calls the functions of LinkConfig for a new connection before its first use.
func (l *Link) prepare(ctx context.Context, c *Conn, resumed ServerSession) error {
	if b := c.serverSession(); b != resumed && l.cfg.OnServerSession != nil {
		if err := l.cfg.OnServerSession(ctx, c.Server(), b); err != nil {
			return fmt.Errorf("the session with server %q could not be kept: %w", c.Server(), err)
		}
	}
	if c.serverSession() == resumed && resumed.SessionID != "" {
		return nil // the server has kept the state of the client
	}
	if l.cfg.OnReady != nil {
		ctx, cancel := context.WithTimeoutCause(ctx, c.spec.connectTimeout(), c.spec.connectTimedOut())
		defer cancel()
		return l.cfg.OnReady(ctx, c)
	}
	return nil
}

// dropSessionGone gives up a connection whose session the server does not know any more. Said is what the server gave as
// the reason.
func (l *Link) dropSessionGone(ctx context.Context, c *Conn, said string) {
	if !l.Isolated() {
		l.server.state.expectReconnect(c)
		return
	}
	l.mu.Lock()
	mine := l.conn == c
	if mine {
		l.forget(c)
	}
	l.mu.Unlock()
	if mine {
		l.server.supervisor.log.InfoContext(ctx, "the server forgot a session; initializing again", "said", said)
		l.server.dialer.countRestart(c.err())
		c.close(false)
		l.server.supervisor.relists.addUnknown(time.Now()) // it has been restarted
	}
}

// dropOtherEra gives up a connection to a server that speaks another era now. The hub's own connection is checked, too:
// it finds out the era for the next one.
func (l *Link) dropOtherEra(ctx context.Context, c *Conn) {
	l.server.supervisor.checkSoon()
	l.mu.Lock()
	mine := l.conn == c
	if mine {
		l.conn, l.resume = nil, ServerSession{}
	}
	l.mu.Unlock()
	if mine {
		l.server.supervisor.log.InfoContext(ctx, "a connection is of an era that the server does not speak; connecting again")
		c.close(false)
	}
}

// forget makes the Link connect again after c was lost. The caller holds mu.
func (l *Link) forget(c *Conn) {
	l.conn = nil
	if errors.Is(c.err(), transport.ErrSessionGone) {
		l.resume = ServerSession{}
	}
}
