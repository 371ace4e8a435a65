package upstream

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"go.opentelemetry.io/otel/trace"
)

// metrics are the package's instruments.
type metrics struct {
	duration  *prometheus.HistogramVec // s, one attempt at a call, or a notification
	served    *prometheus.HistogramVec // s, what servers ask and tell the hub
	lives     *prometheus.HistogramVec // s, connections, by error type, version and server
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
		duration: NewClientOperations(r),
		served:   NewServerOperations(r),
		messages: NewMessages(r, "backend"),
		strays:   NewUnmatched(r, "backend", "progress", "response", "overload", "question"),
		lives: f.NewHistogramVec(prometheus.HistogramOpts{Name: "mcp_client_session_duration_seconds",
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
		connected: f.NewCounterVec(prometheus.CounterOpts{Name: "mcphub_backend_connects_total",
			Help: "Attempts to connect to the server."}, []string{"mcphub_backend", "outcome"}),
	}
	x.outcomes = f.NewCounterVec(prometheus.CounterOpts{Name: "mcphub_backend_operations_total",
		Help: "Calls to the server, by whose doing it is how they ended."}, []string{"mcphub_backend", "fault"})
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

// Observe records d, with the trace as exemplar if it is sampled.
func Observe(ctx context.Context, o prometheus.Observer, d time.Duration) {
	sc := trace.SpanContextFromContext(ctx)
	if e, ok := o.(prometheus.ExemplarObserver); ok && sc.IsSampled() {
		e.ObserveWithExemplar(d.Seconds(), prometheus.Labels{"trace_id": sc.TraceID().String(), "span_id": sc.SpanID().String()})
		return
	}
	o.Observe(d.Seconds())
}
