package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

// LinkConfig is what a client session brings to its Link.
type LinkConfig struct {
	Sink     Sink            // takes what belongs to no call
	Identity Identity        // of the client
	Resume   Bound           // the session that the server gave this client earlier
	Modern   bool            // the client speaks a modern version
	Many     bool            // the Link is used for several clients
	Owner    context.Context //nolint:containedctx // what a connection of the Link's own does by itself has its values; nil: none
	Session  string          // public id of the session of the client that it belongs to; "": none, or several
	// OnBound is called with the server's session before the first call goes
	// out over it; if it fails, so does the call.
	OnBound func(ctx context.Context, server string, b Bound) error
	// OnReady is called with each connection made for this client alone, so
	// that what the server has to know of it can be said again.
	OnReady func(ctx context.Context, c *Conn) error
}

// Link is the way of one client session to one server: over the connection
// that all share, or over one of its own that is made when it is first needed.
// Its methods may be called concurrently.
type Link struct {
	server *Server
	cfg    LinkConfig

	mu      sync.Mutex
	conn    *Conn // of its own
	resume  Bound
	dialing *flight // not nil while somebody connects
	failure error   // why the last attempts to connect failed
	failed  int     // how many in a row
	next    time.Time
	closed  bool
	end     bool // what Close was told
}

// flight is one attempt to connect, and what came of it.
type flight struct {
	cancel  context.CancelCauseFunc
	over    chan struct{}
	conn    *Conn // this and the rest are set before over is closed
	err     error
	aborted bool // by whoever connected, so that it says nothing of the server
}

// Link makes the Link of a client session. It connects to nothing yet.
func (s *Server) Link(cfg LinkConfig) *Link { return &Link{server: s, cfg: cfg, resume: cfg.Resume} }

// Isolated reports whether the Link has a connection of its own.
func (l *Link) Isolated() bool { return l.server.spec.isolation() == PerSession && !l.stateless() }

// stateless reports whether every request stands alone, so that a modern client
// needs no connection of its own.
func (l *Link) stateless() bool {
	return l.cfg.Modern && l.cfg.Sink == nil && l.server.Stateless()
}

// Call sends a request to the server. If the server has forgotten the session
// it is initialized again, once, and the request sent again: it was not
// dispatched.
func (l *Link) Call(ctx context.Context, req Request) (jsonrpc.Message, error) {
	req.identity, req.session = &l.cfg.Identity, l.cfg.Session
	for attempt := 0; ; attempt++ {
		begun := time.Now()
		c, err := l.connection(ctx)
		var response jsonrpc.Message
		if err == nil {
			req.spend(begun) // it may have had to be made first
			req.attempt = attempt
			response, err = c.Call(ctx, req)
		}
		if c != nil && attempt == 0 && errors.Is(err, ErrSessionGone) && !errors.Is(err, ErrLost) {
			l.drop(ctx, c)
			continue
		}
		if c != nil && c.otherEra(response, err) {
			l.outdated(ctx, c)
		} else if errors.Is(err, ErrDown) || errors.Is(err, ErrLost) {
			l.server.suspect()
		}
		return response, err
	}
}

// Notify sends a notification to the server if the Link has a connection of
// its own, or if requests stand alone there. On one that everybody shares one
// client cannot speak for all, so only what is no part of MCP goes there.
func (l *Link) Notify(ctx context.Context, method string, params json.RawMessage) error {
	if l.stateless() || (!l.Isolated() && instrument.MethodLabel(method) == instrument.Other) {
		c, err := l.server.ready(ctx)
		if err != nil {
			return err
		}
		return c.notify(ctx, l.cfg.Session, method, params)
	}
	l.mu.Lock()
	c := l.conn
	l.mu.Unlock()
	if c == nil {
		return nil
	}
	return c.Notify(ctx, method, params)
}

// Close ends the Link's own connection and waits for it, a few seconds at most;
// with end the server's session ends too.
func (l *Link) Close(end bool) {
	l.mu.Lock()
	l.closed, l.end = true, end
	c, f := l.conn, l.dialing
	l.conn = nil
	l.mu.Unlock()
	if f != nil {
		f.cancel(errClosed)
		<-f.over
	}
	if c != nil {
		c.Close(end)
	}
}

