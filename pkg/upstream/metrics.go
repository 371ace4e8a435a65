package upstream

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/upstream/transport"
)

// The outcomes of a check of a session.
const (
	checkAlive   = "alive"   // the refusal was about the request
	checkGone    = "gone"    // the server has forgotten the session
	checkUnknown = "unknown" // the server did not say, or refuses new sessions, too
)

// metrics are the instruments of a Pool.
type metrics struct {
	operation *instrument.Operations         // attempts at calls, and notifications, to servers
	received  *instrument.OperationHistogram // requests and notifications of servers
	durations *prometheus.HistogramVec       // s, connections, by error type, version and server
	messages  *instrument.Messages
	strays    *prometheus.CounterVec // by reason
	repairs   *instrument.Repairs
	up        *prometheus.GaugeVec   // 0 or 1, by server
	sessions  *prometheus.GaugeVec   // connections, by server
	restarts  *prometheus.CounterVec // by server and reason
	tools     *prometheus.GaugeVec   // by server
	connected *prometheus.CounterVec // attempts to connect, by server and outcome
	streams   *prometheus.CounterVec // requests for the GET stream, by server and outcome
	outcomes  *prometheus.CounterVec // of calls, by server and fault
	open      *prometheus.GaugeVec   // processes and sessions, by server and opener
	left      *prometheus.CounterVec // sessions that could not be ended, by server and opener
	checks    *prometheus.CounterVec // of sessions whose server refused a request, by server and outcome
	warnings  *prometheus.GaugeVec   // by server and kind
	listings  *prometheus.CounterVec // readings of the lists, by server, reason and outcome
}

func newMetrics(r prometheus.Registerer, toolLabels int) *metrics {
	f := promauto.With(r)
	duration := instrument.NewClientOperations(r)
	x := &metrics{
		received: instrument.NewServerOperations(r),
		messages: instrument.NewMessages(r, instrument.HopBackend),
		repairs:  instrument.NewRepairs(r, instrument.HopBackend),
		strays:   instrument.NewUnmatched(r, instrument.HopBackend, "progress", "response", "overload", "question"),
		durations: f.NewHistogramVec(prometheus.HistogramOpts{Name: "mcp_client_session_duration_seconds",
			Help:    "Life of a connection with a server, from the end of the handshake to the end of the connection.",
			Buckets: []float64{1, 5, 15, 60, 300, 900, 1800, 3600, 14400, 86400}}, []string{"error_type", "mcp_protocol_version", "mcphub_backend"}),
		up: f.NewGaugeVec(prometheus.GaugeOpts{Name: "mcphub_backend_up",
			Help: "Whether the server is connected and listed."}, []string{"mcphub_backend"}),
		sessions: f.NewGaugeVec(prometheus.GaugeOpts{Name: "mcphub_backend_sessions",
			Help: "Connections to the server: processes or HTTP sessions."}, []string{"mcphub_backend"}),
		restarts: f.NewCounterVec(prometheus.CounterOpts{Name: "mcphub_backend_restarts_total",
			Help: "Connections to the server that were lost and had to be made again."}, []string{"mcphub_backend", "reason"}),
		tools: f.NewGaugeVec(prometheus.GaugeOpts{Name: "mcphub_backend_tools", Help: "Tools that the server listed last."},
			[]string{"mcphub_backend"}),
		streams: f.NewCounterVec(prometheus.CounterOpts{Name: "mcphub_backend_streams_total",
			Help: "Requests for the stream on which the server sends what belongs to no request."}, []string{"mcphub_backend", "outcome"}),
		connected: f.NewCounterVec(prometheus.CounterOpts{Name: "mcphub_backend_connects_total",
			Help: "Attempts to connect to the server."}, []string{"mcphub_backend", "outcome"}),
	}
	x.warnings = f.NewGaugeVec(prometheus.GaugeOpts{Name: "mcphub_backend_warnings",
		Help: "What is wrong with the server, although it is up; the API and the page say what."}, []string{"mcphub_backend", "kind"})
	x.listings = f.NewCounterVec(prometheus.CounterOpts{Name: "mcphub_backend_listings_total",
		Help: "Readings of the lists of the server, by why they were read."}, []string{"mcphub_backend", "reason", "outcome"})
	x.open = f.NewGaugeVec(prometheus.GaugeOpts{Name: "mcphub_backend_sessions_open",
		Help: "Processes and sessions that the hub holds open at the server, by who opened them."}, []string{"mcphub_backend", "opener"})
	x.left = f.NewCounterVec(prometheus.CounterOpts{Name: "mcphub_backend_sessions_left_total",
		Help: "Sessions that the hub could not end at the server, by who opened them."}, []string{"mcphub_backend", "opener"})
	x.checks = f.NewCounterVec(prometheus.CounterOpts{Name: "mcphub_backend_session_checks_total",
		Help: "Checks whether the server, which refused a request, has forgotten the session."}, []string{"mcphub_backend", "outcome"})
	x.operation = instrument.NewOperations(r, instrument.HopBackend, duration, toolLabels)
	x.outcomes = f.NewCounterVec(prometheus.CounterOpts{Name: "mcphub_backend_operations_total",
		Help: "Calls to the server, by whose doing it is how they ended."}, []string{"mcphub_backend", "fault"})
	return x
}

