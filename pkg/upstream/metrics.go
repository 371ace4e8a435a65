package upstream

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics are the package's instruments.
type metrics struct {
	duration  *prometheus.HistogramVec // s, one attempt at a call
	exemplars *Exemplars
	inFlight  prometheus.Gauge // calls
	messages  *Messages
	strays    *prometheus.CounterVec // by reason
	up        *prometheus.GaugeVec   // 0 or 1, by server
	sessions  *prometheus.GaugeVec   // connections, by server
	restarts  *prometheus.CounterVec // by server and reason
	tools     *prometheus.GaugeVec   // by server
	connected *prometheus.CounterVec // attempts to connect, by server and outcome
	outcomes  *prometheus.CounterVec // of calls, by server and fault
}

func newMetrics(r prometheus.Registerer) *metrics {
	f := promauto.With(r)
	x := &metrics{
		exemplars: NewExemplars(),
		duration: NewOperationHistogram(r, "mcp_client_operation_duration_seconds",
			"Time from sending a request to a server to its response.", "mcphub_backend"),
		inFlight: NewInFlight(r, "backend"),
		messages: NewMessages(r, "backend"),
		strays: f.NewCounterVec(prometheus.CounterOpts{Name: "mcphub_unmatched_responses_total",
			Help: "Messages of servers that belong to no request under way, and answers that found no way back."}, []string{"reason"}),
		up: f.NewGaugeVec(prometheus.GaugeOpts{Name: "mcphub_backend_up",
			Help: "Whether the server is connected and listed."}, []string{"mcphub_backend"}),
		sessions: f.NewGaugeVec(prometheus.GaugeOpts{Name: "mcphub_backend_sessions",
			Help: "Connections to the server: processes or HTTP sessions."}, []string{"mcphub_backend"}),
		restarts: f.NewCounterVec(prometheus.CounterOpts{Name: "mcphub_backend_restarts_total",
			Help: "Connections to the server that were lost and had to be made again."}, []string{"mcphub_backend", "reason"}),
		tools: f.NewGaugeVec(prometheus.GaugeOpts{Name: "mcphub_backend_tools", Help: "Tools that the server listed last."},
			[]string{"mcphub_backend"}),
		connected: f.NewCounterVec(prometheus.CounterOpts{Name: "mcphub_backend_connects_total",
			Help: "Attempts to connect to the server."}, []string{"mcphub_backend", "outcome"}),
	}
	x.outcomes = f.NewCounterVec(prometheus.CounterOpts{Name: "mcphub_backend_operations_total",
		Help: "Calls to the server, by whose doing it is how they ended."}, []string{"mcphub_backend", "fault"})
	for _, reason := range []string{"progress", "response", "overload", "question"} {
		x.strays.WithLabelValues(reason)
	}
	return x
}

// addServer creates the label sets of a server from the start.
func (x *metrics) addServer(name string) {
	x.up.WithLabelValues(name)
	x.sessions.WithLabelValues(name)
	x.tools.WithLabelValues(name)
	for _, reason := range []string{"exited", "session_gone", "unreachable"} {
		x.restarts.WithLabelValues(name, reason)
	}
	for _, fault := range Faults() {
		x.outcomes.WithLabelValues(name, string(fault))
	}
	for _, outcome := range []string{"ok", "error"} {
		x.connected.WithLabelValues(name, outcome)
	}
}

func (x *metrics) unmatched(reason string) { x.strays.WithLabelValues(reason).Inc() }
