package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
)

// State is what a server is doing.
type State string

// The states of a server.
const (
	Starting State = "starting" // an attempt to connect is under way that calls wait for
	Up       State = "up"
	Down     State = "down" // retried
)

// Status is what is known of a server now.
type Status struct {
	Name            string
	Transport       string
	Isolation       Isolation
	State           State
	Since           time.Time // of State
	Error           string    // why it is down
	NextAttempt     time.Time // when it is down
	ProtocolVersion string
	ServerInfo      json.RawMessage
	Connections     int // processes or sessions there are now
	Tools           int
	Prompts         int
	Resources       int
	Templates       int
}

// Server is one configured server. It keeps one connection of its own, over
// which it lists what the server offers and notices when it is gone.
type Server struct {
	dialer
	log    *slog.Logger
	cfg    Config
	wake   chan struct{} // somebody found the server unreachable
	change chan []string // what the server says has changed: methods of notifications

	mu          sync.Mutex
	state       State
	since       time.Time
	failure     error
	next        time.Time
	control     *Conn
	inventory   Inventory
	era         protocol.Era  // that the server was last connected in
	sse         bool          // over the HTTP+SSE transport of 2024-11-05
	sessionless bool          // speaks legacy versions too, but keeps no sessions
	settled     chan struct{} // closed when the attempt that calls wait for is over
}

// Name returns the configured name.
func (s *Server) Name() string { return s.spec.Name }

// The pauses between attempts to connect.
const (
	firstPause = 500 * time.Millisecond
	maxPause   = 30 * time.Second
	stable     = time.Minute // a connection that lasted so long is no flapping one

	pingInterval = 15 * time.Second
	pingTimeout  = 10 * time.Second
	maxPings     = 3 // unanswered in a row

	changePause = 250 * time.Millisecond // collects a storm of list changes
)

func newServer(spec Spec, cfg Config, tel *telemetry) *Server {
	s := &Server{cfg: cfg, log: tel.log.With("upstream", spec.Name), state: Starting, since: time.Now(),
		wake: make(chan struct{}, 1), change: make(chan []string, 1), settled: make(chan struct{})}
	spec.mask = spec.masker()
	tools := new(toolParams)
	s.dialer = dialer{spec: spec, tel: tel, own: tel.addServer(spec.Name, tools.lists), conns: new(atomic.Int64), tools: tools,
		owned: &owners{conns: map[*Conn]ownership{}}}
	if spec.URL != "" {
		s.client, s.aside = newHTTPClient(), newHTTPClient()
	}
	return s
}

// run keeps the server connected until ctx ends.
func (s *Server) run(ctx context.Context) {
	defer func() {
		s.closeIdle()
		s.settle() // nobody waits for another attempt
	}()
	for failures := 0; ctx.Err() == nil; {
		start := time.Now()
		err := s.connected(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(start) > stable {
			failures = 0
		}
		if failures++; failures == 1 && errors.Is(err, ErrSessionGone) {
			s.log.InfoContext(ctx, "the server forgot the session; initializing again")
			continue // it is there, and calls wait
		}
		wait := min(maxPause, firstPause<<min(failures-1, 10))
		wait += rand.N(wait / 4) //nolint:gosec // jitter
		s.setDown(err, time.Now().Add(wait))
		s.log.WarnContext(ctx, "server is down", "err", err, "attempt", failures, "next", wait.Round(time.Millisecond).String())
		if pause(ctx, wait) != nil {
			return
		}
	}
}

// connected connects, lists, and watches until the connection is lost.
func (s *Server) connected(ctx context.Context) error {
	c, inv, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer c.Close(true)
	s.setUp(c, inv, nil)
	s.log.InfoContext(ctx, "server is up", "transport", s.spec.Transport(), "protocol", inv.Initialized.ProtocolVersion,
		"tools", len(inv.Tools), "prompts", len(inv.Prompts), "resources", len(inv.Resources), "templates", len(inv.Templates))
	return s.watch(ctx, c)
}

// connect makes the server's own connection and reads what it offers.
func (s *Server) connect(ctx context.Context) (c *Conn, inv Inventory, err error) {
	ctx, span := s.tel.startUpkeep(ctx, "mcphub.upstream.connect", s.spec.Name)
	defer func() { endSpan(span, ErrorType(jsonrpc.Message{}, err), err) }()
	c, err = s.open(ctx, plan{sink: controlSink{s}, who: s.cfg.Identity, many: s.spec.isolation() == Shared, era: s.eraToTry()})
	if err != nil {
		s.forgetEra()
		return nil, inv, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, s.spec.connectTimeout(), errConnectTimeout)
	defer cancel()
	c.hears(ctx) // before the lists are read, so that no change is missed
	if inv, err = list(ctx, c); err != nil {
		c.Close(true)
		return nil, inv, err
	}
	return c, inv, nil
}

// watch returns when the connection is lost, and why.
func (s *Server) watch(ctx context.Context, c *Conn) error {
	tick := time.NewTicker(pingInterval)
	defer tick.Stop()
	pings := 0
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.Done():
			s.renew(c)
			s.restarted(c.Err())
			return serverError(s.spec.Name, fmt.Errorf("%w: %w", ErrDown, c.Err()))
		case methods := <-s.change:
			if pause(ctx, changePause) != nil {
				return nil
			}
			s.relist(ctx, c, methods)
			continue
		case <-tick.C:
		case <-s.wake:
		}
		// A child process shows its end by itself, and one that is busy with a
		// call may well not answer a ping.
		if s.spec.URL == "" {
			continue
		}
		err := s.ping(ctx, c)
		if pings++; err == nil {
			pings = 0
		}
		if errors.Is(err, ErrDown) || errors.Is(err, ErrSessionGone) || errors.Is(err, errEra) || pings >= maxPings {
			s.renew(c)
			s.restarted(err)
			return err
		}
	}
}

