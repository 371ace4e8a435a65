package instrument

import (
	"maps"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

// Direction is the direction of a message, as seen from the hub.
type Direction int

// The directions.
const (
	In  Direction = iota // received by the hub
	Out                  // sent by the hub
)

// The hops, as values of the label hop.
const (
	HopDownstream = "downstream" // between clients and the hub
	HopBackend    = "backend"    // between the hub and servers
)

// KindOf returns the value of the label kind of m: request, notification, response or error.
func KindOf(m jsonrpc.Message) string { return kindOf(m).String() }

// kind is the kind of a message. It is an index of the counters of Messages.
type kind int

const (
	kindRequest kind = iota
	kindNotification
	kindResponse
	kindError
)

func (k kind) String() string {
	return [...]string{"request", "notification", "response", "error"}[k]
}

func kindOf(m jsonrpc.Message) kind {
	switch {
	case m.Error != nil:
		return kindError
	case m.Kind() == jsonrpc.Notification:
		return kindNotification
	case m.Kind() == jsonrpc.Response:
		return kindResponse
	}
	return kindRequest
}

// Messages counts the JSON-RPC messages of one hop, between client and hub or between hub and server, and follows each
// request until it ends. Collect returns all counters in one snapshot, so that at every scrape, for each direction of
// requests,
//
//	requests = responses and errors in the other direction + in flight + cancelled
//
// Its methods may be called concurrently.
type Messages struct {
	desc [4]*prometheus.Desc // of the metrics of messages, bytes, requests in flight and cancelled requests

	mu        sync.Mutex
	count     [2][4]uint64 // by direction and kind
	bytes     [2][4]uint64 // by direction and kind
	inFlight  [2]int64     // by direction of the request
	cancelled [2]map[CancelReason]uint64
}

// NewMessages makes the Messages of hop, downstream or backend, and registers them in r, which may be nil.
func NewMessages(r prometheus.Registerer, hop string) *Messages {
	labels := prometheus.Labels{"hop": hop}
	m := &Messages{desc: [4]*prometheus.Desc{
		prometheus.NewDesc("mcphub_messages_total", "JSON-RPC messages.", []string{"direction", "kind"}, labels),
		prometheus.NewDesc("mcphub_message_bytes_total",
			"Bytes of params, results and errors in JSON-RPC messages.", []string{"direction", "kind"}, labels),
		prometheus.NewDesc("mcphub_requests_in_flight",
			"Requests that wait for their response, by the direction of the request.", []string{"direction"}, labels),
		prometheus.NewDesc("mcphub_requests_cancelled_total",
			"Requests that ended without a response, by the direction of the request.", []string{"direction", "reason"}, labels),
	}}
	for d := range m.cancelled {
		m.cancelled[d] = map[CancelReason]uint64{}
		for _, reason := range cancelReasons(hop, Direction(d)) {
			m.cancelled[d][reason] = 0
		}
	}
	if r != nil {
		r.MustRegister(m)
	}
	return m
}

// Add counts a message that is neither a request nor the response to a counted one.
func (m *Messages) Add(d Direction, message jsonrpc.Message) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.add(d, message)
}

// add counts message. The caller holds mu.
func (m *Messages) add(d Direction, message jsonrpc.Message) {
	k := kindOf(message)
	m.count[d][k]++
	m.bytes[d][k] += uint64(len(message.Params) + len(message.Result) + len(message.Error))
}

// Describe implements prometheus.Collector.
func (m *Messages) Describe(ch chan<- *prometheus.Desc) {
	for _, desc := range m.desc {
		ch <- desc
	}
}

// Collect implements prometheus.Collector.
func (m *Messages) Collect(ch chan<- prometheus.Metric) {
	m.mu.Lock()
	count, bytes, inFlight := m.count, m.bytes, m.inFlight
	cancelled := [2]map[CancelReason]uint64{maps.Clone(m.cancelled[In]), maps.Clone(m.cancelled[Out])}
	m.mu.Unlock()
	counter := func(desc *prometheus.Desc, n uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(n), labels...)
	}
	for d, direction := range []string{"in", "out"} {
		for k := range count[d] {
			counter(m.desc[0], count[d][k], direction, kind(k).String())
			counter(m.desc[1], bytes[d][k], direction, kind(k).String())
		}
		ch <- prometheus.MustNewConstMetric(m.desc[2], prometheus.GaugeValue, float64(inFlight[d]), direction)
		for reason, n := range cancelled[d] {
			counter(m.desc[3], n, direction, string(reason))
		}
	}
}

// NewUnmatched registers the counter of messages of hop that belong to no request in flight. The label sets of reasons
// exist from the start.
func NewUnmatched(r prometheus.Registerer, hop string, reasons ...string) *prometheus.CounterVec {
	counter := promauto.With(r).NewCounterVec(prometheus.CounterOpts{Name: "mcphub_unmatched_responses_total",
		Help:        "Answers and progress that belong to no request under way, and answers that found no way back.",
		ConstLabels: prometheus.Labels{"hop": hop}}, []string{"reason"})
	for _, reason := range reasons {
		counter.WithLabelValues(reason)
	}
	return counter
}
