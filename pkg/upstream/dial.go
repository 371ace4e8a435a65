package upstream

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
)

// dialer makes the connections to one server.
type dialer struct {
	spec   Spec
	tel    *telemetry
	own    *serverMetrics
	client *http.Client // of a server reached by HTTP
	// aside is for messages that are answered without a body. net/http puts their
	// connection back before it has handed over the response, and a deadline that
	// passes in between ends the next request on it: so that must not be a call.
	aside *http.Client
	conns *atomic.Int64 // connections there are, those in the making included
	tools *toolParams   // that the server lists
	owned *owners
}

// closeIdle closes the connections that nobody uses.
func (d dialer) closeIdle() {
	if d.client != nil {
		d.client.CloseIdleConnections()
		d.aside.CloseIdleConnections()
	}
}

func (d dialer) count(delta int64) {
	d.conns.Add(delta)
	d.own.sessions.Add(float64(delta))
}

// dial connects to the server.
func (d dialer) dial(ctx context.Context, p plan) (*Conn, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, d.spec.connectTimeout(), errConnectTimeout)
	defer cancel()
	if d.spec.SSE {
		p.era = protocol.Legacy // the transport is older than the others
	}
	c, err := d.attempt(ctx, p)
	if errors.Is(err, errProbed) && p.era != protocol.Modern {
		p.era = protocol.Legacy
		return d.attempt(ctx, p)
	}
	if d.spec.URL != "" && !d.spec.SSE && p.era != protocol.Modern && refusesPOST(err) {
		d.spec.SSE, p.era = true, protocol.Legacy
		if c, serr := d.attempt(ctx, p); serr == nil {
			return c, nil
		} // otherwise the first refusal says more
	}
	return c, err
}

// refusesPOST reports whether err is how a server of the HTTP+SSE transport
// answers initialize, specification 2025-11-25, basic/transports, backward
// compatibility.
func refusesPOST(err error) bool {
	refused, ok := errors.AsType[statusError](err)
	return ok && (refused.code == http.StatusBadRequest || refused.code == http.StatusNotFound || refused.code == http.StatusMethodNotAllowed)
}

// attempt makes one connection.
func (d dialer) attempt(ctx context.Context, p plan) (*Conn, error) {
	spec := d.spec
	c := &Conn{spec: spec, peer: peerAttributes(spec), tel: d.tel, own: d.own, log: d.tel.log.With("upstream", spec.Name), sink: p.sink, many: p.many, session: p.session, tools: d.tools, feed: newFeed(), owned: d.owned,
		calls: map[jsonrpc.ID]*call{}, tokens: map[jsonrpc.ID]*call{}, abandoned: map[jsonrpc.ID]time.Time{}, asked: map[jsonrpc.ID]*inquiry{}}
	if p.session != "" {
		c.log = c.log.With("session", p.session)
	}
	if c.sink == nil {
		c.sink = nobody{}
	}
	d.count(+1)
	d.owned.own(c, p.session)
	c.lost = func() {
		d.count(-1)
		c.lived()
	}
	// What the connection does on its own is no part of the trace of whoever needed it first.
	c.quit, c.stop = context.WithCancel(p.life()) //nolint:contextcheck // see above
	if err := d.open(ctx, c, p); err != nil {
		if c.wire != nil {
			c.Close(true)
		} else {
			c.stop()
			c.lost()
			c.disown()
		}
		return nil, serverError(spec.Name, err)
	}
	if err := c.negotiate(ctx, p); err != nil {
		c.Close(true)
		return nil, err
	}
	c.establish()
	if c.modern() {
		c.start(new(int), 1, c.follow)
	} else {
		c.wire.listen(ctx)
	}
	return c, nil
}

// open makes the wire of c.
func (d dialer) open(ctx context.Context, c *Conn, p plan) error {
	switch {
	case d.spec.URL != "" && d.spec.SSE:
		w := newSSEWire(d, c)
		c.wire = w
		return w.open(ctx)
	case d.spec.URL != "":
		c.wire = newHTTPWire(d, c, p.resume.SessionID)
		return nil
	}
	w, err := startStdio(d.spec, c)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDown, err)
	}
	c.wire = w
	w.run() // not earlier: what it reads may need an answer over c.wire
	return nil
}
