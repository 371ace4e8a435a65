package upstream

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"

	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/protocol"
	"github.com/mcphub-go/mcphub/pkg/upstream/transport"
)

const (
	askTimeout   = 5 * time.Second  // for the answer to a question of a check
	proofLasts   = time.Second      // that another session was answered
	provedLasts  = 10 * time.Second // that a list was read in a session
	maxCheckTime = 30 * time.Second // of one check
)

// sessionChecks find out whether a server has forgotten a session. Servers say it in many ways, and what they say may
// also be about the request. So the hub asks something harmless in the session. A session is gone if it is refused that
// twice, while another session gets an answer. One server has one; it may be used concurrently.
type sessionChecks struct {
	dialer   *dialer
	state    *serverState
	identity Identity // of the hub, for a session of its own

	elsewhere chan struct{} // holds a token: one other session is asked at a time

	mu       sync.Mutex
	running  map[*Conn]*sessionCheck
	answered map[string]time.Time // questions, and when another session was answered
	useless  map[string]bool      // questions that no session is answered
}

// sessionCheck is a check whose result several callers wait for.
type sessionCheck struct {
	done chan struct{}
	gone bool // set before done is closed
}

// sessionReply is how a session replies to a question.
type sessionReply int

const (
	replySilent   sessionReply = iota // nothing is known: no answer in time, or a broken connection
	replyRefused                      // the server does not want to answer
	replyAnswered                     // the session is there
)

func newSessionChecks(d *dialer, state *serverState, identity Identity) *sessionChecks {
	s := &sessionChecks{dialer: d, state: state, identity: identity, elsewhere: make(chan struct{}, 1),
		running: map[*Conn]*sessionCheck{}, answered: map[string]time.Time{}, useless: map[string]bool{}}
	d.checkSession = s.check
	return s
}

// reset forgets what was found out about the server: it may be another program now.
func (s *sessionChecks) reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.useless)
}

// check gives up c if the server has forgotten its session.
func (s *sessionChecks) check(ctx context.Context, c *Conn) { s.isGone(ctx, c, "") }

// isGone reports whether the server has forgotten the session of c, which it then gives up. It takes maxCheckTime at
// most. Of several callers one asks, and the others get the result. Said is what the server gave as the reason for the
// refusal, as it may be logged.
func (s *sessionChecks) isGone(ctx context.Context, c *Conn, said string) bool {
	switch {
	case !c.isBound():
		return false
	case c.hasForgotten():
		return true
	}
	s.mu.Lock()
	run, isMine := s.running[c], false
	if run == nil {
		run, isMine = &sessionCheck{done: make(chan struct{})}, true
		s.running[c] = run
	}
	s.mu.Unlock()
	if !isMine {
		select {
		case <-run.done:
			return run.gone
		case <-ctx.Done():
			return false
		}
	}
	run.gone = s.run(ctx, c, said)
	s.mu.Lock()
	delete(s.running, c)
	s.mu.Unlock()
	close(run.done)
	return run.gone
}

func (s *sessionChecks) run(ctx context.Context, c *Conn, said string) bool {
	ctx, cancel := context.WithTimeoutCause(ctx, maxCheckTime, ErrTimeout)
	defer cancel()
	spanCtx, span := s.dialer.tel.startMaintenance(ctx, "mcphub.upstream.check_session", c.spec.Name)
	verdict := s.verdict(spanCtx, c)
	span.SetAttributes(attribute.String("mcphub.session_check", verdict))
	endSpan(span, nil)
	s.dialer.own.checks[verdict].Inc()
	if verdict == checkGone {
		c.transport.Abandon(forgotten(said))
	}
	return verdict == checkGone
}

