// Package telemetry turns on logs, metrics and traces.
//
//	Start -> logs to stderr, /metrics, OTLP if the environment asks for it -> Shutdown
//
// Nobody but the program's main imports it: everything else is handed a
// [slog.Logger], a [prometheus.Registerer] and a [trace.TracerProvider].
//
// The one global that Start sets is the OpenTelemetry error handler: there is no
// other way to see the errors of the SDK, and the default handler prints them
// past the log. The Telemetry started last gets them, except failed exports,
// which go to the Telemetry they belong to.
package telemetry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
	"golang.org/x/sync/errgroup"
	"golang.org/x/term"
)

const (
	shutdownBudget = 3 * time.Second
	// abandonGrace is the part of the budget left, after exports in flight were
	// cancelled, for counting them as failed.
	abandonGrace = 200 * time.Millisecond
)

// Config says where logs go. What is exported, and where to, is said by the
// OTEL_* environment variables; exporters read theirs from the process
// environment, whatever Lookup answers.
type Config struct {
	Version      string     // the program's version; default "unknown"
	LogLevel     slog.Level // default INFO
	LogFormat    string     // auto, tint or json; default auto
	SessionDebug string     // the value of SESSION_DEBUG; default off
	Stderr       io.Writer  // default os.Stderr

	Lookup func(string) (string, bool) // the environment; default os.LookupEnv
}

// Telemetry is the running telemetry of one process.
type Telemetry struct {
	logger        *slog.Logger
	sessionLogger *slog.Logger
	registry      *prometheus.Registry
	handler       http.Handler
	tracer        trace.TracerProvider
	tracing       bool

	stops    []func(context.Context) error // one per export pipeline
	abandon  context.CancelFunc            // cancels the exports in flight
	stopOnce sync.Once
	stopErr  error
}

// Start turns telemetry on. It refuses settings it does not understand; an
// endpoint that does not answer is not an error, but logged and counted later.
func Start(ctx context.Context, cfg Config) (*Telemetry, error) {
	env := environ(cfg.Lookup)
	stderr := &lockedWriter{w: cmp.Or[io.Writer](cfg.Stderr, os.Stderr)}
	debug, err := parseSessionDebug(cfg.SessionDebug)
	if err != nil {
		return nil, err
	}
	format, err := newFormat(cfg.LogFormat, stderr, env)
	if err != nil {
		return nil, err
	}

	registry := newRegistry(cfg.Version)
	m := newMetrics(registry)
	t := &Telemetry{
		logger:        slog.New(newHandler(format, cfg.LogLevel, m.logRecords)),
		sessionLogger: slog.New(debug.handler(format, cfg.LogLevel, m.logRecords)).With("subsystem", "session"),
		registry:      registry,
		tracer:        noop.NewTracerProvider(),
	}
	t.handler = newMetricsHandler(registry, t.logger)

	errs := newReporter(t.logger, m.exportErrors)
	otel.SetErrorHandler(errs)
	if strings.EqualFold(env.get("OTEL_SDK_DISABLED"), "true") { // the SDK itself does not look
		return t, nil
	}
	if err := t.startExports(ctx, cfg.Version, env, stderr, errs); err != nil {
		return nil, errors.Join(err, t.Shutdown(ctx))
	}
	return t, nil
}

// startExports builds the pipelines that the environment asks for: without one
// there is no SDK, no goroutine and no cost.
func (t *Telemetry) startExports(ctx context.Context, version string, env environ, stderr io.Writer, errs *reporter) error {
	traces, metrics := tracesWanted(env), metricsWanted(env)
	if !traces && !metrics {
		return nil
	}
	life, abandon := context.WithCancel(context.Background()) // not ctx: exports outlive Start
	t.abandon = abandon
	res := newResource(ctx, version, errs)
	if traces {
		exporter, err := newSpanExporter(ctx, env, stderr)
		if err != nil {
			return err
		}
		provider := newTracerProvider(spanExporter{exporter, guard{signalTraces, life, errs}}, res)
		t.tracer, t.tracing = provider, true
		t.stops = append(t.stops, provider.Shutdown)
	}
	if metrics {
		exporter, err := newMetricExporter(ctx, env, stderr)
		if err != nil {
			return err
		}
		provider := newMeterProvider(metricExporter{exporter, guard{signalMetrics, life, errs}}, res, t.registry)
		t.stops = append(t.stops, provider.Shutdown)
	}
	return nil
}

// Logger returns the logger of everything but the session code.
func (t *Telemetry) Logger() *slog.Logger { return t.logger }

// SessionLogger returns the logger of the session code; SESSION_DEBUG sets its level.
func (t *Telemetry) SessionLogger() *slog.Logger { return t.sessionLogger }

// Registry returns where metrics are registered. It is not the global one.
func (t *Telemetry) Registry() *prometheus.Registry { return t.registry }

// Handler serves /metrics.
func (t *Telemetry) Handler() http.Handler { return t.handler }

// TracerProvider returns the source of tracers; it does nothing when tracing is off.
func (t *Telemetry) TracerProvider() trace.TracerProvider { return t.tracer }

// TracingEnabled reports whether spans are exported.
func (t *Telemetry) TracingEnabled() bool { return t.tracing }

// Propagator carries W3C trace context and baggage, with tracing off as well:
// a hub without traces does not cut the traces of its neighbours.
func (t *Telemetry) Propagator() propagation.TextMapPropagator {
	return propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{})
}

// Shutdown exports what is left and stops. It takes as long as ctx allows, and
// 3 s at most, whatever the exporters do. It returns an error if it had to give
// up; exports that failed are no error, they have been logged and counted.
// Further calls return what the first one did.
func (t *Telemetry) Shutdown(ctx context.Context) error {
	t.stopOnce.Do(func() { t.stopErr = t.shutdown(ctx) })
	return t.stopErr
}

func (t *Telemetry) shutdown(ctx context.Context) error {
	if t.abandon == nil {
		return nil
	}
	defer t.abandon()
	ctx, cancel := context.WithTimeout(ctx, shutdownBudget-abandonGrace)
	defer cancel()

	stopped := make(chan error, 1)
	// The SDK forgets an export in flight when its context ends, unstopped and
	// uncounted. So it gets a context without end, and the export is cancelled.
	go func() { stopped <- t.stopAll(context.WithoutCancel(ctx)) }()
	select {
	case err := <-stopped:
		return err
	case <-ctx.Done():
	}
	t.abandon()
	select {
	case <-stopped: //nolint:errcheck // given up already
	case <-time.After(abandonGrace): // an exporter that heeds no context
	}
	return fmt.Errorf("telemetry: flush not finished: %w", ctx.Err())
}

// stopAll stops the pipelines at once, so that none waits for another's endpoint.
func (t *Telemetry) stopAll(ctx context.Context) error {
	var g errgroup.Group
	for _, stop := range t.stops {
		g.Go(func() error {
			err := stop(ctx)
			if reported(err) {
				return nil
			}
			return err
		})
	}
	return g.Wait()
}

// environ looks up environment variables; one that is empty counts as unset,
// as the OpenTelemetry specification wants it.
type environ func(string) (string, bool)

func (e environ) get(name string) string {
	if e == nil {
		e = os.LookupEnv
	}
	value, _ := e(name)
	return value
}

// lockedWriter lets the log and the console exporters share stderr.
type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (w *lockedWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.w.Write(p)
}

func (w *lockedWriter) isTerminal() bool {
	f, ok := w.w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
