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
)

// supervisor keeps the hub's own connection to one server: it connects again after a loss, pings servers reached by
// HTTP, and reads the lists again when there is a reason.
type supervisor struct {
	cfg      Config
	log      *slog.Logger
	dialer   *dialer
	state    *serverState
	warnings *warnings
	checks   *sessionChecks

	check   chan struct{}   // a call could not reach the server
	changes chan []string   // methods of the notifications of list changes; holds one slice
	relists *relistRequests // of clients and operators
}

func newSupervisor(cfg Config, d *dialer, state *serverState, w *warnings, checks *sessionChecks) *supervisor {
	return &supervisor{cfg: cfg, log: d.tel.log.With("upstream", d.spec.Name), dialer: d, state: state, warnings: w, checks: checks,
		check: make(chan struct{}, 1), changes: make(chan []string, 1), relists: newRelistRequests()}
}

// run keeps the server connected until ctx ends.
func (s *supervisor) run(ctx context.Context) {
	defer func() {
		s.relists.take().end(serverError(s.dialer.spec.Name, ErrDown))
		s.dialer.closeIdle()
		s.state.endAttempt() // no call waits for another one
	}()
	pauses := transport.Backoff{First: firstPause, Max: maxPause, Jitter: 0.25}
	for ctx.Err() == nil {
		start, answered := time.Now(), s.state.answered.Load()
		err := s.connectAndWatch(ctx)
		if ctx.Err() != nil {
			return
		}
		isUseful := s.state.answered.Load() != answered // and only forgets its sessions again and again
		if time.Since(start) > stable || (isUseful && errors.Is(err, transport.ErrSessionGone)) {
			pauses.Reset()
		}
		pause := pauses.Next()
		if pauses.Attempts() == 1 && errors.Is(err, transport.ErrSessionGone) {
			s.log.InfoContext(ctx, "the server forgot the session; initializing again", "err", instrument.Redacted(err))
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
	c, first, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer c.close(true)
	s.warn(first, nil)
	s.publish(c, first.Inventory)
	s.relists.take().end(nil) // they have just been read
	s.log.InfoContext(ctx, "server is up", "transport", s.dialer.spec.Transport(), "protocol", first.Initialized.ProtocolVersion,
		"tools", len(first.Tools), "prompts", len(first.Prompts), "resources", len(first.Resources), "templates", len(first.Templates))
	return s.watch(ctx, c, first)
}

// connect makes the hub's own connection and reads what the server offers.
func (s *supervisor) connect(ctx context.Context) (c *Conn, first listing, err error) {
	spec := s.dialer.spec
	ctx, span := s.dialer.tel.startMaintenance(ctx, "mcphub.upstream.connect", spec.Name)
	defer func() { endSpan(span, err) }()
	s.state.beginAttempt(s.dialer.limits.next())
	by := openedByHub
	if spec.isolation() == Shared {
		by = openedShared
	}
	c, err = s.dialer.dial(ctx, dialConfig{opener: by, sink: controlSink{s}, shared: by == openedShared, sse: s.state.isSSE(),
		negotiation: negotiation{identity: s.cfg.Identity, era: s.state.eraToTry(),
			legacy: s.state.prefersLegacy()}})
	if err != nil {
		s.state.forgetEra()
		return nil, first, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, spec.connectTimeout(), spec.connectTimedOut())
	defer cancel()
	c.dialect().awaitListening(ctx) // before the lists are read, so that no change is missed
	first, err = listingOf{conn: c, before: s.state.offered()}.read(ctx)
	s.dialer.own.countListing(relistConnect, err == nil && len(first.failed) == 0)
	if err != nil {
		c.close(true)
		return nil, first, c.withLastLines(err)
	}
	return c, first, nil
}

// watch returns when the connection is lost, and why.
func (s *supervisor) watch(ctx context.Context, c *Conn, first listing) error {
	tick := time.NewTicker(pingInterval)
	defer tick.Stop()
	lists := newRelister(c, s.dialer, s.relists, first)
	defer lists.stop()
	unanswered := 0
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.done():
			return s.lost(c, serverError(c.spec.Name, fmt.Errorf("%w: %w", ErrDown, c.err())))
		case methods := <-s.changes:
			lists.plan.reported(methods, time.Now())
			continue
		case <-lists.due():
			lists.startDue(ctx, s.state.offered())
			continue
		case <-lists.wanted():
			lists.startWanted(ctx, s.state.offered())
			continue
		case result := <-lists.results:
			lists.ended(result)
			result.request.end(s.relisted(ctx, c, result))
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

// ping checks whether the server is reachable. Any answer of its era will do, unless it means that the session is gone.
func (s *supervisor) ping(ctx context.Context, c *Conn) error {
	pingCtx, cancel := context.WithTimeoutCause(ctx, pingTimeout, ErrTimeout)
	defer cancel()
	var how refusal
	response, err := c.Call(pingCtx, Request{Method: protocol.MethodPing, refused: &how})
	if pingCtx.Err() != nil && !errors.Is(err, ErrTimeout) {
		return nil // the hub is stopping
	}
	if c.dialect().isOtherEra(response, err) {
		return serverError(c.spec.Name, errOtherEra)
	}
	if how.is && !how.unavailable && s.checks.isGone(ctx, c, c.loggable(how, nil)) {
		return serverError(c.spec.Name, c.err())
	}
	if err == nil && !how.is {
		s.state.answered.Add(1)
	}
	return err
}

// relisted makes known what a reading of the lists has brought. It returns why it brought nothing.
func (s *supervisor) relisted(ctx context.Context, c *Conn, result relisted) error {
	if result.err != nil && isGone(ctx, c, result.err) {
		s.checkSoon()
		return result.err
	}
	s.warn(result.listing, result.only)
	if result.err != nil {
		s.checkSoon() // that no list can be read may have a reason that is not theirs
		return result.err
	}
	before := s.state.offered()
	if sameLists(before, result.Inventory) && len(result.Changed) == 0 {
		return nil
	}
	s.relists.helped()
	s.log.InfoContext(ctx, "the server's lists were read again", "reason", string(result.why), "tools", len(result.Tools),
		"tools_before", len(before.Tools), "prompts", len(result.Prompts), "resources", len(result.Resources),
		"templates", len(result.Templates))
	s.publish(c, result.Inventory)
	return nil
}

// warn makes what is wrong with the lists known. Only are those that were read, by method; nil: all were.
func (s *supervisor) warn(result listing, only map[string]error) {
	for _, l := range lists() {
		if _, wasRead := only[l.method]; only != nil && !wasRead {
			continue
		}
		s.warnings.set(WarnListFailed, l.method, result.failed[l.method])
		s.warnings.set(WarnListCut, l.method, result.cut[l.method])
	}
}

// publish makes the connection and what the server offers known, first to the state, then to the functions of Config.
func (s *supervisor) publish(c *Conn, inv Inventory) {
	s.dialer.tools.set(inv.Tools)
	s.dialer.own.calls.Prune()
	isNew := s.state.markUp(c, inv)
	if isNew {
		s.checks.reset()
	}
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
	s.relists.take().end(err)
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
