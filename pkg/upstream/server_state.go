package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/protocol"
)

// State is what a server is doing.
type State string

// The states of a server.
const (
	Starting State = "starting" // an attempt to connect is under way, and calls wait for it
	Up       State = "up"
	Down     State = "down" // attempts to connect follow
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
	Warnings        []Warning
}

// serverState is what the hub knows of one server: whether it is up, over which connection, what it offers, and which
// era and transport it last spoke. The supervisor writes it. It may be used concurrently.
type serverState struct {
	spec     Spec
	answered atomic.Int64 // calls and pings

	mu          sync.Mutex
	state       State
	since       time.Time
	failure     error
	nextAttempt time.Time
	control     *Conn // the hub's own connection; nil: there is none
	inventory   Inventory
	attempted   chan struct{} // closed when the attempt that calls wait for is over
	attempt     startingError // the attempt under way; zero: there is none

	era         protocol.Era // that the server was last connected in
	sse         bool         // over the HTTP+SSE transport of 2024-11-05
	sessionless bool         // a modern server that speaks legacy versions too, but has no sessions in them
}

func newServerState(spec Spec) *serverState {
	return &serverState{spec: spec, state: Starting, since: time.Now(), attempted: make(chan struct{})}
}

// markUp notes that the server is connected over c and what it offers. It reports whether c is a new connection.
func (s *serverState) markUp(c *Conn, inv Inventory) (isNew bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state != Up {
		s.state, s.since, s.failure, s.nextAttempt = Up, time.Now(), nil, time.Time{}
	}
	if isNew = s.control != c; isNew {
		s.sessionless = false // to be found out again
	}
	s.control, s.inventory, s.attempt = c, inv, startingError{}
	s.era, s.sse = c.dialect().era(), c.spec.SSE
	return isNew
}

// markDown notes why the server is down. Its inventory stays: clients keep their lists too, and a call fails at once
// with an error that says that the server is down.
func (s *serverState) markDown(err error, nextAttempt time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state != Down {
		s.state, s.since = Down, time.Now()
	}
	s.control, s.failure, s.nextAttempt, s.attempt = nil, err, nextAttempt, startingError{}
}

// beginAttempt notes that the hub begins to connect.
func (s *serverState) beginAttempt(limit startLimit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.attempt = startingError{time.Now(), limit}
}

// endAttempt lets the calls go on that wait for an attempt to connect.
func (s *serverState) endAttempt() {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.attempted:
	default:
		close(s.attempted)
	}
}

// attemptOver is closed when the attempt to connect that calls wait for is over.
func (s *serverState) attemptOver() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.attempted
}

// expectReconnect makes calls wait for the next attempt to connect, if the server has lost the session of c, the hub's
// own connection.
func (s *serverState) expectReconnect(c *Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.control == c && c.hasForgotten() {
		s.control, s.attempted = nil, make(chan struct{})
		s.state, s.since = Starting, time.Now()
	}
}

// shortestList returns the method of the shortest list that the server gave, or "".
func (s *serverState) shortestList() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.inventory.shortestList()
}

// ready returns the hub's own connection. While the server is starting it waits for some seconds at most; if it is down,
// it fails at once.
func (s *serverState) ready(ctx context.Context) (*Conn, error) {
	patience := time.NewTimer(s.spec.startPatience())
	defer patience.Stop()
	select {
	case <-s.attemptOver():
	case <-patience.C:
		return nil, serverError(s.spec.Name, s.starting())
	case <-ctx.Done():
		return nil, serverError(s.spec.Name, fmt.Errorf("%w: %w", s.starting(), context.Cause(ctx)))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.control == nil {
		return nil, s.downError()
	}
	return s.control, nil
}

// downError says why the server is down and when the next attempt is. The caller holds mu.
func (s *serverState) downError() error {
	failure := s.failure
	if failure == nil {
		failure = errors.New("no reason is known")
	}
	short := func(text string) string {
		return strings.TrimPrefix(strings.TrimPrefix(text, fmt.Sprintf("server %q ", s.spec.Name)), ErrDown.Error()+": ")
	}
	past := instrument.NewPastError(short(failure.Error()), short(instrument.Redacted(failure)))
	if !s.attempt.since.IsZero() {
		return serverError(s.spec.Name, fmt.Errorf("%w: %w (it %w)", ErrDown, past, s.attempt))
	}
	return serverError(s.spec.Name, fmt.Errorf("%w: %w (next attempt in %s)", ErrDown, past,
		max(0, time.Until(s.nextAttempt)).Round(100*time.Millisecond)))
}

// starting returns what calls are told while the server is starting.
func (s *serverState) starting() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.attempt.since.IsZero() { // the attempt is about to begin, or just over
		return startingError{s.since, startLimit{s.spec.connectTimeout(), "connectTimeout"}}
	}
	return s.attempt
}

