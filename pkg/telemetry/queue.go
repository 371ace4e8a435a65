package telemetry

import (
	"context"
	"fmt"
	"strconv"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

const defaultQueue = 2048 // spans or log records, the default of the SDK

// The values of the label reason.
const (
	droppedFull     = "queue_full"
	droppedFailed   = "export_failed"
	droppedShutdown = "shutdown"
)

var reasons = [...]string{droppedFull, droppedFailed, droppedShutdown}

// queue counts the spans or log records that wait in the queue of the SDK, which has the same
// size. If that queue is full, an item is dropped before it reaches the SDK. The SDK would
// drop it too, but count it only in metrics of its own, which need a global provider.
type queue struct {
	size    int64
	waiting atomic.Int64
	lost    map[string]prometheus.Counter // by reason
}

// newQueue returns a queue whose size is that of the environment variable.
func newQueue(signal, variable string, env environ, dropped *prometheus.CounterVec) (*queue, error) {
	q := &queue{size: defaultQueue, lost: make(map[string]prometheus.Counter)}
	if text := env.get(variable); text != "" {
		size, err := strconv.Atoi(text)
		if err != nil || size < 1 {
			return nil, fmt.Errorf("%s=%q: want a positive number", variable, text)
		}
		q.size = int64(size)
	}
	for _, reason := range reasons {
		q.lost[reason] = dropped.WithLabelValues(signal, reason)
	}
	return q, nil
}

// reserve takes a place in the queue. If there is none, it counts a dropped item and reports
// false.
func (q *queue) reserve() bool {
	if q.waiting.Add(1) > q.size {
		q.waiting.Add(-1)
		q.lost[droppedFull].Inc()
		return false
	}
	return true
}

// countLost counts n items as dropped if their export returned an error. It returns err.
func (q *queue) countLost(g guard, n int, err error) error {
	if err != nil && n > 0 {
		reason := droppedFailed
		if g.lifetime.Err() != nil {
			reason = droppedShutdown
		}
		q.lost[reason].Add(float64(n))
	}
	return err
}

// dropAll counts the items that still wait as dropped.
func (q *queue) dropAll() {
	if n := q.waiting.Swap(0); n > 0 {
		q.lost[droppedShutdown].Add(float64(n))
	}
}

// spanProcessor drops spans for which the queue of the SDK has no room, and counts the spans
// that have not ended.
type spanProcessor struct {
	sdktrace.SpanProcessor
	queue *queue
	live  prometheus.Gauge
}

func (p spanProcessor) OnStart(parent context.Context, s sdktrace.ReadWriteSpan) {
	p.live.Inc()
	p.SpanProcessor.OnStart(parent, s)
}

func (p spanProcessor) OnEnd(s sdktrace.ReadOnlySpan) {
	p.live.Dec()
	if s.SpanContext().IsSampled() && p.queue.reserve() { // the SDK does not queue other spans
		p.SpanProcessor.OnEnd(s)
	}
}

// spanExporter runs its exports under the guard and removes their spans from the queue.
type spanExporter struct {
	sdktrace.SpanExporter
	guard guard
	queue *queue
}

func (e spanExporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	e.queue.waiting.Add(int64(-len(spans)))
	return e.queue.countLost(e.guard, len(spans), e.guard.run(ctx, func(ctx context.Context) error {
		return e.SpanExporter.ExportSpans(ctx, spans)
	}))
}

// logProcessor drops log records for which the queue of the SDK has no room.
type logProcessor struct {
	sdklog.Processor
	queue *queue
}

func (p logProcessor) OnEmit(ctx context.Context, r *sdklog.Record) error {
	if !p.queue.reserve() {
		return nil
	}
	return p.Processor.OnEmit(ctx, r)
}

// logExporter is spanExporter for log records.
type logExporter struct {
	sdklog.Exporter
	guard guard
	queue *queue
}

func (e logExporter) Export(ctx context.Context, records []sdklog.Record) error {
	e.queue.waiting.Add(int64(-len(records)))
	if len(records) == 0 {
		return nil
	}
	return e.queue.countLost(e.guard, len(records), e.guard.run(ctx, func(ctx context.Context) error {
		return e.Exporter.Export(ctx, records)
	}))
}
