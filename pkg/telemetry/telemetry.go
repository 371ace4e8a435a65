// Package telemetry starts logs, metrics and traces.
//
//	Start -> logs to stderr, /metrics, OTLP if the environment requests it -> Shutdown
//
// Only the main package imports it. Other packages get a [slog.Logger], a
// [prometheus.Registerer] and a [trace.TracerProvider] as parameters.
//
// A [Telemetry] owns the loggers and their levels, the registry, and the SDK pipelines that
// export traces, metrics and log records. It lasts from Start to Shutdown, normally as long
// as the process. Without export there are no goroutines, except for one that writes to stderr while
// there is something to write, and the function of a timer: at the end of a temporary log level, and once per minute if
// log records are suppressed. Each pipeline has the goroutines of the SDK; Shutdown stops all of them.
//
// Start sets two global variables, the error handler and the logger of OpenTelemetry: the
// SDK reports errors in no other way, and the default ones print to stderr directly. They
// belong to the Telemetry that was started last. Failed exports are an exception: each
// Telemetry reports its own.
package telemetry

import (
	"bytes"
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
)

const (
	shutdownBudget = 3 * time.Second
	// cancelGrace is the part of shutdownBudget after the exports in progress were
	// cancelled. In that time they are counted as failed.
	cancelGrace = 200 * time.Millisecond
	// flushTime is the time at the end for records that wait for a slow reader of stderr.
	flushTime = time.Second
)

// Config configures the logs. The OTEL_* environment variables configure the exports. The
// exporters read their variables from the process environment, not through Lookup.
type Config struct {
	Version  string     // the program's version; default "unknown"
	LogLevel slog.Level // of subsystems without an own level; default INFO
	// LogLevels are the own levels of subsystems, by name.
	LogLevels    map[string]string
	LogFormat    string    // auto, tint or json; default auto
	SessionDebug string    // the value of SESSION_DEBUG; default off
	Stderr       io.Writer // default os.Stderr

	Lookup    func(string) (string, bool)  // the environment; default os.LookupEnv
	SessionOf func(context.Context) string // public id of the session of a context, "" for none; optional
}

// Telemetry is the running telemetry of one process.
type Telemetry struct {
	loggers        map[string]*slog.Logger // by subsystem, "" for none
	stderr         *logWriter
	levels         *Levels
	limit          *limiter
	registry       *prometheus.Registry
	metrics        metrics
	handler        http.Handler
	tracerProvider trace.TracerProvider
	tracing        bool
	bridge         slog.Handler // exports log records; nil: they are not exported
	propagator     propagation.TextMapPropagator

	queues        []*queue
	stops         []func(context.Context) error // one per export pipeline
	cancelExports context.CancelFunc            // cancels the exports in progress; nil: there is no pipeline
	stopOnce      sync.Once
	stopErr       error
}

// Start starts telemetry. Invalid settings are an error. An endpoint that does not answer is
// not: failed exports are logged and counted later.
func Start(ctx context.Context, cfg Config) (*Telemetry, error) {
	env := environ(cfg.Lookup)
	debug, err := parseSessionDebug(cfg.SessionDebug)
	if err != nil {
		return nil, err
	}
	t := &Telemetry{registry: newRegistry(cfg.Version), tracerProvider: noop.NewTracerProvider()}
	t.metrics = newMetrics(t.registry)
	registerConfig(t.registry)
	t.stderr = newLogWriter(cmp.Or[io.Writer](cfg.Stderr, os.Stderr), t.metrics.logDropped)
	format, err := newFormat(cfg.LogFormat, t.stderr, t.stderr.isTerminal(), env)
	if err != nil {
		return nil, err
	}
	t.stderr.note = t.dropNote(cfg, env)
	if t.levels, err = newLevels(cfg.LogLevel, cfg.LogLevels, debug); err != nil {
		return nil, err
	}
	if t.propagator, err = newPropagator(env); err != nil {
		return nil, err
	}

	var out slog.Handler = newContextHandler(format, cfg.SessionOf, true)
	t.limit = newLimiter(out, t.metrics)
	// Errors of exports are logged to stderr only: their export would probably fail too.
	errs := newReporter(slog.New(t.filter(out, "telemetry", cfg, nil)), t.metrics.exportErrors)
	otel.SetErrorHandler(errs)
	otel.SetLogger(newLibraryLogger(t.filter(out, "telemetry", cfg, nil)))
	if !strings.EqualFold(env.get("OTEL_SDK_DISABLED"), "true") { // the SDK itself ignores this variable
		if err := t.startExports(ctx, cfg, env, newSampler(env, debug.ids, cfg.SessionOf), t.stderr, errs); err != nil {
			return nil, errors.Join(err, t.Shutdown(ctx))
		}
	}
	if t.bridge != nil { // the bridge itself adds the ids of the span
		out = tee{out, newContextHandler(t.bridge, cfg.SessionOf, false)}
		t.limit.out = out
	}
	t.makeLoggers(out, cfg, debug)
	t.handler = newMetricsHandler(t.registry, t.loggers["telemetry"])
	return t, nil
}

