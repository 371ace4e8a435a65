// Package telemetry turns on logs, metrics and traces.
//
//	Start -> logs to stderr, /metrics, OTLP if the environment asks for it -> Shutdown
//
// Nobody but the program's main imports it: everything else is handed a
// [slog.Logger], a [prometheus.Registerer] and a [trace.TracerProvider].
//
// The globals that Start sets are the error handler and the logger of
// OpenTelemetry: there is no other way to see what the SDK says, and the default
// ones print past the log. The Telemetry started last gets them, except failed exports,
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
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
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
	Version  string     // the program's version; default "unknown"
	LogLevel slog.Level // of what has no level of its own; default INFO
	// LogLevels are the levels of some subsystems, by name.
	LogLevels    map[string]string
	LogFormat    string    // auto, tint or json; default auto
	SessionDebug string    // the value of SESSION_DEBUG; default off
	Stderr       io.Writer // default os.Stderr

	Lookup    func(string) (string, bool)  // the environment; default os.LookupEnv
	SessionOf func(context.Context) string // public id of the session that a context belongs to, "" for none; default none
}

// Telemetry is the running telemetry of one process.
type Telemetry struct {
	loggers    map[string]*slog.Logger // by subsystem, "" for none
	levels     *Levels
	limit      *limiter
	registry   *prometheus.Registry
	metrics    metrics
	handler    http.Handler
	tracer     trace.TracerProvider
	tracing    bool
	bridge     slog.Handler // exports log records; nil: nothing does
	propagator propagation.TextMapPropagator

	queues   []*queue
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
	t := &Telemetry{registry: newRegistry(cfg.Version), tracer: noop.NewTracerProvider()}
	if t.levels, err = newLevels(cfg.LogLevel, cfg.LogLevels, debug); err != nil {
		return nil, err
	}
	if t.propagator, err = newPropagator(env); err != nil {
		return nil, err
	}
	t.metrics = newMetrics(t.registry)
	registerConfig(t.registry)

	var out slog.Handler = newStamp(format, cfg.SessionOf, true)
	t.limit = newLimiter(out, t.metrics)
	// What goes wrong with exports goes to stderr alone: exported as well, it
	// would be the next to go wrong.
	errs := newReporter(slog.New(t.gate(out, "telemetry", cfg, nil)), t.metrics.exportErrors)
	otel.SetErrorHandler(errs)
	otel.SetLogger(newLibraryLogger(t.gate(out, "telemetry", cfg, nil)))
	if !strings.EqualFold(env.get("OTEL_SDK_DISABLED"), "true") { // the SDK itself does not look
		if err := t.startExports(ctx, cfg, env, newSampler(env, debug.ids, cfg.SessionOf), stderr, errs); err != nil {
			return nil, errors.Join(err, t.Shutdown(ctx))
		}
	}
	if t.bridge != nil { // which takes the ids of the span from the context itself
		out = both{out, newStamp(t.bridge, cfg.SessionOf, false)}
		t.limit.out = out
	}
	t.makeLoggers(out, cfg, debug)
	t.handler = newMetricsHandler(t.registry, t.loggers["telemetry"])
	return t, nil
}

// makeLoggers makes a logger for each subsystem, which write to out.
func (t *Telemetry) makeLoggers(out slog.Handler, cfg Config, debug sessionDebug) {
	t.loggers = map[string]*slog.Logger{"": slog.New(t.gate(out, "", cfg, nil))}
	for _, name := range subsystems {
		var chosen prefixes
		if name == "session" {
			chosen = debug.ids
		}
		t.loggers[name] = slog.New(t.gate(out, name, cfg, chosen))
	}
	always := *t.gate(out, "telemetry", cfg, nil)
	always.level = LevelTrace
	t.levels.log = slog.New(&always)
}

// gate returns what stands before out for one subsystem, "" for none.
func (t *Telemetry) gate(out slog.Handler, subsystem string, cfg Config, chosen prefixes) *gate {
	if subsystem != "" {
		out = out.WithAttrs([]slog.Attr{slog.String(subsystemKey, subsystem)})
	}
	return &gate{
		subsystem: subsystem, level: t.levels.of(subsystem), chosen: chosen, sessionOf: cfg.SessionOf,
		limit: t.limit, records: t.metrics.logRecords, next: out,
	}
}

