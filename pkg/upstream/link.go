package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"sync"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

// LinkConfig is what a client session brings to its Link.
type LinkConfig struct {
	Sink     Sink     // takes what belongs to no call
	Identity Identity // of the client
	Resume   Bound    // the session that the server gave this client earlier
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
	closed  bool
	dialing chan struct{} // not nil while somebody connects; closed after
}

// Link makes the Link of a client session. It connects to nothing yet.
func (s *Server) Link(cfg LinkConfig) *Link { return &Link{server: s, cfg: cfg, resume: cfg.Resume} }

// Isolated reports whether the Link has a connection of its own.
func (l *Link) Isolated() bool { return l.server.spec.isolation() == PerSession }

// Call sends a request to the server. If the server has forgotten the session
// it is initialized again, once, and the request sent again: it was not
// dispatched.
func (l *Link) Call(ctx context.Context, req Request) (jsonrpc.Message, error) {
	for attempt := 0; ; attempt++ {
		c, err := l.connection(ctx)
		if err != nil {
			return jsonrpc.Message{}, err
		}
		response, err := c.Call(ctx, req)
		if errors.Is(err, ErrSessionGone) && !errors.Is(err, ErrLost) && l.Isolated() && attempt == 0 {
			l.server.tel.restarts.WithLabelValues(l.server.spec.Name, "session_gone").Inc()
			l.server.log.InfoContext(ctx, "the server forgot the session; initializing again")
			l.drop(c)
			continue
		}
		if errors.Is(err, ErrDown) || errors.Is(err, ErrLost) {
			l.server.suspect()
		}
		return response, err
	}
}

// Notify sends a notification to the server if the Link has a connection of
// its own; one that everybody shares is not for one client to speak on.
func (l *Link) Notify(ctx context.Context, method string, params json.RawMessage) error {
	l.mu.Lock()
	c := l.conn
	l.mu.Unlock()
	if c == nil {
		return nil
	}
	return c.Notify(ctx, method, params)
}

// Close ends the Link's own connection and waits for it; with end the server's
// session ends too.
func (l *Link) Close(end bool) {
	l.mu.Lock()
	l.closed = true
	c := l.conn
	l.conn = nil
	l.mu.Unlock()
	if c != nil {
		l.server.close(c, end)
	}
}

// connection returns the connection to use; of several callers one connects.
func (l *Link) connection(ctx context.Context) (*Conn, error) {
	shared, err := l.server.ready(ctx)
	if err != nil || !l.Isolated() {
		return shared, err
	}
	for {
		l.mu.Lock()
		c, dialing := l.conn, l.dialing
		switch {
		case l.closed:
			l.mu.Unlock()
			return nil, serverError(l.server.spec.Name, ErrCancelled)
		case c != nil && !isClosed(c.Done()):
			l.mu.Unlock()
			return c, nil
		case dialing == nil:
			l.conn, l.dialing = nil, make(chan struct{})
			l.mu.Unlock()
			if c != nil {
				l.server.close(c, false)
			}
			return l.connect(ctx)
		}
		l.mu.Unlock()
		select {
		case <-dialing:
		case <-ctx.Done():
			return nil, serverError(l.server.spec.Name, context.Cause(ctx))
		}
	}
}

// connect makes the connection while dialing keeps others waiting.
func (l *Link) connect(ctx context.Context) (*Conn, error) {
	l.mu.Lock()
	resume := l.resume
	l.mu.Unlock()
	c, err := l.server.open(ctx, l.cfg.Sink, l.cfg.Identity, resume)
	if err == nil {
		if err = l.introduce(ctx, c, resume); err != nil {
			l.server.close(c, true)
		}
	}
	l.mu.Lock()
	close(l.dialing)
	l.dialing = nil
	closed := l.closed
	if err == nil && !closed {
		l.conn, l.resume = c, c.Bound()
	}
	l.mu.Unlock()
	switch {
	case err != nil:
		return nil, err
	case closed:
		l.server.close(c, true)
		return nil, serverError(l.server.spec.Name, ErrCancelled)
	}
	return c, nil
}

// introduce makes a new connection known before it is used.
func (l *Link) introduce(ctx context.Context, c *Conn, resumed Bound) error {
	if b := c.Bound(); b != resumed && l.cfg.OnBound != nil {
		if err := l.cfg.OnBound(ctx, l.server.spec.Name, b); err != nil {
			return err
		}
	}
	if c.Bound() == resumed && resumed.SessionID != "" {
		return nil // the server remembers
	}
	if l.cfg.OnReady != nil {
		return l.cfg.OnReady(ctx, c)
	}
	return nil
}

// drop forgets a connection whose session the server does not know any more.
func (l *Link) drop(c *Conn) {
	l.mu.Lock()
	if l.conn != c {
		l.mu.Unlock()
		return
	}
	l.conn, l.resume = nil, Bound{}
	l.mu.Unlock()
	l.server.close(c, false)
}

func isClosed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}
