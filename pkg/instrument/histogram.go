package instrument

import (
	"context"
	"errors"
	"maps"
	"math/bits"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
)

// OperationHistogram is a histogram of the durations of operations, whose series
// have the traces of sampled ones as exemplars: of each magnitude, a doubling of
// the duration, the last.
//
// An exemplar of client_golang is made whole when it is observed, at the cost of a
// span. Here a call leaves its ids in a place that is there already, and a scrape
// makes the exemplars. The methods may be called concurrently.
type OperationHistogram struct {
	vec    *prometheus.HistogramVec
	labels int // that it has; the last, mcphub_backend, may be missing

	mu     sync.RWMutex
	series map[operationKey]*operationSeries // all that vec has; finding them here is quicker
}

// operationKey are the values of the labels of a series, in their order.
type operationKey struct {
	Operation
	backend string
}

func (k operationKey) values() []string {
	return []string{k.Method, k.Tool, k.ErrorType, k.Transport, k.Version, k.backend}
}

// operationSeries is one series and its traces.
type operationSeries struct {
	prometheus.Histogram
	key operationKey

	mu     sync.Mutex
	traces *[magnitudes]tracedOperation // nil before the first
}

// tracedOperation is an exemplar to be.
type tracedOperation struct {
	trace trace.TraceID
	span  trace.SpanID
	took  time.Duration
	at    time.Time // zero: none
}

// NewOperationHistogram registers a duration histogram of the semantic
// conventions for MCP, with their buckets and as a native histogram too. If r
// has it already it returns that one: both hops report to both histograms. labels
// may be mcphub_backend.
func NewOperationHistogram(r prometheus.Registerer, name, help string, labels ...string) *OperationHistogram {
	labels = append([]string{"mcp_method_name", "gen_ai_tool_name", "error_type", "network_transport", "mcp_protocol_version"}, labels...)
	x := &OperationHistogram{labels: len(labels), series: map[operationKey]*operationSeries{}, vec: prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: name, Help: help, Buckets: []float64{.01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 30, 60, 120, 300},
		NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 160, NativeHistogramMinResetDuration: time.Hour,
	}, labels)}
	if r == nil {
		return x
	}
	err := r.Register(x)
	if have, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
		return have.ExistingCollector.(*OperationHistogram) //nolint:forcetypeassert // the name is registered here alone
	}
	if err != nil {
		panic(err)
	}
	return x
}

// NewServerOperations registers the durations of what the hub was asked and
// told: by clients, and by servers where the roles are reversed.
func NewServerOperations(r prometheus.Registerer) *OperationHistogram {
	return NewOperationHistogram(r, "mcp_server_operation_duration_seconds",
		"Time from receiving a message, of a client or of a server that asks, to the answer.")
}

// NewClientOperations registers the durations of what the hub asked and told:
// servers, and clients where the roles are reversed.
func NewClientOperations(r prometheus.Registerer) *OperationHistogram {
	return NewOperationHistogram(r, "mcp_client_operation_duration_seconds",
		"Time from sending a message, to a server or as a question to a client, to the answer.", "mcphub_backend")
}

// Observe records that o took d, with the trace of ctx as exemplar if it is sampled.
// All values of o must be bounded. backend is empty if the histogram has no such label.
func (x *OperationHistogram) Observe(ctx context.Context, o Operation, backend string, d time.Duration) {
	x.of(operationKey{o, backend}).observe(ctx, d)
}

func (s *operationSeries) observe(ctx context.Context, d time.Duration) {
	s.Histogram.Observe(d.Seconds())
	if sc := trace.SpanContextFromContext(ctx); sc.IsSampled() {
		s.traced(sc, d)
	}
}

// of finds a series or makes it.
func (x *OperationHistogram) of(k operationKey) *operationSeries {
	x.mu.RLock()
	s := x.series[k]
	x.mu.RUnlock()
	if s != nil {
		return s
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if s = x.series[k]; s == nil {
		k.Tool, k.ErrorType, k.Version = strings.Clone(k.Tool), strings.Clone(k.ErrorType), strings.Clone(k.Version)    // not the messages they are parts of
		s = &operationSeries{key: k, Histogram: x.vec.WithLabelValues(k.values()[:x.labels]...).(prometheus.Histogram)} //nolint:forcetypeassert // as client_golang has it
		x.series[k] = s
	}
	return s
}

// remove takes away the series that match. An operation that is being recorded
// meanwhile may bring one back.
func (x *OperationHistogram) remove(match func(o Operation, backend string) bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	maps.DeleteFunc(x.series, func(k operationKey, _ *operationSeries) bool {
		return match(k.Operation, k.backend) && x.vec.DeleteLabelValues(k.values()[:x.labels]...)
	})
}

// magnitudes are those of durations: up to 16 us, a doubling each, more than 9 minutes.
const magnitudes = 27

func magnitude(d time.Duration) int {
	return min(max(bits.Len64(uint64(max(0, d)))-14, 0), magnitudes-1)
}

// traced remembers the trace of an operation that took d.
func (s *operationSeries) traced(sc trace.SpanContext, d time.Duration) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.traces == nil {
		s.traces = new([magnitudes]tracedOperation)
	}
	s.traces[magnitude(d)] = tracedOperation{sc.TraceID(), sc.SpanID(), d, now}
}

// exemplars are those of now, the oldest first: of those in one bucket the last counts.
func (s *operationSeries) exemplars() []prometheus.Exemplar {
	s.mu.Lock()
	if s.traces == nil {
		s.mu.Unlock()
		return nil
	}
	traces := *s.traces
	s.mu.Unlock()
	slices.SortFunc(traces[:], func(a, b tracedOperation) int { return a.at.Compare(b.at) })
	var out []prometheus.Exemplar
	for _, t := range traces {
		if !t.at.IsZero() {
			out = append(out, prometheus.Exemplar{Value: t.took.Seconds(), Timestamp: t.at,
				Labels: prometheus.Labels{"trace_id": t.trace.String(), "span_id": t.span.String()}})
		}
	}
	return out
}

// Describe implements prometheus.Collector.
func (x *OperationHistogram) Describe(ch chan<- *prometheus.Desc) { x.vec.Describe(ch) }

// Collect implements prometheus.Collector.
func (x *OperationHistogram) Collect(ch chan<- prometheus.Metric) {
	x.mu.RLock()
	all := slices.Collect(maps.Values(x.series))
	x.mu.RUnlock()
	for _, s := range all {
		ch <- s.metric()
	}
}

func (s *operationSeries) metric() prometheus.Metric {
	exemplars := s.exemplars()
	if len(exemplars) == 0 {
		return s.Histogram
	}
	m, err := prometheus.NewMetricWithExemplars(s.Histogram, exemplars...)
	if err != nil { // two ids are never too long
		return prometheus.NewInvalidMetric(s.Desc(), err)
	}
	return m
}
