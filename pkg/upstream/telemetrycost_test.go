package upstream

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

// tracing is a way to trace calls, and how often it may allocate for each on the way to the server. A whole call may
// have 16 or 32 allocations; the gateway has the rest.
type tracing struct {
	name    string
	sampler sdktrace.Sampler // nil: off
	limit   float64
}

func tracings() []tracing {
	return []tracing{
		{name: "off"},
		{name: "unsampled", sampler: sdktrace.NeverSample(), limit: 9},
		{name: "sampled", sampler: sdktrace.AlwaysSample(), limit: 16},
	}
}

// costCall is all that telemetry does for a call of a tool to a server, without the server.
type costCall struct {
	registry *prometheus.Registry
	conn     *Conn
	ctx      context.Context
	request  Request
	response jsonrpc.Message
	header   http.Header
}

func newCostCall(t testing.TB, how tracing) *costCall {
	registry := prometheus.NewRegistry()
	cfg := Config{Registerer: registry}
	if how.sampler != nil {
		tp := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(unread{}), sdktrace.WithSampler(sdktrace.ParentBased(how.sampler)))
		t.Cleanup(func() { _ = tp.Shutdown(context.Background()) })
		cfg.TracerProvider = tp
		cfg.Propagator = propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{})
	}
	tel := newTelemetry(cfg)
	spec := Spec{Name: "s", URL: "http://127.0.0.1:9/mcp"}
	c := &costCall{
		registry: registry,
		conn: &Conn{spec: spec, pending: newPendingCalls(),
			tel: newConnTelemetry(tel, tel.addServer(spec.Name, func(string) bool { return true }), spec, "abcdefghijklmnop")},
		request:  toolCall("echo", `{"say":"how much is it","n":[1,2,3]}`),
		response: jsonrpc.Message{ID: "7", Result: json.RawMessage(`{"content":[]}`)},
		header:   http.Header{},
	}
	c.conn.tel.setVersion("2025-11-25")
	c.ctx, _ = tel.spans.Server(context.Background(), "tools/call", "s__echo")
	return c
}

// unread is a span processor that drops all spans.
type unread struct{}

func (unread) OnStart(context.Context, sdktrace.ReadWriteSpan) {}
func (unread) OnEnd(sdktrace.ReadOnlySpan)                     {}
func (unread) Shutdown(context.Context) error                  { return nil }
func (unread) ForceFlush(context.Context) error                { return nil }

// pass is the telemetry of one call. With tracing off that is its metrics only.
func (c *costCall) pass() {
	ctx, span := c.conn.tel.startCall(c.ctx, "7", c.request, false)
	params, err := c.conn.params(ctx, legacyDialect{c.conn}, &call{}, c.request)
	if err != nil {
		panic(err)
	}
	inFlight := c.conn.tel.messages.Begin(instrument.Out, jsonrpc.Message{ID: "7", Method: c.request.Method, Params: params})
	c.conn.tel.injectHeader(ctx, c.header)
	inFlight.Answer(c.response)
	span.end(c.response, nil)
}

// record is the metrics of pass alone.
func (c *costCall) record(ctx context.Context) {
	inFlight := c.conn.tel.messages.Begin(instrument.Out, jsonrpc.Message{ID: "7", Method: c.request.Method, Params: c.request.Params})
	inFlight.Answer(c.response)
	c.conn.tel.own.outcomes[string(instrument.FaultNone)].Inc()
	c.conn.tel.own.calls.Observe(ctx, instrument.Operation{Method: c.request.Method, Tool: c.request.Target,
		Transport: c.conn.tel.network, Version: c.conn.tel.version()}, time.Millisecond)
}

// A metric that a call counts and record does not would be missing in the measurement.
func TestMeasuredMetricsAreThoseOfACall(t *testing.T) {
	t.Parallel()
	passed, recorded := newCostCall(t, tracing{}), newCostCall(t, tracing{})
	for range 3 {
		passed.pass()
		recorded.record(recorded.ctx)
	}
	want, got := counts(t, passed.registry), counts(t, recorded.registry)
	if len(want) != 6 || !maps.Equal(got, want) { // two messages and their bytes, an outcome, a duration
		t.Errorf("a call counts %v, measured are %v", want, got)
	}
}

// counts returns the series that are not zero: counters, gauges and the numbers of observations of histograms.
func counts(t testing.TB, g prometheus.Gatherer) map[string]float64 {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if n := m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount()); n != 0 {
				have[fmt.Sprint(f.GetName(), m.GetLabel())] = n
			}
		}
	}
	return have
}

// BenchmarkTelemetryOfACall is the telemetry of a call, for each way to trace it.
func BenchmarkTelemetryOfACall(b *testing.B) {
	for _, how := range tracings() {
		b.Run(how.name, func(b *testing.B) {
			c := newCostCall(b, how)
			b.ReportAllocs()
			for b.Loop() {
				c.pass()
			}
		})
	}
}
