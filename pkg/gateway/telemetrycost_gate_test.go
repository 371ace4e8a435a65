//go:build !race

// The race detector makes pools forget at random. "make cost" runs this without it.

package gateway

import (
	"context"
	"runtime/debug"
	"testing"
	"time"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

// What a proxied call allocates more with tracing than without. The smallest of
// several averages counts: whatever else the process does only adds to them.
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
				t.Errorf("%s %s: %.1f allocations a call more than without tracing; no more than %v are allowed", spec.Name, how.name, more, how.limit)
			}
		}
	}
}

func TestMetricsOfACallAllocateNothing(t *testing.T) {
	tel := newCostHub(t, stdio(t, "child"), tracing{}).gateway.tel
	m := jsonrpc.Message{ID: "1", Method: "tools/call", Params: []byte(`{"name":"x"}`)}
	response := jsonrpc.Message{ID: "1", Result: []byte(`{}`)}
	record := func() {
		flight := tel.messages.Begin(upstream.In, m)
		tel.served.Observe(context.Background(), upstream.Operation{Method: m.Method, Tool: "x", Transport: "tcp", Version: "2025-11-25"}, time.Millisecond)
		tel.outcomes.WithLabelValues(m.Method, "none").Inc()
		tel.overhead.WithLabelValues(m.Method).Observe(0.001)
		flight.Answer(response)
	}
	if n := testing.AllocsPerRun(1000, record); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
