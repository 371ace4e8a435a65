package upstream

import (
	"github.com/mcphub-go/mcphub/pkg/protocol"
	"github.com/mcphub-go/mcphub/pkg/upstream/transport"
)

// Server is one configured server. The hub keeps one connection of its own to it, over which it reads what the server
// offers and notices when it is gone.
type Server struct {
	dialer     *dialer
	state      *serverState
	sessions   *sessionChecks
	supervisor *supervisor
	warnings   *warnings
}

func newServer(spec Spec, cfg Config, tel *telemetry, graces *transport.Graces, room *places) *Server {
	d := newDialer(spec, tel, processes{graces, cfg.Starting})
	d.memory, d.places = cfg.Memory.Account(), room
	state := newServerState(d.spec)
	w := newWarnings(tel.log.With("upstream", spec.Name), d.spec.masked, d.own.warnings)
	checks := newSessionChecks(d, state, cfg.Identity)
	return &Server{dialer: d, state: state, sessions: checks, supervisor: newSupervisor(cfg, d, state, w, checks), warnings: w}
}

// Name returns the configured name.
func (s *Server) Name() string { return s.dialer.spec.Name }

// Status returns what is known of the server now.
func (s *Server) Status() Status {
	st := s.state.status()
	st.Connections = int(s.dialer.connections.Load())
	st.Warnings = s.warnings.all()
	return st
}

// Warn makes now the warnings of one kind about the server. They are logged, counted and part of its Status.
func (s *Server) Warn(kind WarningKind, now []Warning) { s.warnings.replace(kind, now) }

// Initialized returns the server's answer when it was last connected to, and whether it ever was.
func (s *Server) Initialized() (Initialized, bool) { return s.state.initialized() }

// Modern reports whether the server is spoken to in a modern version.
func (s *Server) Modern() bool { return s.state.isModern() }

// Stateless reports whether every request to the server stands alone, so that modern clients need no connection of
// their own.
func (s *Server) Stateless() bool { return s.dialer.spec.kind().HasStreams() && s.Modern() }

// Isolated reports whether each client session has its own connection.
func (s *Server) Isolated() bool { return s.dialer.spec.isolation() == PerSession }

// ToolParams returns the arguments of a tool of the server that a modern client has to mirror in headers.
func (s *Server) ToolParams(tool string) []protocol.ParamHeader { return s.dialer.tools.of(tool) }
