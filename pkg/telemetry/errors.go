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
	logInterval = 10 * time.Second // between two log records of one class
	maxErrorLen = 500              // bytes of an error that are logged; it may contain the answer of a collector
)

// reporter counts the errors of the telemetry itself. It logs at most one error of each
// class per logInterval.
type reporter struct {
	logger *slog.Logger
	count  *prometheus.CounterVec // by signal

	mu      sync.Mutex
	classes map[class]*throttle
}

// class identifies similar errors by the signal and the Go type of the innermost error.
// The text of the error cannot be used: it may come from a client, and classes are never
// removed.
type class struct{ signal, cause string }

// throttle is the state of one class.
type throttle struct {
	until      time.Time // no record before this time
	suppressed int       // errors since the last record
}

func newReporter(logger *slog.Logger, count *prometheus.CounterVec) *reporter {
	return &reporter{logger: logger, count: count, classes: make(map[class]*throttle)}
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

// allow reports whether an error of class c may be logged now, and how many have been
// suppressed since the last record.
func (r *reporter) allow(c class) (suppressed int, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.classes[c]
	if t == nil {
		t = new(throttle)
		r.classes[c] = t
	}
	now := time.Now()
	if now.Before(t.until) {
		t.suppressed++
		return 0, false
	}
	suppressed = t.suppressed
	*t = throttle{until: now.Add(logInterval)}
	return suppressed, true
}

// cause returns the innermost error of err; of joined errors it follows the first.
func cause(err error) error {
	for {
		var next error
		switch u := err.(type) { //nolint:errorlint // this function unwraps the chain itself
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

// guard runs the exports of one signal. It reports those that fail, and cancels those in
// progress when lifetime ends.
type guard struct {
	signal   string
	lifetime context.Context //nolint:containedctx // of the Telemetry, not of one export
	errs     *reporter
}

// run calls export. Its error is an *exportError.
func (g guard) run(ctx context.Context, export func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(g.lifetime, cancel)() //nolint:contextcheck // the end of either context ends the export

	err := export(ctx)
	if err == nil {
		return nil
	}
	if g.lifetime.Err() != nil {
		err = fmt.Errorf("given up at shutdown: %w", err)
	}
	g.errs.report(g.signal, err)
	return &exportError{err}
}

// exportError is an error that a guard has reported already. The SDK passes it to the
// global error handler, which may belong to another Telemetry.
type exportError struct{ err error }

func (e *exportError) Error() string { return e.err.Error() }
func (e *exportError) Unwrap() error { return e.err }

// reported reports whether a guard has reported err.
func reported(err error) bool {
	_, ok := errors.AsType[*exportError](err)
	return ok
}

// metricExporter runs its exports under the guard.
type metricExporter struct {
	sdkmetric.Exporter
	guard guard
}

func (e metricExporter) Export(ctx context.Context, rm *metricdata.ResourceMetrics) error {
	return e.guard.run(ctx, func(ctx context.Context) error { return e.Exporter.Export(ctx, rm) })
}
