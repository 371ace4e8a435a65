package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
	"github.com/mcphub-go/mcphub/pkg/upstream/transport"
)

const (
	// The pauses between attempts to connect, those of the hub and those of a client.
	firstPause = 500 * time.Millisecond
	maxPause   = 30 * time.Second
	stable     = time.Minute // the next pause is the first again after a connection that lasted so long

	pingInterval = 15 * time.Second
	pingTimeout  = 10 * time.Second
	maxPings     = 3 // unanswered in a row

	changePause = 250 * time.Millisecond // after a list change, to collect others
)

// supervisor keeps the hub's own connection to one server: it connects again after a loss, pings servers reached by
// HTTP, and reads the lists again when the server reports that they have changed.
type supervisor struct {
	cfg    Config
	log    *slog.Logger
	dialer *dialer
	state  *serverState

	check   chan struct{} // a call could not reach the server
	changes chan []string // methods of the notifications of list changes; holds one slice
}

func newSupervisor(cfg Config, d *dialer, state *serverState) *supervisor {
	return &supervisor{cfg: cfg, log: d.tel.log.With("upstream", d.spec.Name), dialer: d, state: state,
		check: make(chan struct{}, 1), changes: make(chan []string, 1)}
}

// run keeps the server connected until ctx ends.
func (s *supervisor) run(ctx context.Context) {
	defer func() {
		s.dialer.closeIdle()
		s.state.endAttempt() // no call waits for another one
	}()
	pauses := transport.Backoff{First: firstPause, Max: maxPause, Jitter: 0.25}
	for ctx.Err() == nil {
		start := time.Now()
		err := s.connectAndWatch(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(start) > stable {
			pauses.Reset()
		}
		pause := pauses.Next()
		if pauses.Attempts() == 1 && errors.Is(err, transport.ErrSessionGone) {
			s.log.InfoContext(ctx, "the server forgot the session; initializing again")
			continue // the server is reachable, and calls wait
		}
		s.markDown(err, time.Now().Add(pause))
		s.log.WarnContext(ctx, "server is down", "err", err, "attempt", pauses.Attempts(), "next", pause.Round(time.Millisecond).String())
		if transport.Pause(ctx, pause) != nil {
			return
		}
	}
}

// connectAndWatch connects, reads the lists, and returns why the connection was lost.
func (s *supervisor) connectAndWatch(ctx context.Context) error {
	c, inv, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer c.close(true)
	s.publish(c, inv)
	s.log.InfoContext(ctx, "server is up", "transport", s.dialer.spec.Transport(), "protocol", inv.Initialized.ProtocolVersion,
		"tools", len(inv.Tools), "prompts", len(inv.Prompts), "resources", len(inv.Resources), "templates", len(inv.Templates))
	return s.watch(ctx, c)
}

// connect makes the hub's own connection and reads what the server offers.
func (s *supervisor) connect(ctx context.Context) (c *Conn, inv Inventory, err error) {
	spec := s.dialer.spec
	ctx, span := s.dialer.tel.startMaintenance(ctx, "mcphub.upstream.connect", spec.Name)
	defer func() { endSpan(span, err) }()
	s.state.beginAttempt(s.dialer.limits.next())
	c, err = s.dialer.dial(ctx, dialConfig{sink: controlSink{s}, shared: spec.isolation() == Shared, sse: s.state.isSSE(),
		negotiation: negotiation{identity: s.cfg.Identity, era: s.state.eraToTry()}})
	if err != nil {
		s.state.forgetEra()
		return nil, inv, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, spec.connectTimeout(), spec.connectTimedOut())
	defer cancel()
	c.dialect().awaitListening(ctx) // before the lists are read, so that no change is missed
	if inv, err = readInventory(ctx, c); err != nil {
		c.close(true)
		return nil, inv, err
	}
	return c, inv, nil
}

// watch returns when the connection is lost, and why.
func (s *supervisor) watch(ctx context.Context, c *Conn) error {
	tick := time.NewTicker(pingInterval)
	defer tick.Stop()
	unanswered := 0
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.done():
			return s.lost(c, serverError(c.spec.Name, fmt.Errorf("%w: %w", ErrDown, c.err())))
		case methods := <-s.changes:
			if transport.Pause(ctx, changePause) != nil {
				return nil
			}
			s.relist(ctx, c, methods)
			continue
		case <-tick.C:
		case <-s.check:
		}
		if c.spec.kind().IsProcess() {
			continue // the end of a process shows by itself, and one that is busy with a call may not answer a ping
		}
		err := s.ping(ctx, c)
		if unanswered++; err == nil {
			unanswered = 0
		}
		if errors.Is(err, ErrDown) || errors.Is(err, transport.ErrSessionGone) || errors.Is(err, errOtherEra) || unanswered >= maxPings {
			return s.lost(c, err)
		}
	}
}