// startExports builds the pipelines that the environment asks for: without one
// there is no SDK, no goroutine and no cost.
func (t *Telemetry) startExports(ctx context.Context, cfg Config, env environ, sampler sdktrace.Sampler, stderr io.Writer, errs *reporter) error {
	traces, metrics, logs := tracesWanted(env), metricsWanted(env), logsWanted(env)
	if !traces && !metrics && !logs {
		return nil
	}
	if err := checkCollector(env); err != nil {
		return err
	}
	life, abandon := context.WithCancel(context.Background()) // not ctx: exports outlive Start
	t.abandon = abandon
	res := newResource(ctx, cfg.Version, errs)
	if traces {
		exporter, err := newSpanExporter(ctx, env, stderr)
		if err != nil {
			return err
		}
		q, err := t.queue(signalTraces, "OTEL_BSP_MAX_QUEUE_SIZE", env)
		if err != nil {
			return errors.Join(err, exporter.Shutdown(ctx))
		}
		provider := newTracerProvider(exporter, guard{signalTraces, life, errs}, q, t.metrics.spansLive, res, sampler)
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
	if logs {
		exporter, err := newLogExporter(ctx, env, stderr)
		if err != nil {
			return err
		}
		q, err := t.queue(signalLogs, "OTEL_BLRP_MAX_QUEUE_SIZE", env)
		if err != nil {
			return errors.Join(err, exporter.Shutdown(ctx))
		}
		provider := newLoggerProvider(exporter, guard{signalLogs, life, errs}, q, res)
		t.bridge = newBridge(provider)
		t.stops = append(t.stops, provider.Shutdown)
	}
	return nil
}

func (t *Telemetry) queue(signal, variable string, env environ) (*queue, error) {
	q, err := newQueue(signal, variable, env, t.metrics.dropped)
	if err == nil {
		t.queues = append(t.queues, q)
	}
	return q, err
}

// Logger returns the logger of what belongs to no subsystem.
func (t *Telemetry) Logger() *slog.Logger { return t.loggers[""] }

// LoggerFor returns the logger of one of [Subsystems]; it panics for any other
// name. [Telemetry.Levels] sets its level, SESSION_DEBUG that of session too.
func (t *Telemetry) LoggerFor(subsystem string) *slog.Logger {
	l := t.loggers[subsystem]
	if l == nil || subsystem == "" {
		panic(fmt.Sprintf("telemetry: no subsystem is called %q", subsystem))
	}
	return l
}

// Levels returns the levels of the loggers.
func (t *Telemetry) Levels() *Levels { return t.levels }

// Registry returns where metrics are registered. It is not the global one.
func (t *Telemetry) Registry() *prometheus.Registry { return t.registry }

// Handler serves /metrics.
func (t *Telemetry) Handler() http.Handler { return t.handler }

// TracerProvider returns the source of tracers; it does nothing when tracing is off.
func (t *Telemetry) TracerProvider() trace.TracerProvider { return t.tracer }

// TracingEnabled reports whether spans are exported.
func (t *Telemetry) TracingEnabled() bool { return t.tracing }

// Propagator carries W3C trace context and baggage, or what OTEL_PROPAGATORS
// says, with tracing off as well: a hub without traces does not cut the traces
// of its neighbours.
func (t *Telemetry) Propagator() propagation.TextMapPropagator { return t.propagator }

// Shutdown exports what is left and stops. It takes as long as ctx allows, and
// 3 s at most, whatever the exporters do. It returns an error if it had to give
// up; exports that failed are no error, they have been logged and counted.
// Further calls return what the first one did.
func (t *Telemetry) Shutdown(ctx context.Context) error {
	t.stopOnce.Do(func() { t.stopErr = t.shutdown(ctx) })
	return t.stopErr
}

func (t *Telemetry) shutdown(ctx context.Context) error {
	t.levels.close()
	t.limit.close()
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
	for _, q := range t.queues {
		q.giveUp()
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