func (s *Server) restarted(err error) {
	reason := "exited"
	switch {
	case errors.Is(err, ErrSessionGone):
		reason = "session_gone"
	case s.spec.URL != "":
		reason = "unreachable"
	}
	s.own.restarts[reason].Inc()
}

// ping finds out whether the server is there. Any answer will do.
func (s *Server) ping(ctx context.Context, c *Conn) error {
	ctx, cancel := context.WithTimeoutCause(ctx, pingTimeout, ErrTimeout)
	defer cancel()
	response, err := c.Call(ctx, Request{Method: protocol.MethodPing})
	if ctx.Err() != nil && !errors.Is(err, ErrTimeout) {
		return nil // the hub is stopping
	}
	if c.otherEra(response, err) {
		return serverError(s.spec.Name, errEra)
	}
	return err
}

// relist reads the lists again after the server said which have changed.
func (s *Server) relist(ctx context.Context, c *Conn, changed []string) {
	select { // what was said meanwhile is read now, too
	case more := <-s.change:
		changed = append(changed, more...)
	default:
	}
	ctx, span := s.tel.startUpkeep(ctx, "mcphub.upstream.list", s.spec.Name)
	ctx, cancel := context.WithTimeoutCause(ctx, s.spec.connectTimeout(), errConnectTimeout)
	defer cancel()
	inv, err := list(ctx, c)
	endSpan(span, ErrorType(jsonrpc.Message{}, err), err)
	if err != nil {
		s.log.WarnContext(ctx, "the server's lists could not be read again", "err", err)
		return
	}
	s.setUp(c, inv, changed)
}

func (s *Server) setUp(c *Conn, inv Inventory, changed []string) {
	s.tools.learn(inv.Tools)
	s.own.calls.Prune()
	inv.Changed = changed
	s.mu.Lock()
	if s.state != Up {
		s.state, s.since, s.failure, s.next = Up, time.Now(), nil, time.Time{}
	}
	connected := s.control != c
	if connected {
		s.sessionless = false // to be seen again
	}
	s.control, s.inventory = c, inv
	s.era, s.sse = protocol.Legacy, c.spec.SSE
	if c.modern() {
		s.era = protocol.Modern
	}
	s.mu.Unlock()
	s.own.up.Set(1)
	s.own.tools.Set(float64(len(inv.Tools)))
	if connected && s.cfg.OnConnected != nil {
		s.cfg.OnConnected(s.spec.Name)
	}
	if s.cfg.OnInventory != nil {
		s.cfg.OnInventory(s.spec.Name, inv)
	}
	s.settle()
}