// lost notes that the hub has to connect again because of err, which it returns.
func (s *supervisor) lost(c *Conn, err error) error {
	s.state.expectReconnect(c)
	s.dialer.countRestart(err)
	return err
}

// ping checks whether the server is reachable. Any answer of its era will do.
func (s *supervisor) ping(ctx context.Context, c *Conn) error {
	ctx, cancel := context.WithTimeoutCause(ctx, pingTimeout, ErrTimeout)
	defer cancel()
	response, err := c.Call(ctx, Request{Method: protocol.MethodPing})
	if ctx.Err() != nil && !errors.Is(err, ErrTimeout) {
		return nil // the hub is stopping
	}
	if c.dialect().isOtherEra(response, err) {
		return serverError(c.spec.Name, errOtherEra)
	}
	return err
}

// relist reads the lists again. Changed are the methods of the notifications that reported changes.
func (s *supervisor) relist(ctx context.Context, c *Conn, changed []string) {
	select { // changes that were reported during the pause are in the lists, too
	case more := <-s.changes:
		changed = append(changed, more...)
	default:
	}
	ctx, span := s.dialer.tel.startMaintenance(ctx, "mcphub.upstream.list", c.spec.Name)
	ctx, cancel := context.WithTimeoutCause(ctx, c.spec.connectTimeout(), c.spec.connectTimedOut())
	defer cancel()
	inv, err := readInventory(ctx, c)
	endSpan(span, err)
	if err != nil {
		s.log.WarnContext(ctx, "the server's lists could not be read again", "err", err)
		return
	}
	inv.Changed = changed
	s.publish(c, inv)
}

// publish makes the connection and what the server offers known, first to the state, then to the functions of Config.
func (s *supervisor) publish(c *Conn, inv Inventory) {
	s.dialer.tools.set(inv.Tools)
	s.dialer.own.calls.Prune()
	isNew := s.state.markUp(c, inv)
	s.dialer.own.up.Set(1)
	s.dialer.own.tools.Set(float64(len(inv.Tools)))
	if s.cfg.OnInventory != nil {
		s.cfg.OnInventory(c.spec.Name, inv)
	}
	if isNew && s.cfg.OnConnected != nil {
		s.cfg.OnConnected(c.spec.Name)
	}
	s.state.endAttempt()
}

func (s *supervisor) markDown(err error, nextAttempt time.Time) {
	s.state.markDown(err, nextAttempt)
	s.dialer.own.up.Set(0)
	s.state.endAttempt()
}

// checkSoon has the server pinged soon, because a call could not reach it.
func (s *supervisor) checkSoon() {
	select {
	case s.check <- struct{}{}:
	default:
	}
}

// listChanged has the lists read again soon. It does not block.
func (s *supervisor) listChanged(method string) {
	methods := []string{method}
	for {
		select {
		case s.changes <- methods:
			return
		case more := <-s.changes:
			if !slices.Contains(more, method) {
				more = append(more, method)
			}
			methods = more
		}
	}
}

// controlSink is the Sink of the hub's own connection, which may be the shared one.
type controlSink struct{ s *supervisor }

// Notify implements Sink.
func (k controlSink) Notify(m jsonrpc.Message) {
	spec := k.s.dialer.spec
	switch m.Method {
	case protocol.MethodToolsListChanged, protocol.MethodPromptsListChanged, protocol.MethodResourcesListChanged:
		k.s.listChanged(m.Method)
	default:
		if k.s.cfg.OnNotification != nil && spec.isolation() == Shared {
			k.s.cfg.OnNotification(spec.Name, m)
		}
	}
}

// Ask implements Sink.
func (k controlSink) Ask(_ context.Context, m jsonrpc.Message) (json.RawMessage, error) {
	return nil, jsonrpc.Errorf(jsonrpc.CodeMethodNotFound,
		"the hub cannot tell which client %s is meant for: this connection is shared", instrument.MethodLabel(m.Method))
}
