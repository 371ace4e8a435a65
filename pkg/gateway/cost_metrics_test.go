package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/mcphub-go/mcphub/pkg/catalog"
	"github.com/mcphub-go/mcphub/pkg/gateway/observe"
	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

const aSession, aVersion = "abcdefghijklmnop", "2025-11-25"

// served does the telemetry of a tool call between client and hub, without the call.
type served struct {
	tel      *observe.Telemetry
	registry *prometheus.Registry
	request  *http.Request
	message  jsonrpc.Message
	response jsonrpc.Message
}

func newServed(t testing.TB, how tracing) *served {
	all := catalog.New(catalog.Prefix, []string{"child"})
	all.Replace("child", catalog.Inventory{Tools: []json.RawMessage{json.RawMessage(`{"name":"echo","inputSchema":{"type":"object"}}`)}})
	registry := prometheus.NewRegistry()
	cfg := Config{Registerer: registry, Catalog: all}
	if how.sampler != nil {
		tp := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(unread{}), sdktrace.WithSampler(how.sampler))
		t.Cleanup(func() { _ = tp.Shutdown(context.Background()) })
		cfg.TracerProvider = tp
		cfg.Propagator = propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{})
	}
	params := `{"name":"child__echo","arguments":{"say":"how much is it","n":[1,2,3]}`
	if how.meta != "" {
		params += `,"_meta":{"traceparent":"` + how.meta + `"}`
	}
	s := &served{tel: observe.New(cfg.telemetry()), registry: registry,
		message:  jsonrpc.Message{ID: "7", Method: "tools/call", Params: json.RawMessage(params + "}")},
		response: jsonrpc.Message{ID: "7", Result: json.RawMessage(`{"content":[]}`)}}
	s.request, _ = http.NewRequestWithContext(context.Background(), http.MethodPost, "http://127.0.0.1/mcp", nil)
	s.request.RemoteAddr = "127.0.0.1:40000"
	if how.header != "" {
		s.request.Header.Set("Traceparent", how.header)
	}
	return s
}

// unread is a span processor that drops its spans.
type unread struct{}

func (unread) OnStart(context.Context, sdktrace.ReadWriteSpan) {}
func (unread) OnEnd(sdktrace.ReadOnlySpan)                     {}
func (unread) Shutdown(context.Context) error                  { return nil }
func (unread) ForceFlush(context.Context) error                { return nil }

func (s *served) pass() {
	ctx, op := s.tel.StartOperation(s.request, aSession, aVersion, s.message)
	op.Spent.Add(int64(time.Microsecond))
	op.End(ctx, s.response, nil)
	op.InFlight.Answer(s.response)
}

// callMetrics records the metrics of one proxied call on both hops: those of a gateway, and copies of those of
// pkg/upstream.
type callMetrics struct {
	hub           *costHub
	registry      *prometheus.Registry // of those of pkg/upstream
	messages      *instrument.Messages
	calls         *instrument.Recorder
	outcomes      map[string]prometheus.Counter
	here, there   string // the tool
	request, sent jsonrpc.Message
	response      jsonrpc.Message
}

func newCallMetrics(t testing.TB) *callMetrics {
	m := &callMetrics{hub: newCostHub(t, stdio(t, "child"), tracing{}), registry: prometheus.NewRegistry(),
		here: "child__echo", there: "echo",
		outcomes: map[string]prometheus.Counter{}}
	m.messages = instrument.NewMessages(m.registry, "backend")
	operations := instrument.NewOperations(m.registry, "backend", instrument.NewClientOperations(m.registry), 0)
	m.calls = operations.Recorder("child", func(string) bool { return true })
	vec := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "mcphub_backend_operations_total", Help: "."},
		[]string{"mcphub_backend", "fault"})
	m.registry.MustRegister(vec)
	for _, f := range instrument.Faults() {
		m.outcomes[string(f)] = vec.WithLabelValues("child", string(f))
	}
	m.request = jsonrpc.Message{ID: "7", Method: "tools/call",
		Params: json.RawMessage(`{"name":"child__echo","arguments":{"say":"how much is it","n":[1,2,3]}}`)}
	m.sent = jsonrpc.Message{ID: "1", Method: "tools/call",
		Params: json.RawMessage(`{"name":"echo","arguments":{"say":"how much is it","n":[1,2,3]}}`)}
	m.response = jsonrpc.Message{ID: "1", Result: json.RawMessage(`{"content":[]}`)}
	m.record(context.Background()) // the series are there
	return m
}

