package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"sync/atomic"

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
	tools   *toolHeaders           // that the server lists
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
	return ok && refusesRequest(refused)
}

// attempt makes one connection.
func (d dialer) attempt(ctx context.Context, p plan) (*Conn, error) {
	spec := d.spec
	// What the connection does by itself is not part of the trace of the client that needed it first.
	background := newBackground(p.life()) //nolint:contextcheck // see above
	c := &Conn{spec: spec, tel: newConnTelemetry(d.tel, d.own, spec, p.session), sink: p.sink, shared: p.shared, background: background,
		pending: newPendingCalls(), tools: d.tools}
	if c.sink == nil {
		c.sink = noSink{}
	}
	c.setDialect(legacyDialect{c})
	c.requests = newServerRequests(c.tel, background, spec.callTimeout())
	c.requests.send = func(ctx context.Context, message []byte) error { return c.transport.Send(ctx, message, nil) }
	c.requests.report = func(ctx context.Context, params json.RawMessage) error {
		return c.Notify(ctx, protocol.MethodProgress, params)
	}
	c.requests.isLost = c.isLost
	d.count(+1)
	d.owned.own(c, p.session)
	c.onLost = func() { d.count(-1) }
	c.onClosed = func() { d.owned.release(c) }
	c.transport = d.transport(c, p)
	if err := c.transport.Start(ctx); err != nil {
		c.Close(true)
		return nil, serverError(spec.Name, err)
	}
	if err := c.negotiate(ctx, p.negotiation); err != nil {
		c.Close(true)
		return nil, err
	}
	c.tel.connected()
	c.dialect().listen(ctx)
	return c, nil
}

// transport makes the transport of c.
func (d dialer) transport(c *Conn, p plan) transport.Transport {
	cfg := transport.Config{Handler: inbound{c}, Log: c.tel.log, MaxMessage: d.spec.maxMessage(), Context: c.background.ctx,
		Command: d.spec.Command, Args: d.spec.Args, Env: d.spec.Env, Dir: d.spec.Dir, WriteTimeout: d.spec.writeTimeout(), Mask: d.spec.masked,
		URL: d.spec.URL, SSE: d.spec.SSE, Headers: d.spec.Headers, SessionID: p.resume.SessionID, Clients: d.clients,
		InjectTrace: d.tel.injectHeader, HTTPVersion: setHTTPVersion,
		Unmatched:    func() { d.tel.unmatched("response") },
		CheckSession: func(ctx context.Context) { _, _ = c.Call(ctx, Request{Method: protocol.MethodPing}) }}
	return transport.New(cfg)
}

// plan is how a connection is to be made.
type plan struct {
	negotiation
	sink    Sink   // takes what belongs to no call
	shared  bool   // it will serve several clients
	session string // public id of the client's; empty: none, or several

	owner context.Context //nolint:containedctx // see LinkConfig.Owner
}

// life is what the context of the connection is derived from.
func (p plan) life() context.Context {
	if p.owner == nil {
		return context.Background()
	}
	return context.WithoutCancel(p.owner)
}