// status returns what is known of the server, but for the number of its connections.
func (s *serverState) status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	spec := s.spec
	spec.SSE = spec.SSE || s.sse
	st := Status{Name: spec.Name, Transport: spec.Transport(), Isolation: spec.isolation(), State: s.state, Since: s.since,
		NextAttempt: s.nextAttempt, ProtocolVersion: s.inventory.Initialized.ProtocolVersion, ServerInfo: s.inventory.Initialized.ServerInfo,
		Tools: len(s.inventory.Tools), Prompts: len(s.inventory.Prompts), Resources: len(s.inventory.Resources),
		Templates: len(s.inventory.Templates)}
	if s.failure != nil {
		st.Error = s.failure.Error()
	}
	return st
}

// initialized returns the server's answer when it was last connected to, and whether it ever was.
func (s *serverState) initialized() (Initialized, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.inventory.Initialized, s.inventory.Initialized.ProtocolVersion != ""
}

// offered returns what the server offered when its lists were last read.
func (s *serverState) offered() Inventory {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.inventory
}

// upError returns why calls cannot reach the server now, or nil if it is up.
func (s *serverState) upError() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.control != nil:
		return nil
	case s.state == Starting:
		return serverError(s.spec.Name, fmt.Errorf("%w: it is still being started", ErrDown))
	}
	return s.downError()
}

// isModern reports whether the server was last connected in the modern era.
func (s *serverState) isModern() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.era == protocol.Modern
}

// isSSE reports whether the server was last connected over HTTP+SSE.
func (s *serverState) isSSE() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sse
}

// eraToTry returns the era for the hub's own connection. A server reached by HTTP is asked each time, which costs a
// round trip, and so is a modern process, whose answer is needed anyway. A legacy process is not asked again.
func (s *serverState) eraToTry() protocol.Era {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.spec.Era == protocol.AnyEra && s.spec.kind().IsProcess() && s.era == protocol.Legacy {
		return protocol.Legacy
	}
	return s.spec.Era
}

// prefersLegacy reports whether the hub's own connection, if clients share it, is to be a legacy one to a server of
// both eras. A process that was better off with the modern one is not tried again.
func (s *serverState) prefersLegacy() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.spec.isolation() == Shared && s.spec.Era == protocol.AnyEra &&
		!(s.spec.kind().IsProcess() && s.era == protocol.Modern)
}

// forgetEra forgets era and transport after a failure to connect.
func (s *serverState) forgetEra() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.era, s.sse, s.sessionless = protocol.AnyEra, false, false
}

// negotiationFor completes the negotiation for a client's own connection. A server of both eras is spoken to in that of
// the client, unless it has no sessions in the legacy one: then the modern one can do more.
func (s *serverState) negotiationFor(n negotiation, modernClient bool) negotiation {
	s.mu.Lock()
	defer s.mu.Unlock()
	n.era = protocol.Legacy
	known := s.inventory.Initialized
	if s.era == protocol.Modern && (modernClient || !known.dual || s.sessionless || s.spec.Era == protocol.Modern) {
		n.era, n.known = protocol.Modern, &known
	}
	return n
}

// isSessionless notes whether c, a legacy connection to a server of both eras, has no session. It reports whether the
// modern era is the better choice.
func (s *serverState) isSessionless(c *Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	legacy := c.dialect().era() == protocol.Legacy
	if s.era == protocol.Modern && legacy && s.spec.kind().HasSessions() && s.spec.Era == protocol.AnyEra &&
		c.serverSession().SessionID == "" {
		s.sessionless = true
	}
	return s.era == protocol.Modern && s.sessionless && legacy
}
