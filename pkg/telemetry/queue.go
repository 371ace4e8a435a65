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

const defaultQueue = 2048 // of the SDK, spans or records

// The values of the label reason.
const (
	droppedFull     = "queue_full"
	droppedFailed   = "export_failed"
	droppedShutdown = "shutdown"
)

var reasons = [...]string{droppedFull, droppedFailed, droppedShutdown}

// queue knows how many spans or records wait for their exporter in the SDK's
// queue of the same size. What has no room is dropped before it gets there: the
// SDK would drop it too, but tell only its own metrics, which need a global.
type queue struct {
	size    int64
	waiting atomic.Int64
	lost    map[string]prometheus.Counter // by reason
}

// newQueue reads the size from a variable of the environment.
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

// enter reports whether there is room for one more, and takes it.
func (q *queue) enter() bool {
	if q.waiting.Add(1) > q.size {
		q.waiting.Add(-1)
		q.lost[droppedFull].Inc()
		return false
	}
	return true
}

// export takes n out of the queue and notes what became of them.
func (q *queue) export(g guard, n int, err error) error {
	if err != nil && n > 0 {
		reason := droppedFailed
		if g.life.Err() != nil {
			reason = droppedShutdown
		}
		q.lost[reason].Add(float64(n))
	}
	return err
}

// giveUp drops what still waits.
func (q *queue) giveUp() {
	if n := q.waiting.Swap(0); n > 0 {
		q.lost[droppedShutdown].Add(float64(n))
	}
}

// spanProcessor keeps spans that have no room out of the queue of the SDK, and
// counts those that have not ended.
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
	if s.SpanContext().IsSampled() && p.queue.enter() { // the SDK queues no others
		p.SpanProcessor.OnEnd(s)
	}
}

type spanExporter struct {
	sdktrace.SpanExporter
	guard guard
	queue *queue
}

func (e spanExporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	e.queue.waiting.Add(int64(-len(spans)))
	return e.queue.export(e.guard, len(spans), e.guard.run(ctx, func(ctx context.Context) error {
		return e.SpanExporter.ExportSpans(ctx, spans)
	}))
}

// logProcessor does for log records what spanProcessor does for spans.
type logProcessor struct {
	sdklog.Processor
	queue *queue
}

func (p logProcessor) OnEmit(ctx context.Context, r *sdklog.Record) error {
	if !p.queue.enter() {
		return nil
	}
	return p.Processor.OnEmit(ctx, r)
}

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
	return e.queue.export(e.guard, len(records), e.guard.run(ctx, func(ctx context.Context) error {
		return e.Exporter.Export(ctx, records)
	}))
}
