//go:build !race

// The race detector makes pools drop objects at random. "make cost" runs this file without it.

package gateway

import (
	"context"
	"runtime/debug"
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// The test limits the allocations that tracing adds to a proxied call. It uses the smallest of several averages,
// because other work of the process only adds to them.
func TestTracingAllocatesNoMoreThanItMay(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // a collection empties pools
	for _, spec := range costServers(t) {
		off := 0.0
		for _, how := range tracings() {
			h := newCostHub(t, spec, how)
			h.call(300)
			least := h.allocations(t, 300)
			for range 4 {
				least = min(least, h.allocations(t, 300))
			}
			if how.sampler == nil {
				off = least
			}
			t.Logf("%s %s: %.1f allocations a call, %.1f more than off", spec.Name, how.name, least, least-off)
			if more := least - off; more > how.limit+0.5 {
				t.Errorf("%s %s: %.1f allocations a call more than without tracing; no more than %v are allowed", spec.Name, how.name,
					more, how.limit)
			}
		}
	}
}

// The test limits the allocations that tracing adds between client and hub. They are exact, because there is neither a
// server nor another goroutine. The rest of the limits is for the way to the server, which pkg/upstream tests.
func TestTracingAloneAllocatesNoMoreThanItMay(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	off := 0.0
	for _, how := range tracings() {
		n := testing.AllocsPerRun(1000, newServed(t, how).pass)
		if how.sampler == nil {
			off = n
		}
		limit := how.limit - 9
		if how.limit == 32 {
			limit = how.limit - 16
		}
		t.Logf("%s: %v allocations, %v more than off", how.name, n, n-off)
		if n-off > max(limit, 0) {
			t.Errorf("%s: %v allocations more than without tracing; no more than %v are allowed", how.name, n-off, limit)
		}
	}
}

func TestMetricsOfACallAllocateNothing(t *testing.T) {
	m := newCallMetrics(t)
	sampled, s := sdktrace.NewTracerProvider().Tracer("").Start(context.Background(), "x")
	defer s.End()
	for _, ctx := range []context.Context{context.Background(), sampled} {
		if n := testing.AllocsPerRun(1000, func() { m.record(ctx) }); n != 0 {
			t.Errorf("%v allocations", n)
		}
	}
}
