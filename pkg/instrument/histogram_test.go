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

// histogramOf returns the only series of g.
func histogramOf(t testing.TB, g prometheus.Gatherer) *dto.Histogram {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	if len(families) != 1 || len(families[0].GetMetric()) != 1 {
		t.Fatalf("families are %v, want one with one series", families)
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

// bucketTraces returns the trace IDs of the exemplars of the classic buckets.
func bucketTraces(h *dto.Histogram) (traces []string) {
	for _, b := range h.GetBucket() {
		if e := b.GetExemplar(); e != nil {
			traces = append(traces, label(e, "trace_id"))
		}
	}
	return traces
}

// nativeTraces returns the trace IDs of the exemplars of the native histogram.
func nativeTraces(h *dto.Histogram) (traces []string) {
	for _, e := range h.GetExemplars() {
		traces = append(traces, label(e, "trace_id"))
	}
	return traces
}

func TestSampledOperationIsTheExemplarOfItsBucket(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	h := newOperationHistogram(reg, "x_seconds", "X.")
	ctx, sc := spanOf(t, sdktrace.AlwaysSample())
	h.Observe(ctx, anOperation, "", 30*time.Millisecond)
	got := histogramOf(t, reg)
	if got.GetSampleCount() != 1 || len(got.GetExemplars()) != 1 || len(bucketTraces(got)) != 1 {
		t.Fatalf("the histogram is %v", got)
	}
	for _, e := range []*dto.Exemplar{got.GetBucket()[2].GetExemplar(), got.GetExemplars()[0]} { // up to 50 ms
		if label(e, "trace_id") != sc.TraceID().String() || label(e, "span_id") != sc.SpanID().String() ||
			e.GetValue() != 0.03 || time.Since(e.GetTimestamp().AsTime()) > 20*time.Second {
			t.Errorf("the exemplar is %v", e)
		}
	}
}

func TestUnsampledOperationHasNoExemplar(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	h := newOperationHistogram(reg, "x_seconds", "X.")
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

func TestLastTraceOfEachMagnitudeIsTheExemplar(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	h := newOperationHistogram(reg, "x_seconds", "X.")
	var want []string
	for i := range 2000 { // operations of the same magnitude follow each other
		ctx, sc := spanOf(t, sdktrace.AlwaysSample())
		d := time.Duration(i/500+1) * 100 * time.Millisecond // 100, 200, 300, 400 ms
		h.Observe(ctx, anOperation, "", d)
		if i%500 == 499 && d != 300*time.Millisecond { // which has the same magnitude as 400 ms
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

// Two magnitudes share the first bucket, and one magnitude spans two buckets.
func TestBucketHasTheLastOfItsExemplars(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	h := newOperationHistogram(reg, "x_seconds", "X.")
	for _, d := range []time.Duration{5 * time.Millisecond, time.Microsecond, 8 * time.Millisecond, -1, 1 << 62} {
		ctx, sc := spanOf(t, sdktrace.AlwaysSample())
		h.Observe(ctx, anOperation, "", d)
		if got := bucketTraces(histogramOf(t, reg)); !slices.Contains(got, sc.TraceID().String()) {
			t.Errorf("%v: exemplars of traces %q", d, got)
		}
	}
}

func TestOperationsAreRecordedWhileSeriesAreCollectedAndRemoved(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	h := newOperationHistogram(reg, "x_seconds", "X.", "mcphub_backend")
	sampled, sc := spanOf(t, sdktrace.AlwaysSample())
	done := make(chan struct{})
	var recorders, collector sync.WaitGroup
	for i := range 4 {
		recorders.Go(func() {
			for n := range 3000 {
				o := anOperation
				o.Tool = fmt.Sprint("t", (n+i)%5)
				h.Observe(sampled, o, "s", time.Duration(n)*time.Millisecond)
				h.Observe(sampled, anOperation, "stays", time.Duration(n)*time.Millisecond)
			}
		})
	}
	collector.Go(func() {
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
	recorders.Wait()
	close(done)
	collector.Wait()
	got := histogramOf(t, reg) // of backend "stays", which is never removed
	if got.GetSampleCount() != 12000 {
		t.Errorf("%d operations are recorded", got.GetSampleCount())
	}
	for _, id := range append(nativeTraces(got), bucketTraces(got)...) {
		if id != sc.TraceID().String() {
			t.Errorf("an exemplar of trace %q", id)
		}
	}
}

func TestRemovedSeriesLosesItsObservationsAndExemplars(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	h := newOperationHistogram(reg, "x_seconds", "X.")
	ctx, _ := spanOf(t, sdktrace.AlwaysSample())
	h.Observe(ctx, anOperation, "", time.Second)
	h.remove(func(o Operation, _ string) bool { return o.Tool == "a" })
	if families, err := reg.Gather(); err != nil || len(families) > 0 {
		t.Errorf("families are %v, %v, want none", families, err)
	}
	h.Observe(context.Background(), anOperation, "", time.Second)
	if got := histogramOf(t, reg); got.GetSampleCount() != 1 || len(nativeTraces(got)) > 0 {
		t.Errorf("the new series is %v", got)
	}
}

func TestExemplarAllocatesNothing(t *testing.T) {
	h := newOperationHistogram(nil, "x_seconds", "X.", "mcphub_backend")
	ctx, _ := spanOf(t, sdktrace.AlwaysSample())
	n := 0
	if allocs := testing.AllocsPerRun(1000, func() {
		n++
		h.Observe(ctx, anOperation, "s", time.Duration(n%500+1)*time.Millisecond)
	}); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

// BenchmarkOperationHistogram observes one duration, without and with an exemplar.
func BenchmarkOperationHistogram(b *testing.B) {
	for name, sampler := range map[string]sdktrace.Sampler{"untraced": sdktrace.NeverSample(), "traced": sdktrace.AlwaysSample()} {
		b.Run(name, func(b *testing.B) {
			h := newOperationHistogram(nil, "x_seconds", "X.", "mcphub_backend")
			ctx, _ := spanOf(b, sampler)
			b.ReportAllocs()
			for n := 0; b.Loop(); n++ {
				h.Observe(ctx, anOperation, "s", time.Duration(n%500+1)*time.Millisecond)
			}
		})
	}
}
