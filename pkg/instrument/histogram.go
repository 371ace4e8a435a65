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

// OperationHistogram is a histogram of the durations of operations. The exemplars of a series are traces of sampled
// operations: the last one of each magnitude, which is a doubling of the duration.
//
// client_golang builds an exemplar when it is observed, which costs as much as a span. OperationHistogram only copies
// the trace and span ID of an operation into memory that the series already has, and builds exemplars when it is
// collected. Its methods may be called concurrently.
type OperationHistogram struct {
	vec    *prometheus.HistogramVec
	labels int // number of labels; the last one, mcphub_backend, is optional

	mu     sync.RWMutex
	series map[operationKey]*operationSeries // all series of vec; a lookup here is faster than in vec
}

// operationKey holds the label values of a series.
type operationKey struct {
	Operation
	backend string
}

// values returns the label values in the order of the labels, with the optional one last.
func (k operationKey) values() []string {
	return []string{k.Method, k.Tool, k.ErrorType, k.Transport, k.Version, k.backend}
}

// operationSeries is one series with its exemplars.
type operationSeries struct {
	prometheus.Histogram
	key operationKey

	mu        sync.Mutex
	exemplars *[magnitudes]exemplar // nil before the first
}

// exemplar is the trace of one operation.
type exemplar struct {
	trace    trace.TraceID
	span     trace.SpanID
	duration time.Duration
	time     time.Time // when the operation ended; zero: there is no exemplar of this magnitude
}

// NewServerOperations registers the durations of operations that the hub receives: from clients, and from servers that
// send requests to clients.
func NewServerOperations(r prometheus.Registerer) *OperationHistogram {
	return newOperationHistogram(r, "mcp_server_operation_duration_seconds",
		"Time from receiving a message, of a client or of a server that asks, to the answer.")
}

// NewClientOperations registers the durations of operations that the hub sends: to servers, and to clients on behalf of
// servers.
func NewClientOperations(r prometheus.Registerer) *OperationHistogram {
	return newOperationHistogram(r, "mcp_client_operation_duration_seconds",
		"Time from sending a message, to a server or as a question to a client, to the answer.", "mcphub_backend")
}

// newOperationHistogram registers a duration histogram of the semantic conventions for MCP, with their buckets. It is a
// native histogram too. If r already has the histogram, it returns that one, because both hops use both histograms.
// labels are the optional labels: none, or mcphub_backend. r may be nil.
func newOperationHistogram(r prometheus.Registerer, name, help string, labels ...string) *OperationHistogram {
	labels = append([]string{
		"mcp_method_name", "gen_ai_tool_name", "error_type", "network_transport", "mcp_protocol_version",
	}, labels...)
	h := &OperationHistogram{
		vec: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: name, Help: help, Buckets: []float64{.01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 30, 60, 120, 300},
			NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 160, NativeHistogramMinResetDuration: time.Hour,
		}, labels),
		labels: len(labels),
		series: map[operationKey]*operationSeries{},
	}
	if r == nil {
		return h
	}
	err := r.Register(h)
	if registered, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
		return registered.ExistingCollector.(*OperationHistogram) //nolint:forcetypeassert // only this function registers the name
	}
	if err != nil {
		panic(err)
	}
	return h
}

// Observe records that o took d, with the trace of ctx as exemplar if it is sampled. All values of o must be bounded.
// backend is empty if the histogram has no such label.
func (h *OperationHistogram) Observe(ctx context.Context, o Operation, backend string, d time.Duration) {
	h.seriesFor(operationKey{o, backend}).observe(ctx, d)
}

// seriesFor returns the series of k, which it creates if necessary.
func (h *OperationHistogram) seriesFor(k operationKey) *operationSeries {
	h.mu.RLock()
	s := h.series[k]
	h.mu.RUnlock()
	if s != nil {
		return s
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if s = h.series[k]; s == nil {
		// The values can be substrings of a message, which the key would keep in memory.
		k.Tool, k.ErrorType, k.Version = strings.Clone(k.Tool), strings.Clone(k.ErrorType), strings.Clone(k.Version)
		observer := h.vec.WithLabelValues(k.values()[:h.labels]...)
		s = &operationSeries{key: k, Histogram: observer.(prometheus.Histogram)} //nolint:forcetypeassert // client_golang documents it
		h.series[k] = s
	}
	return s
}

// remove deletes the series that match. An operation that is recorded concurrently can create such a series again.
func (h *OperationHistogram) remove(match func(o Operation, backend string) bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	maps.DeleteFunc(h.series, func(k operationKey, _ *operationSeries) bool {
		return match(k.Operation, k.backend) && h.vec.DeleteLabelValues(k.values()[:h.labels]...)
	})
}

// Describe implements [prometheus.Collector].
func (h *OperationHistogram) Describe(ch chan<- *prometheus.Desc) { h.vec.Describe(ch) }

// Collect implements [prometheus.Collector].
func (h *OperationHistogram) Collect(ch chan<- prometheus.Metric) {
	h.mu.RLock()
	all := slices.Collect(maps.Values(h.series))
	h.mu.RUnlock()
	for _, s := range all {
		ch <- s.metric()
	}
}

func (s *operationSeries) observe(ctx context.Context, d time.Duration) {
	s.Histogram.Observe(d.Seconds())
	if sc := trace.SpanContextFromContext(ctx); sc.IsSampled() {
		s.storeExemplar(sc, d)
	}
}

// storeExemplar makes the trace of an operation that took d the exemplar of its magnitude.
func (s *operationSeries) storeExemplar(sc trace.SpanContext, d time.Duration) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.exemplars == nil {
		s.exemplars = new([magnitudes]exemplar)
	}
	s.exemplars[magnitude(d)] = exemplar{sc.TraceID(), sc.SpanID(), d, now}
}

// magnitudes is the number of magnitudes of durations: the first ends at 16 us, each further one at twice the duration,
// and the last contains everything above 9 minutes.
const magnitudes = 27

func magnitude(d time.Duration) int {
	return min(max(bits.Len64(uint64(max(0, d)))-14, 0), magnitudes-1)
}

// metric returns the series with its exemplars.
func (s *operationSeries) metric() prometheus.Metric {
	exemplars := s.currentExemplars()
	if len(exemplars) == 0 {
		return s.Histogram
	}
	m, err := prometheus.NewMetricWithExemplars(s.Histogram, exemplars...)
	if err != nil { // impossible: the labels of an exemplar are too long only with more than two IDs
		return prometheus.NewInvalidMetric(s.Desc(), err)
	}
	return m
}

// currentExemplars returns the exemplars of the series, the oldest first: of several in one bucket, client_golang uses
// the last.
func (s *operationSeries) currentExemplars() []prometheus.Exemplar {
	s.mu.Lock()
	if s.exemplars == nil {
		s.mu.Unlock()
		return nil
	}
	current := *s.exemplars
	s.mu.Unlock()
	slices.SortFunc(current[:], func(a, b exemplar) int { return a.time.Compare(b.time) })
	var out []prometheus.Exemplar
	for _, e := range current {
		if !e.time.IsZero() {
			out = append(out, prometheus.Exemplar{Value: e.duration.Seconds(), Timestamp: e.time,
				Labels: prometheus.Labels{"trace_id": e.trace.String(), "span_id": e.span.String()}})
		}
	}
	return out
}
