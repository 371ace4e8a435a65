package telemetry

import (
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
)

func TestLogRecordsAreExportedOnlyIfTheirExporterIsSet(t *testing.T) {
	for value, want := range map[string]int{"": 0, "none": 0, "otlp": 1} {
		endpoint, posts := collector(t)
		t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
		t.Setenv("OTEL_LOGS_EXPORTER", value)
		tel, stderr := start(t, Config{})
		tel.LoggerFor("session").Info("hello")
		if _, err := shutdown(tel, time.Minute); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		if got := posts("/v1/logs"); got != want {
			t.Errorf("OTEL_LOGS_EXPORTER=%q: %d posts, want %d", value, got, want)
		}
		if count(t, stderr, "hello") != 1 {
			t.Errorf("OTEL_LOGS_EXPORTER=%q: stderr: %s", value, stderr)
		}
		wantMetric(t, tel, `mcphub_telemetry_export_errors_total{signal="logs"} 0`)
	}
}

func TestLogsCanBeExportedAlone(t *testing.T) {
	endpoint, posts := collector(t)
	t.Setenv("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", endpoint+"/own/path")
	t.Setenv("OTEL_LOGS_EXPORTER", "otlp")
	tel, _ := start(t, Config{})
	if tel.TracingEnabled() {
		t.Error("tracing is on")
	}
	tel.Logger().Info("hello")
	_, _ = shutdown(tel, time.Minute)
	if posts("/own/path") != 1 || posts("/v1/metrics") != 0 {
		t.Error("the record did not arrive, or not alone")
	}
}

// exported returns what the console exporter has written between the log records.
func exported(t *testing.T, stderr *buffer) (all []map[string]any) {
	t.Helper()
	for _, r := range stderr.records(t) {
		if r["Severity"] != nil {
			all = append(all, r)
		}
	}
	return all
}

func TestExportedRecordsAreThoseOfTheLogWithSpanAndSession(t *testing.T) {
	t.Setenv("OTEL_LOGS_EXPORTER", "console")
	tel, stderr := start(t, Config{SessionOf: sessionOf, LogLevels: map[string]string{"session": "trace"}})
	sc := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, TraceFlags: trace.FlagsSampled})
	ctx := trace.ContextWithSpanContext(context.WithValue(t.Context(), testSession{}, "abc"), sc)
	l := tel.LoggerFor("session")
	l.Log(ctx, levelTrace, "in a span", "k", "v")
	tel.LoggerFor("gateway").DebugContext(ctx, "off")
	for range maxRepeats + 3 {
		tel.Logger().Warn("again and again")
	}
	if _, err := shutdown(tel, time.Minute); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	records := exported(t, stderr)
	if len(records) != 1+maxRepeats+1 { // with a summary
		t.Fatalf("%d records are exported: %s", len(records), stderr)
	}
	r := records[0]
	attrs, err := json.Marshal(r["Attributes"])
	if err != nil {
		t.Fatal(err)
	}
	if r["SeverityText"] != "TRACE" && r["Severity"] != 1.0 {
		t.Errorf("severity: %v", r)
	}
	if r["TraceID"] != sc.TraceID().String() || r["SpanID"] != sc.SpanID().String() || strings.Contains(string(attrs), "trace_id") {
		t.Errorf("span: %v", r)
	}
	for _, want := range []string{`"subsystem"`, `"session"`, `"abc"`, `"k"`} {
		if !strings.Contains(string(attrs), want) {
			t.Errorf("attributes lack %s: %s", want, attrs)
		}
	}
}

func TestErrorsOfExportsAreNotExported(t *testing.T) {
	t.Setenv("OTEL_LOGS_EXPORTER", "otlp")
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", deadEndpoint(t))
	t.Setenv("OTEL_TRACES_EXPORTER", "none")
	t.Setenv("OTEL_METRICS_EXPORTER", "none")
	t.Setenv("OTEL_BLRP_SCHEDULE_DELAY", "1")
	tel, stderr := start(t, Config{})
	tel.Logger().Info("hello")
	hubtest.Eventually(t, "the failure is logged", func() bool { return count(t, stderr, "telemetry failed") == 1 })
	if n := tel.queues[0].waiting.Load(); n != 0 {
		t.Errorf("%d records wait for the next export", n)
	}
	wantMetric(t, tel, `mcphub_telemetry_dropped_total{reason="export_failed",signal="logs"} 1`)
}

func TestDisabledLevelsWithAnExporterAllocateNothing(t *testing.T) {
	t.Setenv("OTEL_LOGS_EXPORTER", "console")
	tel, _ := start(t, Config{})
	l := tel.LoggerFor("upstream").With("upstream", "a")
	allocs := testing.AllocsPerRun(100, func() {
		l.LogAttrs(t.Context(), slog.LevelDebug, "touched", slog.String("session", "abc"))
	})
	if allocs > 0 {
		t.Errorf("%v allocations", allocs)
	}
}
