package gateway

import (
	"cmp"
	"context"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/mcphub-go/mcphub/pkg/gateway/stream"
	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
)

// telemetry holds the instruments of the gateway. Its fields do not change.
type telemetry struct {
	log        *slog.Logger
	tracer     trace.Tracer
	propagator propagation.TextMapPropagator
	spans      instrument.Spans
	parent     TraceParent
	baggage    []string // keys that are forwarded
	tap        tap

	duration  *instrument.OperationHistogram // of operations; written by served
	served    *instrument.Recorder           // records the operations of clients in duration
	requested *instrument.OperationHistogram // of requests to clients
	unmatched *prometheus.CounterVec         // responses of clients that match no request
	drops     *prometheus.CounterVec         // notifications that reached no client, by reason
	streams   *stream.Metrics
	outcomes  *prometheus.CounterVec         // requests, by method and fault
	usual     map[ending]prometheus.Counter  // the counters of outcomes that exist from the start, for a quick lookup
	overhead  *prometheus.HistogramVec       // s, by method
	messages  *instrument.Messages           // between clients and hub
	lookup    func(method, name string) bool // whether the catalog has a tool or prompt
}

func newTelemetry(cfg Config) *telemetry {
	var tp trace.TracerProvider = noop.NewTracerProvider()
	if cfg.TracerProvider != nil {
		tp = cfg.TracerProvider
	}
	f := promauto.With(cfg.Registerer)
	tracer := tp.Tracer("github.com/mcphub-go/mcphub/pkg/gateway")
	t := &telemetry{
		log:    cmp.Or(cfg.Logger, slog.New(slog.DiscardHandler)),
		tracer: tracer, spans: instrument.NewSpans(tracer), propagator: cfg.Propagator,
		parent: cfg.TraceParent, baggage: cfg.Baggage, tap: tap{cfg.Sessions},
		duration:  instrument.NewServerOperations(cfg.Registerer),
		requested: instrument.NewClientOperations(cfg.Registerer),
		unmatched: instrument.NewUnmatched(cfg.Registerer, instrument.HopDownstream, "response"),
		messages:  instrument.NewMessages(cfg.Registerer, instrument.HopDownstream),
		outcomes: f.NewCounterVec(prometheus.CounterOpts{Name: "mcphub_operations_total",
			Help: "Requests of clients, by whose doing it is how they ended."}, []string{"mcp_method_name", "fault"}),
		overhead: f.NewHistogramVec(prometheus.HistogramOpts{Name: "mcphub_proxy_overhead_seconds",
			Help:    "Part of the time of a forwarded request that went by in the hub.",
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, 1}}, []string{"mcp_method_name"}),
		drops: f.NewCounterVec(prometheus.CounterOpts{Name: "mcphub_notifications_dropped_total",
			Help: "Notifications that reached no client."}, []string{"reason"}),
		usual: map[ending]prometheus.Counter{},
		lookup: func(method, name string) bool {
			s := cfg.Catalog.Snapshot()
			_, ok := s.Tool(name)
			if method == protocol.MethodPromptsGet {
				_, ok = s.Prompt(name)
			}
			return ok
		},
	}
	operations := instrument.NewOperations(cfg.Registerer, instrument.HopDownstream, t.duration, cfg.ToolLabels)
	t.served = operations.Recorder("", func(tool string) bool {
		_, ok := cfg.Catalog.Snapshot().Tool(tool)
		return ok
	})
	for _, method := range instrument.RequestLabels() {
		for _, fault := range instrument.Faults() {
			t.usual[ending{method, fault}] = t.outcomes.WithLabelValues(method, string(fault))
		}
	}
	t.streams = stream.NewMetrics(cfg.Registerer, t.dropped)
	for _, r := range []string{"no_stream", "slow_reader", "ambiguous", "unsupported"} {
		t.drops.WithLabelValues(r)
	}
	return t
}

// ending is the method of a request and the fault of its outcome.
type ending struct {
	method string
	fault  instrument.Fault
}

// countOutcome counts the end of a request.
func (t *telemetry) countOutcome(method string, fault instrument.Fault) {
	if c := t.usual[ending{method, fault}]; c != nil {
		c.Inc()
		return
	}
	t.outcomes.WithLabelValues(method, string(fault)).Inc() // a method that clients must not call
}

// countRefused counts a request and its immediate refusal.
func (t *telemetry) countRefused(request, answer jsonrpc.Message) {
	inFlight := t.messages.Begin(instrument.In, request)
	inFlight.Answer(answer)
}

// countUnmatched counts a response of a client that matches no waiting request.
func (t *telemetry) countUnmatched() { t.unmatched.WithLabelValues("response").Inc() }

// sent counts a notification that is sent to a client, and taps it for the session of ctx. The senders of requests and
// responses count those themselves.
func (t *telemetry) sent(ctx context.Context, m jsonrpc.Message) {
	if m.Kind() == jsonrpc.Notification {
		t.messages.Add(instrument.Out, m)
		t.tap.message(ctx, instrument.Out, m, instrument.About{})
	}
}

// dropped counts a notification that reaches no client.
func (t *telemetry) dropped(reason string) { t.drops.WithLabelValues(reason).Inc() }
