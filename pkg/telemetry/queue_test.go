package telemetry

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
)

func dropped(signal, reason string, n int) string {
	return fmt.Sprintf(`mcphub_telemetry_dropped_total{reason=%q,signal=%q} %d`, reason, signal, n)
}

// gatedCollector is an OTLP receiver that answers only after open was called.
func gatedCollector(t *testing.T, status int) (endpoint string, open func(), posts *atomic.Int32) {
	endpoint, open, posts, _ = countingCollector(t, status)
	return endpoint, open, posts
}

// countingCollector is a gatedCollector that counts the spans it got.
func countingCollector(t *testing.T, status int) (endpoint string, open func(), posts, spans *atomic.Int32) {
	gate, posts, spans := make(chan struct{}), new(atomic.Int32), new(atomic.Int32)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		posts.Add(1)
		body, _ := io.ReadAll(r.Body)
		<-gate
		spans.Add(int32(strings.Count(string(body), "tools/call")))
		w.WriteHeader(status)
	}))
	opened := false
	open = func() {
		if !opened {
			opened = true
			close(gate)
		}
	}
	t.Cleanup(func() {
		open()
		server.Close()
	})
	return server.URL, open, posts, spans
}

func TestEverySpanIsEitherExportedOrCountedAsDropped(t *testing.T) {
	endpoint, open, _, arrived := countingCollector(t, http.StatusOK)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
	t.Setenv("OTEL_METRICS_EXPORTER", "none")
	t.Setenv("OTEL_BSP_MAX_QUEUE_SIZE", "64")
	tel, _ := start(t, Config{})
	const spans = 5000
	for range spans {
		span(t, tel)
	}
	// 64 fit into the queue, and as many may be with the exporter.
	lost := 0
	hubtest.Eventually(t, "the drops are counted", func() bool {
		_, rest, _ := strings.Cut(scrape(t, tel), `mcphub_telemetry_dropped_total{reason="queue_full",signal="traces"} `)
		_, _ = fmt.Sscan(rest, &lost)
		return lost > 0
	})
	if lost < spans-2*64 || lost > spans-64 {
		t.Errorf("%d of %d are counted as dropped", lost, spans)
	}
	open()
	if _, err := shutdown(tel, time.Minute); err != nil {
		t.Error(err)
	}
	wantMetric(t, tel, dropped("traces", "export_failed", 0))
	wantMetric(t, tel, dropped("traces", "shutdown", 0))
	wantMetric(t, tel, dropped("traces", "queue_full", lost))
	if n := int(arrived.Load()); n+lost != spans {
		t.Errorf("%d spans arrived, %d were dropped; %d were made", n, lost, spans)
	}
}

func TestLogRecordsWithoutRoomAreCountedAsDropped(t *testing.T) {
	endpoint, open, posts := gatedCollector(t, http.StatusOK)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
	t.Setenv("OTEL_TRACES_EXPORTER", "none")
	t.Setenv("OTEL_METRICS_EXPORTER", "none")
	t.Setenv("OTEL_LOGS_EXPORTER", "otlp")
	t.Setenv("OTEL_BLRP_MAX_QUEUE_SIZE", "8")
	t.Setenv("OTEL_BLRP_MAX_EXPORT_BATCH_SIZE", "1")
	tel, stderr := start(t, Config{})
	tel.Logger().Info("first")
	hubtest.Eventually(t, "the first is with the collector", func() bool { return posts.Load() == 1 })
	for range 100 {
		tel.Logger().Info("more")
	}
	wantMetric(t, tel, dropped("logs", "queue_full", 92))
	if n := len(stderr.records(t)); n != 101 {
		t.Errorf("%d records on stderr", n)
	}
	open()
	if _, err := shutdown(tel, time.Minute); err != nil || posts.Load() != 9 {
		t.Errorf("Shutdown: %v; %d posts", err, posts.Load())
	}
}

