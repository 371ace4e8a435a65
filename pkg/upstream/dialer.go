package upstream

import (
	"cmp"
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/mcphub-go/mcphub/pkg/budget"
	"github.com/mcphub-go/mcphub/pkg/protocol"
	"github.com/mcphub-go/mcphub/pkg/upstream/transport"
)

// dialer makes the connections to one server and counts them. It lives as long as the Server and may be used
// concurrently.
type dialer struct {
	spec        Spec
	tel         *telemetry
	own         *serverMetrics
	clients     *transport.HTTPClients // nil: the server is a process
	tools       *toolHeaders           // that the server lists
	owners      *owners
	limits      startLimits
	processes   processes
	places      *places         // of the connections that are not the hub's; nil: no limit
	memory      *budget.Account // for what is read on shared connections; nil: no limit
	connections atomic.Int64    // that there are, those being made included

	// checkSession gives up a connection if the server has forgotten its session. It is set before the first connection.
	checkSession func(ctx context.Context, c *Conn)
}

// processes is what the child processes of all servers have in common.
type processes struct {
	graces   *transport.Graces
	starting func(server string) func(pid int) func() // see Config.Starting; may be nil
}

// startingOf returns starting for one server.
func (p processes) startingOf(server string) func() (started func(pid int) (ended func())) {
	if p.starting == nil {
		return nil
	}
	return func() func(int) func() { return p.starting(server) }
}

func newDialer(spec Spec, tel *telemetry, p processes) *dialer {
	spec.mask = newMask(spec)
	tools := new(toolHeaders)
	d := &dialer{spec: spec, tel: tel, own: tel.addServer(spec.Name, tools.has), tools: tools, owners: newOwners(),
		limits: startLimits{spec: spec}, processes: p}
	if spec.kind().HasHeaders() {
		d.clients = transport.NewHTTPClients()
	}
	return d
}

// dialConfig is how a connection is to be made.
type dialConfig struct {
	negotiation
	sse     bool   // the server is known to speak HTTP+SSE
	sink    Sink   // takes what belongs to no call; nil: nothing does
	shared  bool   // the connection will serve several clients
	opener  opener // for the metrics; default: openedByHub
	session string // public id of the session of its only client; empty: none, or several

	memory *budget.Account // of its only client; nil: that of the server
	own    bool            // it is not the hub's
	owner  context.Context //nolint:containedctx // see LinkConfig.Owner
}

// context returns what the context of the connection is derived from.
func (cfg dialConfig) context() context.Context {
	if cfg.owner == nil {
		return context.Background()
	}
	return context.WithoutCancel(cfg.owner)
}

// dial connects to the server.
func (d *dialer) dial(ctx context.Context, cfg dialConfig) (*Conn, error) {
	limit, start := d.limits.next(), time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, limit.Duration, limit.exceeded())
	defer cancel()
	c, err := d.dialAnyEra(ctx, cfg)
	if err != nil {
		d.own.connected["error"].Inc()
		if errors.Is(err, transport.ErrConnectTimeout) {
			d.limits.tooShort(limit)
		}
		return nil, err
	}
	d.limits.enough(time.Since(start))
	d.own.connected["ok"].Inc()
	return c, nil
}

// dialAnyEra connects. An attempt that fails because the server is of another era or transport than assumed is
// followed by one that assumes those.
func (d *dialer) dialAnyEra(ctx context.Context, cfg dialConfig) (*Conn, error) {
	spec := d.spec
	if spec.SSE = spec.SSE || cfg.sse; spec.SSE {
		cfg.era = protocol.Legacy // the transport is older than the modern era
	}
	c, err := d.connect(ctx, spec, cfg)
	if errors.Is(err, errProbed) && cfg.era != protocol.Modern {
		cfg.era = protocol.Legacy
		return d.connect(ctx, spec, cfg)
	}
	if errors.Is(err, errKeepsEra) {
		return d.startAsLegacy(ctx, cfg)
	}
	if spec.kind() == transport.StreamableHTTP && cfg.era != protocol.Modern && refusesPOST(err) {
		spec.SSE, cfg.era = true, protocol.Legacy
		if c, sseErr := d.connect(ctx, spec, cfg); sseErr == nil {
			return c, nil
		} // otherwise the first error is the more useful one
	}
	return c, err
}

