package instrument

import (
	"maps"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

// Direction of a message, seen from the hub.
type Direction int

// The directions.
const (
	In Direction = iota
	Out
)

// Messages counts the JSON-RPC messages of one hop, between client and hub or
// between hub and server, and follows each request to its end. It collects all
// of it in one snapshot, so that at every scrape, for each direction of requests,
//
//	requests = responses and errors the other way + in flight + cancelled
//
// Its methods may be called concurrently.
type Messages struct {
	desc [4]*prometheus.Desc // messages, bytes, in flight, cancelled

	mu        sync.Mutex
	count     [2][4]uint64 // by direction and kind
	bytes     [2][4]uint64 // likewise
	inFlight  [2]int64     // by direction of the request
	cancelled [2]map[CancelReason]uint64
}

// kind is what a message is; an index of the counters.
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

// NewMessages registers the counters of hop, downstream or backend.
func NewMessages(r prometheus.Registerer, hop string) *Messages {
	labels := prometheus.Labels{"hop": hop}
	x := &Messages{desc: [4]*prometheus.Desc{
		prometheus.NewDesc("mcphub_messages_total", "JSON-RPC messages.", []string{"direction", "kind"}, labels),
		prometheus.NewDesc("mcphub_message_bytes_total", "Bytes of params, results and errors in JSON-RPC messages.", []string{"direction", "kind"}, labels),
		prometheus.NewDesc("mcphub_requests_in_flight", "Requests that wait for their response, by the direction of the request.", []string{"direction"}, labels),
		prometheus.NewDesc("mcphub_requests_cancelled_total", "Requests that ended without a response, by the direction of the request.", []string{"direction", "reason"}, labels),
	}}
	for d := range x.cancelled {
		x.cancelled[d] = map[CancelReason]uint64{}
		for _, reason := range cancelReasons(hop, Direction(d)) {
			x.cancelled[d][reason] = 0
		}
	}
	if r != nil {
		r.MustRegister(x)
	}
	return x
}

// Add counts a message that is no request and answers none.
func (x *Messages) Add(d Direction, m jsonrpc.Message) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.add(d, m)
}

// add counts m. The caller holds mu.
func (x *Messages) add(d Direction, m jsonrpc.Message) {
	k := kindOf(m)
	x.count[d][k]++
	x.bytes[d][k] += uint64(len(m.Params) + len(m.Result) + len(m.Error))
}

// Describe implements prometheus.Collector.
func (x *Messages) Describe(ch chan<- *prometheus.Desc) {
	for _, desc := range x.desc {
		ch <- desc
	}
}

// Collect implements prometheus.Collector.
func (x *Messages) Collect(ch chan<- prometheus.Metric) {
	x.mu.Lock()
	count, bytes, inFlight := x.count, x.bytes, x.inFlight
	cancelled := [2]map[CancelReason]uint64{maps.Clone(x.cancelled[In]), maps.Clone(x.cancelled[Out])}
	x.mu.Unlock()
	for d, direction := range []string{"in", "out"} {
		for k := range count[d] {
			ch <- prometheus.MustNewConstMetric(x.desc[0], prometheus.CounterValue, float64(count[d][k]), direction, kind(k).String())
			ch <- prometheus.MustNewConstMetric(x.desc[1], prometheus.CounterValue, float64(bytes[d][k]), direction, kind(k).String())
		}
		ch <- prometheus.MustNewConstMetric(x.desc[2], prometheus.GaugeValue, float64(inFlight[d]), direction)
		for reason, n := range cancelled[d] {
			ch <- prometheus.MustNewConstMetric(x.desc[3], prometheus.CounterValue, float64(n), direction, string(reason))
		}
	}
}

// NewUnmatched registers the counter of the messages of hop that belong to
// nothing under way, with its reasons.
func NewUnmatched(r prometheus.Registerer, hop string, reasons ...string) *prometheus.CounterVec {
	x := promauto.With(r).NewCounterVec(prometheus.CounterOpts{Name: "mcphub_unmatched_responses_total",
		Help:        "Answers and progress that belong to no request under way, and answers that found no way back.",
		ConstLabels: prometheus.Labels{"hop": hop}}, []string{"reason"})
	for _, reason := range reasons {
		x.WithLabelValues(reason)
	}
	return x
}

// KindOf returns the value of the label kind of m: request, notification, response or error.
func KindOf(m jsonrpc.Message) string { return kindOf(m).String() }
