package upstream

import (
	"time"

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

// Messages counts the JSON-RPC messages of one hop: between client and hub or
// between hub and server.
type Messages struct {
	count, bytes [2][4]prometheus.Counter // by direction and kind
}

// NewMessages registers the counters of hop.
func NewMessages(r prometheus.Registerer, hop string) *Messages {
	f := promauto.With(r)
	labels := prometheus.Labels{"hop": hop}
	count := f.NewCounterVec(prometheus.CounterOpts{Name: "mcphub_messages_total",
		Help: "JSON-RPC messages.", ConstLabels: labels}, []string{"direction", "kind"})
	size := f.NewCounterVec(prometheus.CounterOpts{Name: "mcphub_message_bytes_total",
		Help: "Bytes of params, results and errors in JSON-RPC messages.", ConstLabels: labels}, []string{"direction", "kind"})
	x := &Messages{}
	for d, direction := range []string{"in", "out"} {
		for k, kind := range []string{"request", "notification", "response", "error"} {
			x.count[d][k] = count.WithLabelValues(direction, kind)
			x.bytes[d][k] = size.WithLabelValues(direction, kind)
		}
	}
	return x
}

// NewInFlight registers the gauge of the requests of hop that wait for their
// response.
func NewInFlight(r prometheus.Registerer, hop string) prometheus.Gauge {
	return promauto.With(r).NewGauge(prometheus.GaugeOpts{Name: "mcphub_requests_in_flight",
		Help: "Requests that wait for their response.", ConstLabels: prometheus.Labels{"hop": hop}})
}

// Add counts m.
func (x *Messages) Add(d Direction, m jsonrpc.Message) {
	kind := 0
	switch {
	case m.Error != nil:
		kind = 3
	case m.Kind() == jsonrpc.Notification:
		kind = 1
	case m.Kind() == jsonrpc.Response:
		kind = 2
	}
	x.count[d][kind].Inc()
	x.bytes[d][kind].Add(float64(len(m.Params) + len(m.Result) + len(m.Error)))
}

// NewOperationHistogram registers a duration histogram of the semantic
// conventions for MCP, with their buckets and as a native histogram too.
func NewOperationHistogram(r prometheus.Registerer, name, help string, labels ...string) *prometheus.HistogramVec {
	return promauto.With(r).NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help,
		Buckets:                     []float64{.01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 30, 60, 120, 300},
		NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 160, NativeHistogramMinResetDuration: time.Hour,
	}, append([]string{"mcp_method_name", "gen_ai_tool_name", "error_type", "network_transport", "mcp_protocol_version"}, labels...))
}
