package upstream

import (
	"context"

	"github.com/mcphub-go/mcphub/pkg/protocol"
)

// open makes a connection and counts the attempt.
func (s *Server) open(ctx context.Context, p plan) (*Conn, error) {
	d := s.dialer
	s.mu.Lock()
	d.spec.SSE = d.spec.SSE || s.sse
	s.mu.Unlock()
	c, err := d.dial(ctx, p)
	if err != nil {
		s.own.connected["error"].Inc()
		return nil, err
	}
	s.own.connected["ok"].Inc()
	return c, nil
}

// eraToTry is the era that the server's own connection is made in. A server
// reached by HTTP is asked each time, which costs a round trip; so is a modern
// command, whose answer is needed anyway. A legacy one is not disturbed again.
func (s *Server) eraToTry() protocol.Era {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.spec.Era == protocol.AnyEra && s.spec.URL == "" && s.era == protocol.Legacy {
		return protocol.Legacy
	}
	return s.spec.Era
}

// forgetEra has it found out again, after a connection could not be made.
func (s *Server) forgetEra() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.era, s.sse, s.sessionless = protocol.AnyEra, false, false
}

// Modern reports whether the server is spoken to in a modern version.
func (s *Server) Modern() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.era == protocol.Modern
}

// Stateless reports whether every request to the server stands alone, so that
// modern clients need no connection of their own.
func (s *Server) Stateless() bool { return s.spec.URL != "" && s.Modern() }

// planFor completes the plan of a client's own connection. A server that speaks
// both eras is spoken to in that of the client, unless it keeps no sessions in
// the legacy one: then the modern one can do more.
func (s *Server) planFor(p plan, modernClient bool) plan {
	s.mu.Lock()
	defer s.mu.Unlock()
	p.era = protocol.Legacy
	known := s.inventory.Initialized
	if s.era == protocol.Modern && (modernClient || !known.dual || s.sessionless || s.spec.Era == protocol.Modern) {
		p.era, p.known = protocol.Modern, &known
	}
	return p
}

// keepsNoSession notes that c, a legacy connection to a server that is modern as
// well, has no session. It reports whether the modern era is the better choice.
func (s *Server) keepsNoSession(c *Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.era == protocol.Modern && !c.modern() && s.spec.URL != "" && s.spec.Era == protocol.AnyEra && c.Bound().SessionID == "" {
		s.sessionless = true
	}
	return s.era == protocol.Modern && s.sessionless && !c.modern()
}
