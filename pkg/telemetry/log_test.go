package telemetry

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/slogtest"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

func TestParseLevelKnowsSixNamesInAnyCase(t *testing.T) {
	for name, want := range map[string]slog.Level{
		"trace": -8, "debug": -4, "info": 0, "notice": 2, "warn": 4, "error": 8,
		"TRACE": levelTrace, "Notice": 2,
	} {
		if got, err := ParseLevel(name); got != want || err != nil {
			t.Errorf("ParseLevel(%q) = %v, %v; want %v", name, got, err, want)
		}
	}
	for _, name := range []string{"", "warning", "info+1", " info", "3"} {
		if got, err := ParseLevel(name); err == nil {
			t.Errorf("ParseLevel(%q) = %v", name, got)
		}
	}
}

// logAll logs one record per level, named for it.
func logAll(l *slog.Logger, attrs ...any) {
	for _, level := range levels {
		l.Log(context.Background(), level.level, level.name, attrs...)
	}
}

func TestJSONNamesTheLevelsAndTheMillisecond(t *testing.T) {
	tel, stderr := start(t, Config{LogFormat: "json", LogLevel: levelTrace})
	logAll(tel.Logger())
	rfc3339 := regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}(Z|[+-]\d\d:\d\d)$`)
	var names []string
	for _, r := range stderr.records(t) {
		names = append(names, r["level"].(string))
		if at := r["time"].(string); !rfc3339.MatchString(at) {
			t.Errorf("time is %q", at)
		}
	}
	if want := []string{"TRACE", "DEBUG", "INFO", "NOTICE", "WARN", "ERROR"}; !slices.Equal(names, want) {
		t.Errorf("levels are %v, want %v", names, want)
	}
}

func TestJSONLeavesOtherAttributesAlone(t *testing.T) {
	tel, stderr := start(t, Config{})
	tel.Logger().Info("set", slog.Group("log", slog.Any("level", levelTrace), slog.String("time", "now")))
	r := stderr.records(t)[0]
	if got := r["log"].(map[string]any); got["level"] != "DEBUG-4" || got["time"] != "now" {
		t.Errorf("record is %v", r)
	}
}

func TestTintHasNoColourWithoutATerminal(t *testing.T) {
	tel, stderr := start(t, Config{LogFormat: "tint", LogLevel: levelTrace})
	logAll(tel.Logger(), "k", "v")
	out := stderr.String()
	for _, want := range []string{" TRACE trace k=v\n", " DBG debug k=v\n", " INF info k=v\n",
		" NOTICE notice k=v\n", " WRN warn k=v\n", " ERR error k=v\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in %q", want, out)
		}
	}
}

func TestAutoIsJSONWithoutATerminal(t *testing.T) {
	for _, format := range []string{"", "auto"} {
		tel, stderr := start(t, Config{LogFormat: format})
		tel.Logger().Info("hello")
		if got := stderr.records(t); len(got) != 1 || got[0]["msg"] != "hello" {
			t.Errorf("format %q: %s", format, stderr)
		}
	}
}

func TestRecordsBelowTheLevelAreNeitherWrittenNorCounted(t *testing.T) {
	tel, stderr := start(t, Config{LogLevel: slog.LevelWarn})
	logAll(tel.Logger())
	logAll(tel.LoggerFor("session"))
	if got := stderr.records(t); len(got) != 4 {
		t.Errorf("log: %s", stderr)
	}
	wantMetric(t, tel, `mcphub_log_records_total{level="trace"} 0`)
	wantMetric(t, tel, `mcphub_log_records_total{level="notice"} 0`)
	wantMetric(t, tel, `mcphub_log_records_total{level="warn"} 2`)
	wantMetric(t, tel, `mcphub_log_records_total{level="error"} 2`)
}

func TestLevelsBetweenTheNamesAreCountedWithTheLower(t *testing.T) {
	tel, _ := start(t, Config{LogLevel: -20})
	for _, l := range []slog.Level{-20, -7, 1, 3, 12} {
		tel.Logger().Log(t.Context(), l, "odd")
	}
	wantMetric(t, tel, `mcphub_log_records_total{level="trace"} 2`)
	wantMetric(t, tel, `mcphub_log_records_total{level="info"} 1`)
	wantMetric(t, tel, `mcphub_log_records_total{level="notice"} 1`)
	wantMetric(t, tel, `mcphub_log_records_total{level="error"} 1`)
}

func TestHandlerPassesTheTestsOfSlog(t *testing.T) {
	var stderr bytes.Buffer
	slogtest.Run(t,
		func(t *testing.T) slog.Handler {
			stderr.Reset()
			tel, _ := start(t, Config{Stderr: &stderr})
			return tel.Logger().Handler()
		},
		func(t *testing.T) (r map[string]any) {
			if err := json.Unmarshal(stderr.Bytes(), &r); err != nil {
				t.Fatal(err)
			}
			return r
		})
}

func TestRecordsInASpanHaveItsIDsAtTheTopLevel(t *testing.T) {
	tel, stderr := start(t, Config{})
	ctx, s := sdktrace.NewTracerProvider().Tracer("test").Start(t.Context(), "tools/call")
	defer s.End()

	base := tel.Logger()
	for name, l := range map[string]*slog.Logger{
		"plain":       base,
		"attrs":       base.With("a", 1),
		"group":       base.WithGroup("g"),
		"attrs group": base.With("a", 1).WithGroup("g").With("b", 2).WithGroup("h").With("c", 3),
	} {
		l.InfoContext(ctx, name, "k", "v")
		l.Info(name, "k", "v")
	}
	records := stderr.records(t)
	if len(records) != 8 {
		t.Fatalf("log: %s", stderr)
	}
	for i := 0; i < len(records); i += 2 {
		traced, plain := records[i], records[i+1]
		if traced["trace_id"] != s.SpanContext().TraceID().String() || traced["span_id"] != s.SpanContext().SpanID().String() {
			t.Errorf("record is %v, want %v", traced, s.SpanContext())
		}
		for _, key := range []string{"time", "trace_id", "span_id"} {
			delete(traced, key)
		}
		delete(plain, "time")
		if !maps.EqualFunc(traced, plain, equalJSON) {
			t.Errorf("in a span %v, outside %v", traced, plain)
		}
	}
}

func equalJSON(a, b any) bool {
	x, _ := json.Marshal(a)
	y, _ := json.Marshal(b)
	return bytes.Equal(x, y)
}

func TestLoggersFromOneGroupDoNotMix(t *testing.T) {
	tel, stderr := start(t, Config{})
	ctx := trace.ContextWithSpanContext(t.Context(), trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID{1}, SpanID: trace.SpanID{1}}))
	parent := tel.Logger().WithGroup("g").With("p", 0).With("q", 0) // three: append leaves room for a fourth
	left, right := parent.With("left", 1), parent.With("right", 2)
	left.InfoContext(ctx, "left")
	right.InfoContext(ctx, "right")
	for i, want := range []map[string]any{{"p": 0, "q": 0, "left": 1}, {"p": 0, "q": 0, "right": 2}} {
		if got := stderr.records(t)[i]["g"]; !equalJSON(got, want) {
			t.Errorf("group is %v, want %v", got, want)
		}
	}
}

func TestDisabledLevelsAllocateNothing(t *testing.T) {
	tel, _ := start(t, Config{})
	for name, l := range map[string]*slog.Logger{"logger": tel.Logger(), "session": tel.LoggerFor("session")} {
		allocs := testing.AllocsPerRun(100, func() {
			if l.Enabled(t.Context(), slog.LevelDebug) {
				t.Error("DEBUG is on")
			}
			l.LogAttrs(t.Context(), slog.LevelDebug, "touched", slog.String("session", "abc"))
		})
		if allocs > 0 {
			t.Errorf("%s: %v allocations", name, allocs)
		}
	}
}

func BenchmarkSessionLoggerDisabled(b *testing.B) {
	tel, err := Start(b.Context(), Config{Stderr: new(buffer)})
	if err != nil {
		b.Fatal(err)
	}
	l, ctx := tel.LoggerFor("session"), b.Context()
	b.ReportAllocs()
	for b.Loop() {
		if l.Enabled(ctx, slog.LevelDebug) {
			b.Fatal("DEBUG is on")
		}
	}
}

func BenchmarkLoggerInSpan(b *testing.B) {
	tel, err := Start(b.Context(), Config{Stderr: discard{}})
	if err != nil {
		b.Fatal(err)
	}
	ctx := trace.ContextWithSpanContext(b.Context(), trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID{1}, SpanID: trace.SpanID{1}}))
	b.ReportAllocs()
	for b.Loop() {
		tel.Logger().LogAttrs(ctx, slog.LevelInfo, "called", slog.String("session", "abc"))
	}
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
