package telemetry

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	prombridge "go.opentelemetry.io/contrib/bridges/prometheus"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/stdout/stdoutmetric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
)

// The values of the label signal.
const (
	signalTraces  = "traces"
	signalMetrics = "metrics"
	signalLogs    = "logs"
	signalOther   = "other"
)

type metrics struct {
	logRecords   []prometheus.Counter          // by index in levels
	logDropped   map[string]prometheus.Counter // by reason
	suppressed   *prometheus.CounterVec        // log records, by subsystem
	exportErrors *prometheus.CounterVec        // by signal
	dropped      *prometheus.CounterVec        // spans and log records, by signal and reason
	spansLive    prometheus.Gauge
}

func newMetrics(registry *prometheus.Registry) metrics {
	records := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "mcphub_log_records_total",
		Help: "Log records written, by level.",
	}, []string{"level"})
	errs := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "mcphub_telemetry_export_errors_total",
		Help: "Failed exports and other errors of the telemetry itself, by signal.",
	}, []string{"signal"})
	suppressed := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "mcphub_log_records_suppressed_total",
		Help: "Log records not written because there were too many of their kind, by subsystem.",
	}, []string{"subsystem"})
	dropped := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "mcphub_telemetry_dropped_total",
		Help: "Spans and log records that were to be exported and were not, by signal and reason.",
	}, []string{"signal", "reason"})
	live := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "mcphub_spans_live",
		Help: "Spans that were begun and have not ended. " +
			"If it grows while mcphub_requests_in_flight does not, some are never ended.",
	})
	logDropped := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "mcphub_log_records_dropped_total",
		Help: "Log records that did not reach stderr, by reason.",
	}, []string{"reason"})
	registry.MustRegister(records, logDropped, suppressed, errs, dropped, live)

	m := metrics{suppressed: suppressed, exportErrors: errs, dropped: dropped, spansLive: live,
		logDropped: map[string]prometheus.Counter{}}
	for _, reason := range []string{dropStalled, dropFailed} {
		m.logDropped[reason] = logDropped.WithLabelValues(reason)
	}
	for _, l := range levels {
		m.logRecords = append(m.logRecords, records.WithLabelValues(l.name))
	}
	// Create every series now: an alert cannot evaluate a missing one.
	for _, signal := range []string{signalTraces, signalMetrics, signalLogs, signalOther} {
		errs.WithLabelValues(signal)
	}
	for _, signal := range []string{signalTraces, signalLogs} { // metrics are not dropped: the next export contains them
		for _, reason := range reasons {
			dropped.WithLabelValues(signal, reason)
		}
	}
	for _, name := range append([]string{""}, subsystems[:]...) {
		suppressed.WithLabelValues(labelOf(name))
	}
	return m
}

// registerConfig registers the metrics of the configuration, which has just been read. A hub
// that cannot read it does not start, and does not read it again later, so the value is
// always 1. The names follow the convention of other programs, such as Prometheus.
func registerConfig(registry *prometheus.Registry) {
	successful := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "mcphub_config_last_reload_successful",
		Help: "Whether the configuration could be read; always 1: it is read at the start only.",
	})
	last := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "mcphub_config_last_reload_success_timestamp_seconds",
		Help: "When the configuration was read, Unix time.",
	})
	successful.Set(1)
	last.SetToCurrentTime()
	registry.MustRegister(successful, last)
}

// newRegistry returns a registry with the metrics of the Go runtime and of the process.
func newRegistry(version string) *prometheus.Registry {
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "mcphub_build_info",
		Help: "What is running; the value is 1.",
		ConstLabels: prometheus.Labels{
			"version":         cmp.Or(version, "unknown"),
			"revision":        revision(),
			"goversion":       runtime.Version(),
			"mcp_sdk_version": sdkVersion(),
		},
	})
	build.Set(1)
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		collectors.NewGoCollector(collectors.WithGoCollectorRuntimeMetrics(
			collectors.MetricsScheduler, collectors.MetricsGC)),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		build,
	)
	return registry
}

// revision returns the commit from which this program was built, "unknown" if the build
// does not contain it.
func revision() string {
	rev, dirty := "unknown", ""
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			switch {
			case s.Key == "vcs.revision":
				rev = s.Value
			case s.Key == "vcs.modified" && s.Value == "true":
				dirty = "+dirty"
			}
		}
	}
	return rev + dirty
}

// sdkVersion returns the version of mcp-go in this program, "unknown" if the build does not
// contain it.
func sdkVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, dep := range info.Deps {
			if dep.Path == "github.com/mark3labs/mcp-go" {
				if dep.Replace != nil {
					return cmp.Or(dep.Replace.Version, "replaced")
				}
				return dep.Version
			}
		}
	}
	return "unknown"
}

// newMetricsHandler returns the handler of /metrics.
func newMetricsHandler(registry *prometheus.Registry, logger *slog.Logger) http.Handler {
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		ErrorLog:            slog.NewLogLogger(logger.Handler(), slog.LevelWarn),
		Registry:            registry,
		MaxRequestsInFlight: 4,
		CoalesceGather:      true,
		Timeout:             5 * time.Second,
		EnableOpenMetrics:   true, // the only text format with exemplars
	})
}

// metricsWanted reports whether the environment requests that metrics are pushed. The value
// "prometheus" does not: it means to be scraped, which /metrics offers already.
func metricsWanted(env environ) bool {
	switch env.get("OTEL_METRICS_EXPORTER") {
	case "none", "prometheus":
		return false
	case "":
		return env.get("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || env.get("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT") != ""
	}
	return true
}

// newMetricExporter does the same as autoexport, which cannot be used for metrics: its
// readers get their producers from a global variable.
func newMetricExporter(ctx context.Context, env environ, stderr io.Writer) (sdkmetric.Exporter, error) {
	switch kind := env.get("OTEL_METRICS_EXPORTER"); kind {
	case "console":
		return stdoutmetric.New(stdoutmetric.WithWriter(stderr))
	case "", "otlp":
	default:
		return nil, fmt.Errorf("OTEL_METRICS_EXPORTER=%q: want otlp, prometheus, console or none", kind)
	}
	protocol := cmp.Or(
		env.get("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL"),
		env.get("OTEL_EXPORTER_OTLP_PROTOCOL"),
		"http/protobuf")
	switch protocol {
	case "http/protobuf":
		return otlpmetrichttp.New(ctx)
	case "grpc":
		return otlpmetricgrpc.New(ctx)
	}
	return nil, fmt.Errorf("metric exporter (OTEL_EXPORTER_OTLP_PROTOCOL): %q: want http/protobuf or grpc", protocol)
}

// newMeterProvider returns a provider that pushes the metrics of the registry. No instrument
// is created with it, so that each metric has one source.
func newMeterProvider(
	exporter sdkmetric.Exporter, res *resource.Resource, registry *prometheus.Registry,
) *sdkmetric.MeterProvider {
	producer := prombridge.NewMetricProducer(prombridge.WithGatherer(registry))
	reader := sdkmetric.NewPeriodicReader(exporter, sdkmetric.WithProducer(producer))
	return sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader), sdkmetric.WithResource(res))
}
