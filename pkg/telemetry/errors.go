package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

const (
	quietTime   = 10 * time.Second // between two log records of one class
	maxErrorLen = 500              // bytes of an error that are logged: a collector's answer may be in it
)

// reporter counts the errors of the telemetry itself, and logs one of a class
// every quietTime.
type reporter struct {
	logger *slog.Logger
	count  *prometheus.CounterVec // by signal

	mu      sync.Mutex
	classes map[class]*quiet
}

// class is the signal and the Go type of the error behind it all. The text
// would be finer, but it may come from a client, and classes are kept forever.
type class struct{ signal, cause string }

type quiet struct {
	until      time.Time
	suppressed int // records not logged since the last one
}

func newReporter(logger *slog.Logger, count *prometheus.CounterVec) *reporter {
	return &reporter{logger: logger, count: count, classes: make(map[class]*quiet)}
}

// Handle implements [otel.ErrorHandler].
func (r *reporter) Handle(err error) {
	if err != nil && !reported(err) {
		r.report(signalOther, err)
	}
}

func (r *reporter) report(signal string, err error) {
	r.count.WithLabelValues(signal).Inc()
	if suppressed, ok := r.allow(class{signal, fmt.Sprintf("%T", cause(err))}); ok {
		text := err.Error()
		r.logger.Warn("telemetry failed", "signal", signal,
			"err", text[:min(len(text), maxErrorLen)], "suppressed", suppressed)
	}
}

// allow reports whether an error of class c may be logged now, and how many
// were not since the last time.
func (r *reporter) allow(c class) (suppressed int, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	q := r.classes[c]
	if q == nil {
		q = new(quiet)
		r.classes[c] = q
	}
	now := time.Now()
	if now.Before(q.until) {
		q.suppressed++
		return 0, false
	}
	suppressed = q.suppressed
	*q = quiet{until: now.Add(quietTime)}
	return suppressed, true
}

// cause unwraps err to the end; of joined errors it takes the first.
func cause(err error) error {
	for {
		var next error
		switch u := err.(type) { //nolint:errorlint // the chain is walked here
		case interface{ Unwrap() error }:
			next = u.Unwrap()
		case interface{ Unwrap() []error }:
			if all := u.Unwrap(); len(all) > 0 {
				next = all[0]
			}
		}
		if next == nil {
			return err
		}
		err = next
	}
}

// guard stands around an exporter's exports: it reports those that fail, and
// cancels those in flight when life ends.
type guard struct {
	signal string
	life   context.Context //nolint:containedctx // of the telemetry, not of one export
	errs   *reporter
}

func (g guard) run(ctx context.Context, export func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(g.life, cancel)() //nolint:contextcheck // both lives end the export

	err := export(ctx)
	if err == nil {
		return nil
	}
	if g.life.Err() != nil {
		err = fmt.Errorf("given up at shutdown: %w", err)
	}
	g.errs.report(g.signal, err)
	return &exportError{err}
}

// exportError is an error that a guard has reported. The SDK passes it on to
// the global handler, which may belong to another Telemetry.
type exportError struct{ err error }

func (e *exportError) Error() string { return e.err.Error() }
func (e *exportError) Unwrap() error { return e.err }

func reported(err error) bool {
	_, ok := errors.AsType[*exportError](err)
	return ok
}

type metricExporter struct {
	sdkmetric.Exporter
	guard guard
}

func (e metricExporter) Export(ctx context.Context, rm *metricdata.ResourceMetrics) error {
	return e.guard.run(ctx, func(ctx context.Context) error { return e.Exporter.Export(ctx, rm) })
}