// record records the metrics of one call.
func (m *callMetrics) record(ctx context.Context) {
	tel := m.hub.gateway.tel
	in := tel.Messages.Begin(instrument.In, m.request)
	out := m.messages.Begin(instrument.Out, m.sent)
	out.Answer(m.response)
	m.outcomes[string(instrument.FaultNone)].Inc()
	m.calls.Observe(ctx, instrument.Operation{Method: m.sent.Method, Tool: m.there, Transport: "pipe", Version: aVersion}, time.Millisecond)
	tel.ObserveRequest(ctx, instrument.Operation{Method: m.request.Method, Tool: m.here, Transport: "tcp", Version: aVersion},
		instrument.FaultNone, time.Millisecond, 990*time.Microsecond)
	in.Answer(m.response)
}

// The cost of a metric that a call has, but record has not, would not be measured.
func TestMeasuredMetricsAreThoseOfACall(t *testing.T) {
	t.Parallel()
	m := newCallMetrics(t)
	m.hub.call(1) // the series are there
	before := counts(t, m.hub.gateway.cfg.Registerer)
	m.hub.call(10)
	want := since(before, counts(t, m.hub.gateway.cfg.Registerer))

	before = counts(t, m.hub.gateway.cfg.Registerer, m.registry)
	for range 10 {
		m.record(context.Background())
	}
	got := since(before, counts(t, m.hub.gateway.cfg.Registerer, m.registry))
	if !maps.Equal(got, want) {
		t.Errorf("ten calls count %v, record counts %v", want, got)
	}
}

// counts returns the values of counters and gauges and the numbers of observations of histograms, without the metrics
// of sessions, which do not belong to a call.
func counts(t testing.TB, of ...prometheus.Registerer) map[string]float64 {
	t.Helper()
	have := map[string]float64{}
	for _, r := range of {
		families, err := r.(*prometheus.Registry).Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if strings.HasPrefix(f.GetName(), "mcphub_session") || f.GetName() == "mcphub_message_bytes_total" {
				continue
			}
			for _, m := range f.GetMetric() {
				have[fmt.Sprint(f.GetName(), m.GetLabel())] += m.GetCounter().GetValue() + m.GetGauge().GetValue() +
					float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return have
}

// since returns the series that have changed, with the differences.
func since(before, now map[string]float64) map[string]float64 {
	changed := map[string]float64{}
	for series, n := range now {
		if n != before[series] {
			changed[series] = n - before[series]
		}
	}
	return changed
}

// BenchmarkMetricsOfACall records the metrics of one proxied tool call, on both hops.
func BenchmarkMetricsOfACall(b *testing.B) {
	sampled, span := sdktrace.NewTracerProvider().Tracer("").Start(context.Background(), "x")
	defer span.End()
	m := newCallMetrics(b)
	for _, how := range []struct {
		name string
		ctx  context.Context
	}{{"", context.Background()}, {"-with-exemplars", sampled}} {
		b.Run("serial"+how.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				m.record(how.ctx)
			}
		})
		b.Run("parallel"+how.name, func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					m.record(how.ctx)
				}
			})
		})
	}
}

// BenchmarkTelemetryOfACall does the telemetry of a call between client and hub, for each way to trace it. pkg/upstream
// has the other hop.
func BenchmarkTelemetryOfACall(b *testing.B) {
	for _, how := range tracings() {
		b.Run(how.name, func(b *testing.B) {
			s := newServed(b, how)
			b.ReportAllocs()
			for b.Loop() {
				s.pass()
			}
		})
	}
}

func TestRequestsThatClientsMustNotSendAreCounted(t *testing.T) {
	t.Parallel()
	s := newServed(t, tracing{})
	s.message.Method = "roots/list"
	s.pass()
	s.pass()
	if n := sumOf(t, s.registry, "mcphub_operations_total", "mcp_method_name", "roots/list", "fault", "none"); n != 2 {
		t.Errorf("%v are counted", n)
	}
}