// dropNote returns the function that makes the record about dropped records. It has a handler of its own, because the
// handler of the log writes to what has just dropped them.
func (t *Telemetry) dropNote(cfg Config, env environ) func(dropped int) []byte {
	var b bytes.Buffer
	format, _ := newFormat(cfg.LogFormat, &b, t.stderr.isTerminal(), env) // Start has checked the format
	return func(dropped int) []byte {
		b.Reset()
		r := slog.NewRecord(time.Now(), slog.LevelWarn, "log records were dropped, because nobody read the log", 0)
		r.AddAttrs(slog.String(subsystemKey, "telemetry"), slog.Int("dropped", dropped))
		t.metrics.logRecords[levelIndex(r.Level)].Inc()
		_ = format.Handle(context.Background(), r) // a Buffer does not fail
		return b.Bytes()
	}
}

// makeLoggers creates the logger of each subsystem. They write to out.
func (t *Telemetry) makeLoggers(out slog.Handler, cfg Config, debug sessionDebug) {
	t.loggers = map[string]*slog.Logger{"": slog.New(t.filter(out, "", cfg, nil))}
	for _, name := range subsystems {
		var chosen prefixes
		if name == "session" {
			chosen = debug.ids
		}
		t.loggers[name] = slog.New(t.filter(out, name, cfg, chosen))
	}
	always := *t.filter(out, "telemetry", cfg, nil)
	always.level = levelTrace
	t.levels.log = slog.New(&always)
}

// filter returns the filter of one subsystem, "" for none. It passes records to out.
func (t *Telemetry) filter(out slog.Handler, subsystem string, cfg Config, chosen prefixes) *filter {
	if subsystem != "" {
		out = out.WithAttrs([]slog.Attr{slog.String(subsystemKey, subsystem)})
	}
	return &filter{
		subsystem: subsystem, level: t.levels.of(subsystem), chosen: chosen, sessionOf: cfg.SessionOf,
		limit: t.limit, records: t.metrics.logRecords, next: out,
	}
}

// startExports creates the pipelines that the environment requests. Without one there is no
// SDK, no goroutine and no cost.
func (t *Telemetry) startExports(
	ctx context.Context, cfg Config, env environ, sampler sdktrace.Sampler, stderr io.Writer, errs *reporter,
) error {
	traces, metrics, logs := tracesWanted(env), metricsWanted(env), logsWanted(env)
	if !traces && !metrics && !logs {
		return nil
	}
	if err := checkExporterVariables(env); err != nil {
		return err
	}
	lifetime, cancel := context.WithCancel(context.Background()) // not ctx: exports outlive Start
	t.cancelExports = cancel
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
		provider := newTracerProvider(exporter, guard{signalTraces, lifetime, errs}, q, t.metrics.spansLive, res, sampler)
		t.tracerProvider, t.tracing = provider, true
		t.stops = append(t.stops, provider.Shutdown)
	}
	if metrics {
		exporter, err := newMetricExporter(ctx, env, stderr)
		if err != nil {
			return err
		}
		provider := newMeterProvider(metricExporter{exporter, guard{signalMetrics, lifetime, errs}}, res, t.registry)
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
		provider := newLoggerProvider(exporter, guard{signalLogs, lifetime, errs}, q, res)
		t.bridge = newBridge(provider)
		t.stops = append(t.stops, provider.Shutdown)
	}
	return nil
}

