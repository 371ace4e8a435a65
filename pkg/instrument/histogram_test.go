package instrument

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

var anOperation = Operation{Method: "tools/call", Tool: "a", Transport: "pipe", Version: "2025-11-25"}

// spanOf begins a span, sampled or not.
func spanOf(t testing.TB, sampler sdktrace.Sampler) (context.Context, trace.SpanContext) {
	t.Helper()
	ctx, s := sdktrace.NewTracerProvider(sdktrace.WithSampler(sampler)).Tracer("").Start(context.Background(), "x")
	return ctx, s.SpanContext()
}

// histogramOf returns the only series there is.
func histogramOf(t testing.TB, g prometheus.Gatherer) *dto.Histogram {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	if len(families) != 1 || len(families[0].GetMetric()) != 1 {
		t.Fatalf("there are %v", families)
	}
	return families[0].GetMetric()[0].GetHistogram()
}

func label(e *dto.Exemplar, name string) string {
	for _, l := range e.GetLabel() {
		if l.GetName() == name {
			return l.GetValue()
		}
	}
	return ""
}

// bucketTraces are the traces of the exemplars of the classic buckets.
func bucketTraces(h *dto.Histogram) (traces []string) {
	for _, b := range h.GetBucket() {
		if e := b.GetExemplar(); e != nil {
			traces = append(traces, label(e, "trace_id"))
		}
	}
	return traces
}

func nativeTraces(h *dto.Histogram) (traces []string) {
	for _, e := range h.GetExemplars() {
		traces = append(traces, label(e, "trace_id"))
	}
	return traces
}

func TestASampledOperationIsTheExemplarOfItsBucket(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	h := NewOperationHistogram(reg, "x_seconds", "X.")
	ctx, sc := spanOf(t, sdktrace.AlwaysSample())
	h.Observe(ctx, anOperation, "", 30*time.Millisecond)
	got := histogramOf(t, reg)
	if got.GetSampleCount() != 1 || len(got.GetExemplars()) != 1 || len(bucketTraces(got)) != 1 {
		t.Fatalf("the histogram is %v", got)
	}
	for _, e := range []*dto.Exemplar{got.GetBucket()[2].GetExemplar(), got.GetExemplars()[0]} { // up to 50 ms
		if label(e, "trace_id") != sc.TraceID().String() || label(e, "span_id") != sc.SpanID().String() || e.GetValue() != 0.03 || time.Since(e.GetTimestamp().AsTime()) > 20*time.Second {
			t.Errorf("the exemplar is %v", e)
		}
	}
}

func TestAnExemplarIsOfASampledSpanOnly(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	h := NewOperationHistogram(reg, "x_seconds", "X.")
	unsampled, _ := spanOf(t, sdktrace.NeverSample())
	for _, ctx := range []context.Context{context.Background(), unsampled} {
		h.Observe(ctx, anOperation, "", time.Second)
	}
	if got := histogramOf(t, reg); got.GetSampleCount() != 2 || len(bucketTraces(got)) > 0 || len(nativeTraces(got)) > 0 {
		t.Errorf("the histogram is %v", got)
	}
	sampled, sc := spanOf(t, sdktrace.AlwaysSample())
	h.Observe(sampled, anOperation, "", time.Second)
	h.Observe(unsampled, anOperation, "", time.Second)
	if got := bucketTraces(histogramOf(t, reg)); len(got) != 1 || got[0] != sc.TraceID().String() {
		t.Errorf("exemplars of traces %q", got)
	}
}

func TestTheLastTraceOfEachMagnitudeIsKept(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	h := NewOperationHistogram(reg, "x_seconds", "X.")
	var want []string
	for i := range 2000 { // of which those of one magnitude follow each other
		ctx, sc := spanOf(t, sdktrace.AlwaysSample())
		d := time.Duration(i/500+1) * 100 * time.Millisecond // 100, 200, 300, 400 ms
		h.Observe(ctx, anOperation, "", d)
		if i%500 == 499 && d != 300*time.Millisecond { // which is of the magnitude of 400
			want = append(want, sc.TraceID().String())
		}
	}
	got := histogramOf(t, reg)
	if traces := nativeTraces(got); !slices.Equal(traces, want) {
		t.Errorf("exemplars of traces %q, want %q", traces, want)
	}
	if traces := bucketTraces(got); !slices.Equal(traces, want) {
		t.Errorf("exemplars of buckets are of traces %q, want %q", traces, want)
	}
}

