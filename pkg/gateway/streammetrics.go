package gateway

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// The kinds of streams, as metrics name them.
const (
	streamGet          = "get_sse"      // of a GET: messages that belong to no request
	streamPost         = "post_sse"     // of a POST: the responses to its requests, and what precedes them
	streamSubscription = "subscription" // of a modern subscriptions/listen
)

// The reasons why the writing of a stream ended, for its event and metric.
const (
	closedAnswered  = "answered"    // every response is written
	closedCancelled = "cancelled"   // the client cancelled the request
	closedByClient  = "client"      // the client closed the connection
	closedSession   = "session"     // the session ended
	closedShutdown  = "shutdown"    // the hub stops
	closedUnwritten = "write_error" // a write failed or took too long
	closedHalfOpen  = "half_open"   // the client no longer answers pings
	closedDisplaced = "displaced"   // the client reads the stream over another connection
)

// streamMetrics are the instruments of event streams to clients.
type streamMetrics struct {
	active   *prometheus.GaugeVec   // by stream
	closed   *prometheus.CounterVec // by stream and reason
	resumed  *prometheus.CounterVec // by stream and outcome
	logBytes prometheus.Gauge       // retained by the logs of all sessions
	dropped  func(reason string)    // counts a notification that reaches no client
}

// newStreamMetrics registers the instruments, with all their label sets. dropped is called for
// each notification that a stream drops.
func newStreamMetrics(r prometheus.Registerer, dropped func(reason string)) *streamMetrics {
	f := promauto.With(r)
	x := &streamMetrics{
		active: f.NewGaugeVec(prometheus.GaugeOpts{Name: "mcphub_streams_active", Help: "Event streams to clients that are open."},
			[]string{"stream"}),
		closed: f.NewCounterVec(prometheus.CounterOpts{Name: "mcphub_streams_closed_total",
			Help: "Event streams to clients that ended, by reason."}, []string{"stream", "reason"}),
		resumed: f.NewCounterVec(prometheus.CounterOpts{Name: "mcphub_streams_resumed_total",
			Help: "Requests of clients to go on with a stream after a Last-Event-ID, by what became of them."}, []string{"stream", "outcome"}),
		logBytes: f.NewGauge(prometheus.GaugeOpts{Name: "mcphub_stream_log_bytes",
			Help: "Messages kept for clients that may come back for them."}),
		dropped: dropped,
	}
	for _, kind := range []string{streamGet, streamPost, streamSubscription} {
		x.active.WithLabelValues(kind)
		for _, reason := range []string{closedByClient, closedUnwritten, closedDisplaced} {
			x.closed.WithLabelValues(kind, reason)
		}
		for _, outcome := range []resumed{resumeReplayed, resumeUnknown, resumeRefused} {
			x.resumed.WithLabelValues(kind, string(outcome))
		}
	}
	for _, reason := range []string{closedSession, closedShutdown, closedHalfOpen} {
		x.closed.WithLabelValues(streamGet, reason)
	}
	for _, reason := range []string{closedAnswered, closedCancelled} {
		x.closed.WithLabelValues(streamPost, reason)
	}
	return x
}

// countResumed counts the request of a client to resume a stream.
func (x *streamMetrics) countResumed(kind string, outcome resumed) {
	x.resumed.WithLabelValues(kind, string(outcome)).Inc()
}