// queue creates the queue of a signal.
func (t *Telemetry) queue(signal, variable string, env environ) (*queue, error) {
	q, err := newQueue(signal, variable, env, t.metrics.dropped)
	if err == nil {
		t.queues = append(t.queues, q)
	}
	return q, err
}

// Logger returns the logger of records without subsystem.
func (t *Telemetry) Logger() *slog.Logger { return t.loggers[""] }

// LoggerFor returns the logger of one of the [Subsystems]; it panics for any other name. Its
// level is set by [Telemetry.Levels], and for the subsystem session by SESSION_DEBUG too.
func (t *Telemetry) LoggerFor(subsystem string) *slog.Logger {
	l := t.loggers[subsystem]
	if l == nil || subsystem == "" {
		panic(fmt.Sprintf("telemetry: no subsystem is called %q", subsystem))
	}
	return l
}

// Levels returns the levels of the loggers.
func (t *Telemetry) Levels() *Levels { return t.levels }

// Registry returns the registry of the metrics, which is not the global one.
func (t *Telemetry) Registry() *prometheus.Registry { return t.registry }

// Handler returns the handler of /metrics.
func (t *Telemetry) Handler() http.Handler { return t.handler }

// TracerProvider returns the tracer provider; it is a no-op if tracing is off.
func (t *Telemetry) TracerProvider() trace.TracerProvider { return t.tracerProvider }

// TracingEnabled reports whether spans are exported.
func (t *Telemetry) TracingEnabled() bool { return t.tracing }

// Propagator returns the propagator for W3C trace context and baggage, or for those of
// OTEL_PROPAGATORS. It also works if tracing is off, so that a hub without traces does not
// interrupt the traces of its clients and servers.
func (t *Telemetry) Propagator() propagation.TextMapPropagator { return t.propagator }

// Shutdown exports the remaining data and stops. It takes at most 3 s, less if ctx ends
// sooner, regardless of the exporters. It returns an error if it could not finish in time.
// Failed exports are not an error: they have been logged and counted. Further calls return
// the result of the first one.
func (t *Telemetry) Shutdown(ctx context.Context) error {
	t.stopOnce.Do(func() { t.stopErr = t.shutdown(ctx) })
	return t.stopErr
}

func (t *Telemetry) shutdown(ctx context.Context) error {
	t.levels.close()
	t.limit.close()
	defer t.flushLog(ctx)
	if t.cancelExports == nil {
		return nil
	}
	defer t.cancelExports()
	ctx, cancel := context.WithTimeout(ctx, shutdownBudget-cancelGrace)
	defer cancel()

	stopped := make(chan error, 1)
	// If the context of its Shutdown ends, the SDK returns without stopping the export in
	// progress, and nobody counts its failure. So the SDK gets a context that does not end,
	// and the export is cancelled instead.
	go func() { stopped <- t.stopAll(context.WithoutCancel(ctx)) }()
	select {
	case err := <-stopped:
		return err
	case <-ctx.Done():
	}
	t.cancelExports()
	select {
	case <-stopped: //nolint:errcheck // the error below replaces it
	case <-time.After(cancelGrace): // an exporter ignores its context
	}
	for _, q := range t.queues {
		q.dropAll()
	}
	return fmt.Errorf("telemetry: flush not finished: %w", ctx.Err())
}

// flushLog waits for records that are not written yet, if the log is read at all.
func (t *Telemetry) flushLog(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, flushTime)
	defer cancel()
	t.stderr.flush(ctx)
}

// stopAll stops the pipelines concurrently, so that none waits for the endpoint of another.
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

// environ looks up environment variables. An empty one counts as unset, as the
// OpenTelemetry specification requires.
type environ func(string) (string, bool)

func (e environ) get(name string) string {
	if e == nil {
		e = os.LookupEnv
	}
	value, _ := e(name)
	return value
}