// Two magnitudes share the first bucket, and one reaches into two.
func TestOfABucketTheLastExemplarCounts(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	h := NewOperationHistogram(reg, "x_seconds", "X.")
	for _, d := range []time.Duration{5 * time.Millisecond, time.Microsecond, 8 * time.Millisecond, -1, 1 << 62} {
		ctx, sc := spanOf(t, sdktrace.AlwaysSample())
		h.Observe(ctx, anOperation, "", d)
		if got := bucketTraces(histogramOf(t, reg)); !slices.Contains(got, sc.TraceID().String()) {
			t.Errorf("%v: exemplars of traces %q", d, got)
		}
	}
}

func TestOperationsAreRecordedWhileSeriesAreReadAndGo(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	h := NewOperationHistogram(reg, "x_seconds", "X.", "mcphub_backend")
	traced, sc := spanOf(t, sdktrace.AlwaysSample())
	done := make(chan struct{})
	var recording, others sync.WaitGroup
	for i := range 4 {
		recording.Go(func() {
			for n := range 3000 {
				o := anOperation
				o.Tool = fmt.Sprint("t", (n+i)%5)
				h.Observe(traced, o, "s", time.Duration(n)*time.Millisecond)
				h.Observe(traced, anOperation, "stays", time.Duration(n)*time.Millisecond)
			}
		})
	}
	others.Go(func() {
		for open := true; open; {
			select {
			case <-done:
				open = false
			default:
			}
			h.remove(func(_ Operation, backend string) bool { return backend == "s" })
			if _, err := reg.Gather(); err != nil {
				t.Error(err)
				return
			}
		}
	})
	recording.Wait()
	close(done)
	others.Wait()
	got := histogramOf(t, reg) // of what stays
	if got.GetSampleCount() != 12000 {
		t.Errorf("%d operations are recorded", got.GetSampleCount())
	}
	for _, id := range append(nativeTraces(got), bucketTraces(got)...) {
		if id != sc.TraceID().String() {
			t.Errorf("an exemplar of trace %q", id)
		}
	}
}

func TestASeriesThatIsRemovedIsForgotten(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	h := NewOperationHistogram(reg, "x_seconds", "X.")
	ctx, _ := spanOf(t, sdktrace.AlwaysSample())
	h.Observe(ctx, anOperation, "", time.Second)
	h.remove(func(o Operation, _ string) bool { return o.Tool == "a" })
	if families, err := reg.Gather(); err != nil || len(families) > 0 {
		t.Errorf("there are %v, %v", families, err)
	}
	h.Observe(context.Background(), anOperation, "", time.Second)
	if got := histogramOf(t, reg); got.GetSampleCount() != 1 || len(nativeTraces(got)) > 0 {
		t.Errorf("what came back is %v", got)
	}
}

func TestAnExemplarAllocatesNothing(t *testing.T) {
	h := NewOperationHistogram(nil, "x_seconds", "X.", "mcphub_backend")
	ctx, _ := spanOf(t, sdktrace.AlwaysSample())
	n := 0
	if allocs := testing.AllocsPerRun(1000, func() {
		n++
		h.Observe(ctx, anOperation, "s", time.Duration(n%500+1)*time.Millisecond)
	}); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

// BenchmarkOperationHistogram is one duration, without and with a trace.
func BenchmarkOperationHistogram(b *testing.B) {
	for name, sampler := range map[string]sdktrace.Sampler{"untraced": sdktrace.NeverSample(), "traced": sdktrace.AlwaysSample()} {
		b.Run(name, func(b *testing.B) {
			h := NewOperationHistogram(nil, "x_seconds", "X.", "mcphub_backend")
			ctx, _ := spanOf(b, sampler)
			b.ReportAllocs()
			for n := 0; b.Loop(); n++ {
				h.Observe(ctx, anOperation, "s", time.Duration(n%500+1)*time.Millisecond)
			}
		})
	}
}