// setDown notes why the server is down. What it offered stays listed: clients
// keep their lists too, and a call says at once that the server is down.
func (s *Server) setDown(err error, next time.Time) {
	s.mu.Lock()
	if s.state != Down {
		s.state, s.since = Down, time.Now()
	}
	s.control, s.failure, s.next = nil, err, next
	s.mu.Unlock()
	s.own.up.Set(0)
	s.settle()
}

func (s *Server) settle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.settled:
	default:
		close(s.settled)
	}
}

// attempt is closed when the attempt to connect is over that calls wait for.
func (s *Server) attempt() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.settled
}

// ready returns the server's own connection. While the server is starting it
// waits; a server that is down fails at once.
func (s *Server) ready(ctx context.Context) (*Conn, error) {
	select {
	case <-s.attempt():
	case <-ctx.Done():
		return nil, serverError(s.spec.Name, fmt.Errorf("%w: it is still being started: %w", ErrDown, context.Cause(ctx)))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.control == nil {
		return nil, s.downError()
	}
	return s.control, nil
}

// renew has calls wait for the next attempt to connect, after c's session was
// forgotten.
func (s *Server) renew(c *Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.control == c && isClosed(c.Done()) && errors.Is(c.Err(), ErrSessionGone) {
		s.control, s.settled = nil, make(chan struct{})
		s.state, s.since = Starting, time.Now()
	}
}

// downError says why the server is down and when it is tried again. The caller
// holds mu.
func (s *Server) downError() error {
	why := s.failure
	if why == nil {
		why = errors.New("no reason is known")
	}
	short := func(text string) string {
		return strings.TrimPrefix(strings.TrimPrefix(text, fmt.Sprintf("server %q ", s.spec.Name)), ErrDown.Error()+": ")
	}
	held := instrument.NewPastError(short(why.Error()), short(instrument.Redacted(why)))
	return serverError(s.spec.Name, fmt.Errorf("%w: %w (next attempt in %s)", ErrDown, held,
		max(0, time.Until(s.next)).Round(100*time.Millisecond)))
}

// suspect has the server checked soon, because a call could not reach it.
func (s *Server) suspect() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Status returns what is known of the server now.
func (s *Server) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	spec := s.spec
	spec.SSE = spec.SSE || s.sse
	st := Status{Name: s.spec.Name, Transport: spec.Transport(), Isolation: s.spec.isolation(), State: s.state,
		Since: s.since, NextAttempt: s.next, ProtocolVersion: s.inventory.Initialized.ProtocolVersion,
		ServerInfo: s.inventory.Initialized.ServerInfo, Connections: int(s.conns.Load()), Tools: len(s.inventory.Tools),
		Prompts: len(s.inventory.Prompts), Resources: len(s.inventory.Resources), Templates: len(s.inventory.Templates)}
	if s.failure != nil {
		st.Error = s.failure.Error()
	}
	return st
}

// Initialized returns what the server said when it was last connected to, and
// whether it ever was.
func (s *Server) Initialized() (Initialized, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.inventory.Initialized, s.inventory.Initialized.ProtocolVersion != ""
}

// changed has the lists read again soon.
func (s *Server) changed(method string) {
	methods := []string{method}
	for {
		select {
		case s.change <- methods:
			return
		case more := <-s.change:
			if !slices.Contains(more, method) {
				more = append(more, method)
			}
			methods = more
		}
	}
}

// controlSink takes what the server sends on its own connection, which may be
// the shared one.
type controlSink struct{ s *Server }

func (k controlSink) Notify(m jsonrpc.Message) {
	switch m.Method {
	case protocol.MethodToolsListChanged, protocol.MethodPromptsListChanged, protocol.MethodResourcesListChanged:
		k.s.changed(m.Method)
	default:
		if k.s.cfg.OnNotification != nil && k.s.spec.isolation() == Shared {
			k.s.cfg.OnNotification(k.s.spec.Name, m)
		}
	}
}

func (k controlSink) Ask(_ context.Context, m jsonrpc.Message) (json.RawMessage, error) {
	return nil, jsonrpc.Errorf(jsonrpc.CodeMethodNotFound,
		"the hub cannot tell which client %s is meant for: this connection is shared", instrument.MethodLabel(m.Method))
}

// Isolated reports whether each client session has its own connection.
func (s *Server) Isolated() bool { return s.spec.isolation() == PerSession }