func TestUnsampledSpansTakeNoPlaceInTheQueue(t *testing.T) {
	t.Setenv("OTEL_TRACES_EXPORTER", "console")
	t.Setenv("OTEL_TRACES_SAMPLER", "always_off")
	t.Setenv("OTEL_BSP_MAX_QUEUE_SIZE", "1")
	tel, _ := start(t, Config{})
	for range 100 {
		span(t, tel)
	}
	wantMetric(t, tel, dropped("traces", "queue_full", 0))
}

func TestRefusingCollectorIsCountedAndDoesNotDelayShutdown(t *testing.T) {
	before := goleak.IgnoreCurrent()
	endpoint, open, _ := gatedCollector(t, http.StatusServiceUnavailable) // exporters try again after this status
	open()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
	t.Setenv("OTEL_LOGS_EXPORTER", "otlp")
	tel, stderr := start(t, Config{})
	span(t, tel)
	tel.Logger().Info("hello")
	took, err := shutdown(tel, time.Hour)
	if took > shutdownBudget+time.Second {
		t.Errorf("Shutdown took %v: %v", took, err)
	}
	for _, signal := range []string{"traces", "metrics", "logs"} {
		wantMetric(t, tel, `mcphub_telemetry_export_errors_total{signal="`+signal+`"} 1`)
	}
	wantMetric(t, tel, dropped("traces", "shutdown", 1))
	wantMetric(t, tel, dropped("logs", "shutdown", 1))
	if !strings.Contains(stderr.String(), "503") && !strings.Contains(stderr.String(), "given up") {
		t.Errorf("log: %s", stderr)
	}
	verifyNoneBut(t, before)
}

// verifyNoneBut fails if goroutines of the SDK are left. Those of the server of the test
// and of idle connections end with the test.
func verifyNoneBut(t *testing.T, before goleak.Option) {
	t.Helper()
	http.DefaultClient.CloseIdleConnections()
	goleak.VerifyNone(t, before,
		goleak.IgnoreAnyFunction("net/http.(*Server).Serve"), goleak.IgnoreAnyFunction("net/http.(*conn).serve"),
		goleak.IgnoreAnyFunction("net/http.(*connReader).backgroundRead"),
		goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"))
}

func TestCollectorsNeverSlowDownTheObservedCode(t *testing.T) {
	slow, _, _ := gatedCollector(t, http.StatusOK)
	refusing, open, _ := gatedCollector(t, http.StatusServiceUnavailable)
	open()
	for name, endpoint := range map[string]string{"dead": deadEndpoint(t), "black hole": blackHole(t), "slow": slow, "refusing": refusing} {
		t.Run(name, func(t *testing.T) {
			before := goleak.IgnoreCurrent()
			t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
			t.Setenv("OTEL_LOGS_EXPORTER", "otlp")
			t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "1")
			t.Setenv("OTEL_BLRP_SCHEDULE_DELAY", "1")
			tel, _ := start(t, Config{Stderr: discard{}})
			begin := time.Now()
			for range 10_000 { // more than the capacity of all queues
				ctx, s := tel.TracerProvider().Tracer("test").Start(t.Context(), "tools/call")
				tel.Logger().InfoContext(ctx, "called")
				s.End()
			}
			if took := time.Since(begin); took > 5*time.Second { // measured: 30 us each; the rest is for a busy machine
				t.Errorf("10,000 spans and records took %v", took)
			}
			if took, _ := shutdown(tel, 300*time.Millisecond); took > 300*time.Millisecond+cancelGrace+time.Second {
				t.Errorf("Shutdown took %v", took)
			}
			verifyNoneBut(t, before)
		})
	}
}

func TestDisabledTracingAllocatesNothingBesidesTheContext(t *testing.T) {
	tel, _ := start(t, Config{})
	tracer := tel.TracerProvider().Tracer("test")
	allocs := testing.AllocsPerRun(100, func() {
		ctx, s := tracer.Start(context.Background(), "tools/call")
		tel.LoggerFor("gateway").DebugContext(ctx, "called")
		s.End()
	})
	if allocs > 1 { // the context with the span of the API
		t.Errorf("%v allocations", allocs)
	}
}