// connection returns the connection to use. Of several callers one connects,
// and the others share its success or failure.
func (l *Link) connection(ctx context.Context) (*Conn, error) {
	if !l.Isolated() {
		return l.server.ready(ctx)
	}
	l.mu.Lock()
	own := l.conn
	l.mu.Unlock()
	if own == nil || isClosed(own.Done()) { // one that works does not depend on the hub's own
		if _, err := l.server.ready(ctx); err != nil {
			return nil, err
		}
	}
	for {
		l.mu.Lock()
		c, f := l.conn, l.dialing
		switch {
		case l.closed:
			l.mu.Unlock()
			return nil, serverError(l.server.spec.Name, ErrCancelled)
		case c != nil && !isClosed(c.Done()):
			l.mu.Unlock()
			return c, nil
		case f == nil && time.Now().Before(l.next):
			err := l.failure
			l.mu.Unlock()
			return nil, err
		case f == nil:
			f = &flight{over: make(chan struct{})}
			ctx, f.cancel = context.WithCancelCause(ctx) //nolint:fatcontext // the loop ends here
			l.dialing = f
			if c != nil {
				l.forget(c)
			}
			l.mu.Unlock()
			if c != nil {
				l.server.restarted(c.Err())
				c.Close(false)
			}
			l.connect(ctx, f)
			f.cancel(nil)
			return f.conn, f.err
		}
		l.mu.Unlock()
		select {
		case <-f.over:
			if !f.aborted {
				return f.conn, f.err
			}
		case <-ctx.Done():
			return nil, serverError(l.server.spec.Name, fmt.Errorf("%w: %w", ErrCancelled, context.Cause(ctx)))
		}
	}
}

// connect makes the connection, for everybody who waits for f.
func (l *Link) connect(ctx context.Context, f *flight) {
	l.mu.Lock()
	resume := l.resume
	l.mu.Unlock()
	c, err := l.open(ctx, resume)
	if err == nil {
		if err = l.introduce(ctx, c, resume); err != nil {
			c.Close(true)
		}
	}
	l.mu.Lock()
	l.dialing = nil
	closed, end := l.closed, l.end
	switch {
	case err == nil:
		l.failure, l.failed, l.next = nil, 0, time.Time{}
	case ctx.Err() == nil:
		// What fails at once must not be started again with every call.
		l.failure = err
		l.next = time.Now().Add(min(maxPause, firstPause<<min(l.failed, 10)))
		l.failed++
	}
	if err == nil && !closed {
		l.conn, l.resume, f.conn = c, c.Bound(), c
	}
	l.mu.Unlock()
	if err == nil && closed {
		c.Close(end)
		err = serverError(l.server.spec.Name, ErrCancelled)
	}
	f.err, f.aborted = err, ctx.Err() != nil
	close(f.over)
}

// open makes a connection in the era that suits the client.
func (l *Link) open(ctx context.Context, resume Bound) (*Conn, error) {
	p := plan{sink: l.cfg.Sink, who: l.cfg.Identity, many: l.cfg.Many, session: l.cfg.Session, owner: l.cfg.Owner, resume: resume}
	c, err := l.server.open(ctx, l.server.planFor(p, l.cfg.Modern))
	if err == nil && l.server.keepsNoSession(c) {
		c.Close(true)
		c, err = l.server.open(ctx, l.server.planFor(p, l.cfg.Modern))
	}
	return c, err
}

// introduce makes a new connection known before it is used.
func (l *Link) introduce(ctx context.Context, c *Conn, resumed Bound) error {
	if b := c.Bound(); b != resumed && l.cfg.OnBound != nil {
		if err := l.cfg.OnBound(ctx, l.server.spec.Name, b); err != nil {
			return fmt.Errorf("the session with server %q could not be kept: %w", l.server.spec.Name, err)
		}
	}
	if c.Bound() == resumed && resumed.SessionID != "" {
		return nil // the server remembers
	}
	if l.cfg.OnReady != nil {
		ctx, cancel := context.WithTimeoutCause(ctx, l.server.spec.connectTimeout(), errConnectTimeout)
		defer cancel()
		return l.cfg.OnReady(ctx, c)
	}
	return nil
}

// Connect makes the Link's own connection, if it has none yet, so that what the
// server has to say arrives before the first call. A shared one is there anyway.
func (l *Link) Connect(ctx context.Context) error {
	_, err := l.connection(ctx)
	return err
}

// drop gives up a connection whose session the server does not know any more.
func (l *Link) drop(ctx context.Context, c *Conn) {
	if !l.Isolated() {
		l.server.renew(c)
		return
	}
	l.mu.Lock()
	mine := l.conn == c
	if mine {
		l.forget(c)
	}
	l.mu.Unlock()
	if mine {
		l.server.log.InfoContext(ctx, "the server forgot a session; initializing again")
		l.server.restarted(c.Err())
		c.Close(false)
	}
}

// outdated gives up a connection to a server that speaks another era by now, as
// soon as the server's own connection says so, too.
func (l *Link) outdated(ctx context.Context, c *Conn) {
	l.server.suspect()
	l.mu.Lock()
	mine := l.conn == c
	if mine {
		l.conn, l.resume = nil, Bound{}
	}
	l.mu.Unlock()
	if mine {
		l.server.log.InfoContext(ctx, "a connection is of an era that the server does not speak; connecting again")
		c.Close(false)
	}
}

// forget makes the Link connect anew after c was lost. The caller holds mu.
func (l *Link) forget(c *Conn) {
	l.conn = nil
	if errors.Is(c.Err(), ErrSessionGone) {
		l.resume = Bound{}
	}
}

func isClosed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}
