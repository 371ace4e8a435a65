package stream

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// The kinds of streams, as metrics name them.
const (
	KindGet          = "get_sse"      // of a GET: messages that belong to no request
	KindPost         = "post_sse"     // of a POST: the responses to its requests, and what precedes them
	KindSubscription = "subscription" // of a modern subscriptions/listen
)

// Reason says why the writing of a stream to a connection ended, for events and metrics.
type Reason string

// The reasons.
const (
	Answered     Reason = "answered"    // every response is written
	Cancelled    Reason = "cancelled"   // the client cancelled the request
	ClientGone   Reason = "client"      // the client closed the connection
	SessionEnded Reason = "session"     // the session ended
	Shutdown     Reason = "shutdown"    // the hub stops
	WriteFailed  Reason = "write_error" // a write failed or took too long
	HalfOpen     Reason = "half_open"   // the client no longer answers pings
	Displaced    Reason = "displaced"   // the client reads the stream over another connection
)

// Resumption is the outcome of a request with a Last-Event-ID.
type Resumption string

// The outcomes.
const (
	Replayed Resumption = "replayed" // the stream is resumed
	Unknown  Resumption = "unknown"  // the stream is not known, or a message that the client lacks is no longer kept
	Refused  Resumption = "refused"  // the stream has no such event
	Full     Resumption = "full"     // MaxStreams GET streams have a reader
)

// Metrics are the instruments of event streams to clients.
type Metrics struct {
	active   *prometheus.GaugeVec   // by stream
	closed   *prometheus.CounterVec // by stream and reason
	resumed  *prometheus.CounterVec // by stream and outcome
	logBytes prometheus.Gauge       // retained by the logs of all sessions
	dropped  func(reason string)    // counts a notification that reaches no client
}

// NewMetrics registers the instruments, with all their label sets. dropped is called for
// each notification that a stream drops.
func NewMetrics(r prometheus.Registerer, dropped func(reason string)) *Metrics {
	f := promauto.With(r)
	x := &Metrics{
		active: f.NewGaugeVec(prometheus.GaugeOpts{Name: "mcphub_streams_active", Help: "Event streams to clients that are open."},
			[]string{"stream"}),
		closed: f.NewCounterVec(prometheus.CounterOpts{Name: "mcphub_streams_closed_total",
			Help: "Event streams to clients that ended, by reason."}, []string{"stream", "reason"}),
		resumed: f.NewCounterVec(prometheus.CounterOpts{Name: "mcphub_streams_resumed_total",
			Help: "Requests of clients to go on with a stream after a Last-Event-ID, by what became of them."},
			[]string{"stream", "outcome"}),
		logBytes: f.NewGauge(prometheus.GaugeOpts{Name: "mcphub_stream_log_bytes",
			Help: "Messages kept for clients that may come back for them."}),
		dropped: dropped,
	}
	for _, kind := range []string{KindGet, KindPost, KindSubscription} {
		x.active.WithLabelValues(kind)
		for _, reason := range []Reason{ClientGone, WriteFailed, Displaced} {
			x.closed.WithLabelValues(kind, string(reason))
		}
		for _, outcome := range []Resumption{Replayed, Unknown, Refused} {
			x.resumed.WithLabelValues(kind, string(outcome))
		}
	}
	for _, reason := range []Reason{SessionEnded, Shutdown, HalfOpen} {
		x.closed.WithLabelValues(KindGet, string(reason))
	}
	for _, reason := range []Reason{Answered, Cancelled} {
		x.closed.WithLabelValues(KindPost, string(reason))
	}
	return x
}

// CountResumed counts the request of a client to resume a stream.
func (x *Metrics) CountResumed(kind string, outcome Resumption) {
	x.resumed.WithLabelValues(kind, string(outcome)).Inc()
}
