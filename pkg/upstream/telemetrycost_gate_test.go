//go:build !race

// The race detector empties sync.Pools at random. "make cost" runs this without it.

package upstream

import (
	"runtime/debug"
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// The numbers are exact: there is neither a server nor another goroutine.
func TestTracingAloneAllocatesNoMoreThanItMay(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // a collection empties pools
	off := 0.0
	for _, how := range tracings() {
		n := testing.AllocsPerRun(1000, newCostCall(t, how).pass)
		if how.sampler == nil {
			off = n
		}
		t.Logf("%s: %v allocations, %v more than off", how.name, n, n-off)
		if n-off > how.limit {
			t.Errorf("%s: %v allocations more than without tracing; no more than %v are allowed", how.name, n-off, how.limit)
		}
	}
}

func TestMetricsOfACallAllocateNothing(t *testing.T) {
	c := newCostCall(t, tracing{})
	sampled, _ := sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.AlwaysSample())).Tracer("").Start(t.Context(), "x")
	if n := testing.AllocsPerRun(1000, func() { c.record(c.ctx); c.record(sampled) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
