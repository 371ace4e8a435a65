// Package observe measures the messages between clients and the hub: the SERVER span and the duration of what a client
// sends (Operation), the CLIENT span of a request to a client, the metrics of both, and the tap, which passes messages to
// the followers of a session. It also defines the causes for which the gateway ends calls, because the fault of a request
// depends on them.
//
// A Telemetry lives as long as its gateway, an Operation as long as its message. The package starts no goroutines.
package observe

import (
	"cmp"
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/mcphub-go/mcphub/pkg/catalog"
	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
	"github.com/mcphub-go/mcphub/pkg/session"
)

// Telemetry holds the instruments of a gateway. Its fields do not change, and its methods may be called concurrently.
type Telemetry struct {
	Tap      Tap
	Messages *instrument.Messages // between clients and hub
	Repairs  *instrument.Repairs  // of messages of clients

	log        *slog.Logger
	propagator propagation.TextMapPropagator
	spans      instrument.Spans
	parent     TraceParent
	baggage    []string // keys that are forwarded

	duration  *instrument.OperationHistogram // of operations; written by served
	served    *instrument.Recorder           // records the operations of clients in duration
	requested *instrument.OperationHistogram // of requests to clients
	unmatched *prometheus.CounterVec         // responses of clients that match no request
	drops     *prometheus.CounterVec         // notifications that reached no client, by reason
	outcomes  *prometheus.CounterVec         // requests, by method and fault
	usual     map[ending]prometheus.Counter  // the counters of outcomes that exist from the start, for a quick lookup
	overhead  *prometheus.HistogramVec       // s, by method
	catalog   *catalog.Catalog
}

// Config is the configuration of a Telemetry. Sessions and Catalog must be set.
type Config struct {
	Sessions *session.Manager // for the followers of messages
	Catalog  *catalog.Catalog // the tools and prompts that are names of spans and labels of metrics

	Logger         *slog.Logger                  // default: discard
	TracerProvider trace.TracerProvider          // default: no-op
	Propagator     propagation.TextMapPropagator // nil: tracing is off
	TraceParent    TraceParent                   // default: ParentRemote
	Baggage        []string                      // keys of baggage that are forwarded to servers; default: none
	Registerer     prometheus.Registerer         // default: metrics are not exported
	ToolLabels     int                           // limit of tools with label sets of their own; default 200, below 0: none
}

// TraceParent says how the trace context of a client is used.
type TraceParent string

// The uses of the trace context of a client.
const (
	ParentRemote TraceParent = "remote" // the client's span is the parent; the default
	ParentLink   TraceParent = "link"   // the hub begins a new trace that links to the client's span
	ParentIgnore TraceParent = "ignore" // the context is not used
)

// New makes a Telemetry and registers its metrics. It starts nothing.
func New(cfg Config) *Telemetry {
	var tp trace.TracerProvider = noop.NewTracerProvider()
	if cfg.TracerProvider != nil {
		tp = cfg.TracerProvider
	}
	f := promauto.With(cfg.Registerer)
	t := &Telemetry{
		log:   cmp.Or(cfg.Logger, slog.New(slog.DiscardHandler)),
		spans: instrument.NewSpans(tp.Tracer("github.com/mcphub-go/mcphub/pkg/gateway")), propagator: cfg.Propagator,
		parent: cfg.TraceParent, baggage: cfg.Baggage, Tap: Tap{cfg.Sessions},
		duration:  instrument.NewServerOperations(cfg.Registerer),
		requested: instrument.NewClientOperations(cfg.Registerer),
		Repairs:   instrument.NewRepairs(cfg.Registerer, instrument.HopDownstream),
		unmatched: instrument.NewUnmatched(cfg.Registerer, instrument.HopDownstream, "response"),
		Messages:  instrument.NewMessages(cfg.Registerer, instrument.HopDownstream),
		outcomes: f.NewCounterVec(prometheus.CounterOpts{Name: "mcphub_operations_total",
			Help: "Requests of clients, by whose doing it is how they ended."}, []string{"mcp_method_name", "fault"}),
		overhead: f.NewHistogramVec(prometheus.HistogramOpts{Name: "mcphub_proxy_overhead_seconds",
			Help:    "Part of the time of a forwarded request that went by in the hub.",
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, 1}}, []string{"mcp_method_name"}),
		drops: f.NewCounterVec(prometheus.CounterOpts{Name: "mcphub_notifications_dropped_total",
			Help: "Notifications that reached no client."}, []string{"reason"}),
		usual:   map[ending]prometheus.Counter{},
		catalog: cfg.Catalog,
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
	for _, r := range []string{"no_stream", "slow_reader", "ambiguous", "unsupported"} {
		t.drops.WithLabelValues(r)
	}
	return t
}

// serverOf returns the server that offers the tool, prompt or resource that a request of method is for, or an empty string
// if there is none.
func (t *Telemetry) serverOf(method, name string) string {
	var target catalog.Target
	switch method {
	case protocol.MethodToolsCall:
		target, _ = t.catalog.Snapshot().Tool(name)
	case protocol.MethodPromptsGet:
		target, _ = t.catalog.Snapshot().Prompt(name)
	case protocol.MethodResourcesRead, protocol.MethodResourcesSubscribe, protocol.MethodResourcesUnsubscribe:
		target, _ = t.catalog.Snapshot().Resource(name)
	}
	return target.Server
}

// ending is the method of a request and the fault of its outcome.
type ending struct {
	method string
	fault  instrument.Fault
}

// countOutcome counts the end of a request.
func (t *Telemetry) countOutcome(method string, fault instrument.Fault) {
	if c := t.usual[ending{method, fault}]; c != nil {
		c.Inc()
		return
	}
	t.outcomes.WithLabelValues(method, string(fault)).Inc() // a method that clients must not call
}

// ObserveRequest records, for an Operation, the duration of a request and its outcome. spent is the part of took for which
// it waited for others than the hub; 0: it waited for none.
func (t *Telemetry) ObserveRequest(ctx context.Context, op instrument.Operation, fault instrument.Fault, took, spent time.Duration) {
	t.served.Observe(ctx, op, took)
	t.countOutcome(op.Method, fault)
	if spent > 0 {
		overhead := max(0, took-spent) // spent counts concurrent requests to two servers twice
		t.overhead.WithLabelValues(op.Method).Observe(overhead.Seconds())
	}
}

// Prune removes the series of tools that the catalog does not have any more.
func (t *Telemetry) Prune() { t.served.Prune() }

// CountRefused counts a request and its immediate refusal.
func (t *Telemetry) CountRefused(request, answer jsonrpc.Message) {
	inFlight := t.Messages.Begin(instrument.In, request)
	inFlight.Answer(answer)
}

// CountUnmatched counts a response of a client that matches no waiting request.
func (t *Telemetry) CountUnmatched() { t.unmatched.WithLabelValues("response").Inc() }

// Sent counts a notification that is sent to a client, and taps it for the session of ctx. The senders of requests and
// responses count those themselves.
func (t *Telemetry) Sent(ctx context.Context, m jsonrpc.Message) {
	if m.Kind() == jsonrpc.Notification {
		t.Messages.Add(instrument.Out, m)
		t.Tap.Message(ctx, instrument.Out, m, instrument.About{})
	}
}

// Dropped counts a notification that reaches no client.
func (t *Telemetry) Dropped(reason string) { t.drops.WithLabelValues(reason).Inc() }