// unmatched counts a message that could not be matched to a call or a request.
func (x *metrics) unmatched(reason string) { x.strays.WithLabelValues(reason).Inc() }

// countUnreadable counts a message that cannot be read.
func (x *metrics) countUnreadable(told bool) { x.repairs.CountUnreadable(told) }

// serverMetrics are the label sets of one server.
type serverMetrics struct {
	up, sessions, tools           prometheus.Gauge
	restarts, connected, outcomes map[string]prometheus.Counter
	checks                        map[string]prometheus.Counter
	open                          map[opener]prometheus.Gauge
	left                          map[opener]prometheus.Counter
	streams                       map[bool]prometheus.Counter // by success
	calls                         *instrument.Recorder
	warnings                      map[WarningKind]prometheus.Gauge
	listings                      map[relistReason]map[bool]prometheus.Counter // by success
}

// countListing counts a reading of the lists. One is ok if every list could be read.
func (s *serverMetrics) countListing(why relistReason, ok bool) { s.listings[why][ok].Inc() }

// countStream counts a request for the stream of a server that belongs to no request.
func (s *serverMetrics) countStream(opened bool) { s.streams[opened].Inc() }

// addServer creates the label sets of a server, so that they exist from the start. IsListed reports whether the server
// has listed a tool, see [instrument.Operations.Recorder].
func (x *metrics) addServer(name string, isListed func(tool string) bool) *serverMetrics {
	s := &serverMetrics{up: x.up.WithLabelValues(name), sessions: x.sessions.WithLabelValues(name), tools: x.tools.WithLabelValues(name),
		restarts: map[string]prometheus.Counter{}, connected: map[string]prometheus.Counter{}, outcomes: map[string]prometheus.Counter{},
		calls: x.operation.Recorder(name, isListed), warnings: map[WarningKind]prometheus.Gauge{},
		listings: map[relistReason]map[bool]prometheus.Counter{}, checks: map[string]prometheus.Counter{},
		open: map[opener]prometheus.Gauge{}, left: map[opener]prometheus.Counter{}}
	for _, by := range openers() {
		s.open[by], s.left[by] = x.open.WithLabelValues(name, string(by)), x.left.WithLabelValues(name, string(by))
	}
	for _, why := range relistReasons() {
		s.listings[why] = map[bool]prometheus.Counter{true: x.listings.WithLabelValues(name, string(why), "ok"),
			false: x.listings.WithLabelValues(name, string(why), "error")}
	}
	for _, kind := range WarningKinds() {
		s.warnings[kind] = x.warnings.WithLabelValues(name, string(kind))
	}
	s.streams = map[bool]prometheus.Counter{true: x.streams.WithLabelValues(name, "opened"),
		false: x.streams.WithLabelValues(name, "refused")}
	for _, reason := range []string{"exited", "session_gone", "unreachable"} {
		s.restarts[reason] = x.restarts.WithLabelValues(name, reason)
	}
	for _, fault := range instrument.Faults() {
		s.outcomes[string(fault)] = x.outcomes.WithLabelValues(name, string(fault))
	}
	for _, outcome := range []string{checkAlive, checkGone, checkUnknown} {
		s.checks[outcome] = x.checks.WithLabelValues(name, outcome)
	}
	for _, outcome := range []string{"ok", "error"} {
		s.connected[outcome] = x.connected.WithLabelValues(name, outcome)
	}
	return s
}

// countOpen counts a connection that by has opened. It returns what counts its end.
func (s *serverMetrics) countOpen(by opener) (ended func()) {
	gauge := s.open[by]
	gauge.Inc()
	return gauge.Dec
}

// sessionsOf counts what becomes of the sessions of a connection that by has opened.
func (s *serverMetrics) sessionsOf(by opener) transport.Sessions {
	return transport.Sessions{
		GivingBack: func() func(bool) {
			ended := s.countOpen(openedByProbe)
			return func(isGone bool) {
				ended()
				if !isGone {
					s.left[openedByProbe].Inc()
				}
			}
		},
		NotEnded: func() { s.left[by].Inc() },
	}
}