// startAsLegacy starts a child of both eras anew, in the legacy era and without asking. If it does not speak that after
// all, it is started in the modern one.
func (d *dialer) startAsLegacy(ctx context.Context, cfg dialConfig) (*Conn, error) {
	d.tel.log.InfoContext(ctx, "the server keeps to the era in which it was asked; starting it again in the legacy one",
		"upstream", d.spec.Name)
	cfg.era = protocol.Legacy
	c, err := d.connect(ctx, d.spec, cfg)
	if err == nil || ctx.Err() != nil {
		return c, err
	}
	cfg.era, cfg.legacy = protocol.Modern, false
	return d.connect(ctx, d.spec, cfg)
}

// refusesPOST reports whether err is how a server of the HTTP+SSE transport answers initialize, specification
// 2025-11-25, basic/transports, backward compatibility.
func refusesPOST(err error) bool {
	refused, ok := errors.AsType[transport.StatusError](err)
	return ok && refusesRequest(refused)
}

// connect makes one connection.
func (d *dialer) connect(ctx context.Context, spec Spec, cfg dialConfig) (*Conn, error) {
	// What the connection does by itself is not part of the trace of the client that needed it first.
	b := newBackground(cfg.context()) //nolint:contextcheck // see above
	c := newConn(spec, newConnTelemetry(d.tel, d.own, spec, cfg.session), b, d.tools)
	c.setDialect(legacyDialect{c})
	c.memory = cmp.Or(cfg.memory, d.memory)
	c.requests.memory = c.memory
	if c.shared = cfg.shared; cfg.sink != nil {
		c.sink = cfg.sink
	}
	if cfg.own {
		if err := d.places.take(); err != nil {
			b.stop()
			return nil, err
		}
	}
	d.count(+1)
	by := cmp.Or(cfg.opener, openedByHub)
	ended := d.own.countOpen(by)
	c.onLost = func() { d.count(-1); ended() }
	d.owners.add(c, cfg.session)
	c.onClosed = func() {
		d.owners.remove(c)
		if cfg.own {
			d.places.leave()
		}
	}
	c.transport = d.newTransport(c, by, cfg.resume.SessionID, cfg.memory != nil)
	if err := c.transport.Start(ctx); err != nil {
		c.close(true)
		return nil, serverError(spec.Name, err)
	}
	if err := c.negotiate(ctx, cfg.negotiation); err != nil {
		c.close(true)
		return nil, c.withLastLines(err)
	}
	c.tel.connected()
	c.dialect().listen(ctx)
	return c, nil
}

func (d *dialer) newTransport(c *Conn, by opener, sessionID string, own bool) transport.Transport {
	spec := c.spec
	return transport.New(transport.Config{
		Handler: inbound{c}, Log: c.tel.log, Output: c.tel.output, MaxMessage: spec.maxMessage(), Context: c.background.ctx,
		Memory: c.memory, Own: own,
		Command: spec.Command, Args: spec.Args, Env: spec.Env, Dir: spec.Dir, WriteTimeout: spec.writeTimeout(),
		LastLines: &c.lastLines, Graces: d.processes.graces, Starting: d.processes.startingOf(spec.Name), Mask: spec.masked,
		URL: spec.URL, SSE: spec.SSE, Headers: spec.Headers, SessionID: sessionID, Clients: d.clients,
		Repaired: c.tel.repaired, Unreadable: d.tel.countUnreadable,
		InjectTrace:  d.tel.injectHeader,
		HTTPVersion:  setHTTPVersion,
		Unmatched:    func() { d.tel.unmatched("response") },
		Sessions:     d.own.sessionsOf(by),
		StreamAsked:  d.own.countStream,
		CheckSession: func(ctx context.Context) { d.checkSession(ctx, c) },
	})
}

// count counts connections.
func (d *dialer) count(delta int64) {
	d.connections.Add(delta)
	d.own.sessions.Add(float64(delta))
}

// countRestart counts a connection that was lost because of err and has to be made again.
func (d *dialer) countRestart(err error) {
	reason := "exited"
	switch {
	case errors.Is(err, transport.ErrSessionGone):
		reason = "session_gone"
	case !d.spec.kind().IsProcess():
		reason = "unreachable"
	}
	d.own.restarts[reason].Inc()
}

// closeIdle closes the TCP connections that are not in use.
func (d *dialer) closeIdle() {
	if d.clients != nil {
		d.clients.CloseIdle()
	}
}
