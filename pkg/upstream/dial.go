package upstream

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
	"github.com/mcphub-go/mcphub/pkg/upstream/transport"
)

// dialer makes the connections to one server.
type dialer struct {
	spec    Spec
	tel     *telemetry
	own     *serverMetrics
	clients *transport.HTTPClients // of a server reached by HTTP
	conns   *atomic.Int64          // connections there are, those in the making included
	tools   *toolParams            // that the server lists
	owned   *owners
}

// closeIdle closes the connections that nobody uses.
func (d dialer) closeIdle() {
	if d.clients != nil {
		d.clients.CloseIdle()
	}
}

func (d dialer) count(delta int64) {
	d.conns.Add(delta)
	d.own.sessions.Add(float64(delta))
}

// dial connects to the server.
func (d dialer) dial(ctx context.Context, p plan) (*Conn, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, d.spec.connectTimeout(), transport.ErrConnectTimeout)
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
	refused, ok := errors.AsType[transport.StatusError](err)
	return ok && (refused.Code == http.StatusBadRequest || refused.Code == http.StatusNotFound || refused.Code == http.StatusMethodNotAllowed)
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
	c.transport = d.transport(c, p)
	if err := c.transport.Start(ctx); err != nil {
		c.Close(true)
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
		c.transport.Listen(ctx)
	}
	return c, nil
}

// transport makes the transport of c.
func (d dialer) transport(c *Conn, p plan) transport.Transport {
	cfg := transport.Config{Handler: handler{c}, Log: c.log, MaxMessage: d.spec.maxMessage(), Context: c.quit,
		Command: d.spec.Command, Args: d.spec.Args, Env: d.spec.Env, Dir: d.spec.Dir, WriteTimeout: d.spec.writeTimeout(), Mask: d.spec.masked,
		URL: d.spec.URL, SSE: d.spec.SSE, Headers: d.spec.Headers, SessionID: p.resume.SessionID, Clients: d.clients,
		InjectTrace: d.tel.injectHeader, HTTPVersion: answeredBy,
		Unmatched:    func() { d.tel.unmatched("response") },
		CheckSession: func(ctx context.Context) { _, _ = c.Call(ctx, Request{Method: protocol.MethodPing}) }}
	return transport.New(cfg)
}

// handler takes the messages of a server that belong to no response.
type handler struct{ c *Conn }

func (h handler) Receive(id jsonrpc.ID, m jsonrpc.Message) {
	var related *call
	if id != "" {
		h.c.mu.Lock()
		related = h.c.calls[id]
		h.c.mu.Unlock()
	}
	h.c.receive(related, m)
}

func (h handler) Deliver(m jsonrpc.Message) { h.c.deliver(m) }
func (h handler) Lost(error)                { h.c.lost() }