// verdict checks the session of c.
func (s *sessionChecks) verdict(ctx context.Context, c *Conn) string {
	questions := s.questions(c)
	for _, method := range questions {
		switch inquire(ctx, c, method) {
		case replySilent:
			return checkUnknown
		case replyAnswered:
			continue
		}
		if c.hasForgotten() {
			return checkGone
		}
		switch s.askElsewhere(ctx, c, method) {
		case replySilent:
			return checkUnknown
		case replyAnswered:
			if inquire(ctx, c, method) == replyRefused { // one refusal may be a moment's weakness
				return checkGone
			}
			return checkUnknown
		}
	}
	if len(questions) == 0 {
		return checkUnknown
	}
	c.provedAt.Store(time.Now().UnixNano())
	return checkAlive
}

// questions returns the methods that show whether the session of c is there: ping, and because some servers answer
// that to everybody, the shortest list of the server.
func (s *sessionChecks) questions(c *Conn) []string {
	methods := []string{protocol.MethodPing}
	if time.Since(time.Unix(0, c.provedAt.Load())) > provedLasts {
		if list := s.state.shortestList(); list != "" {
			methods = append(methods, list)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	useful := methods[:0]
	for _, method := range methods {
		if !s.useless[method] {
			useful = append(useful, method)
		}
	}
	return useful
}

// askElsewhere asks the question in another session than that of c: that of the hub, or a new one. If the hub's is
// refused and a new one is not, the hub's is gone as well, and given up.
func (s *sessionChecks) askElsewhere(ctx context.Context, c *Conn, method string) sessionReply {
	control, _ := s.state.ready(ctx)
	select {
	case s.elsewhere <- struct{}{}:
		defer func() { <-s.elsewhere }()
	case <-ctx.Done():
		return replySilent
	}
	if s.wasAnswered(method) {
		return replyAnswered
	}
	hasOther := control != nil && control != c && control.isBound()
	others := replySilent
	if hasOther {
		if others = inquire(ctx, control, method); others == replyAnswered {
			return s.noted(method, replyAnswered)
		}
	}
	fresh, err := s.dialer.dial(ctx, dialConfig{opener: openedByProbe, sse: s.state.isSSE(),
		negotiation: negotiation{identity: s.identity, era: protocol.Legacy}})
	if err != nil {
		s.dialer.tel.log.DebugContext(ctx, "a refused session could not be compared with a new one", "upstream", c.spec.Name,
			"err", instrument.Redacted(err))
		return replySilent
	}
	defer fresh.close(true)
	r := s.noted(method, inquire(ctx, fresh, method))
	if r == replyAnswered && others == replyRefused && inquire(ctx, control, method) == replyRefused {
		control.transport.Abandon(transport.ErrSessionGone)
	}
	return r
}

// wasAnswered reports whether another session was answered just now.
func (s *sessionChecks) wasAnswered(method string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Since(s.answered[method]) < proofLasts
}

// noted keeps r, the reply to a question in another session, and returns it.
func (s *sessionChecks) noted(method string, r sessionReply) sessionReply {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch r {
	case replyAnswered:
		s.answered[method] = time.Now()
	case replyRefused:
		s.useless[method] = true
	}
	return r
}

// inquire asks one question in the session of c.
func inquire(ctx context.Context, c *Conn, method string) sessionReply {
	ctx, cancel := context.WithTimeoutCause(ctx, askTimeout, ErrTimeout)
	defer cancel()
	var how refusal
	response, err := c.Call(ctx, Request{Method: method, tentative: method != protocol.MethodPing, refused: &how})
	switch {
	case how.is, errors.Is(err, transport.ErrSessionGone):
		return replyRefused
	case err != nil:
		return replySilent
	case response.Error != nil && c.spec.kind() != transport.HTTPSSE: // there it has come on the stream of the session
		return replySilent
	}
	return replyAnswered
}

// forgotten is the reason to give up a connection.
func forgotten(said string) error {
	if said == "" {
		return transport.ErrSessionGone
	}
	return fmt.Errorf("%w: it said %q", transport.ErrSessionGone, said)
}
