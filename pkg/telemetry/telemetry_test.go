package telemetry

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
	"go.uber.org/goleak"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
)

func TestMain(m *testing.M) {
	for _, kv := range os.Environ() { // each test sets the variables that it needs
		if name, _, _ := strings.Cut(kv, "="); strings.HasPrefix(name, "OTEL_") || name == "NO_COLOR" {
			os.Unsetenv(name)
		}
	}
	goleak.VerifyTestMain(m)
}

// buffer is a stderr that can be read while it is being written.
type buffer struct{ hubtest.Buffer }

// records returns the JSON log records written to b.
func (b *buffer) records(t *testing.T) (records []map[string]any) {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(b.String()))
	for dec.More() {
		var r map[string]any
		if err := dec.Decode(&r); err != nil {
			t.Fatalf("%v in %s", err, b)
		}
		records = append(records, r)
	}
	return records
}

func start(t *testing.T, cfg Config) (*Telemetry, *buffer) {
	t.Helper()
	stderr := new(buffer)
	if cfg.Stderr == nil {
		cfg.Stderr = stderr
	}
	tel, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tel.Shutdown(context.Background()) })
	return tel, stderr
}

func scrape(t *testing.T, tel *Telemetry) string {
	t.Helper()
	w := httptest.NewRecorder()
	tel.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("/metrics: %d %s", w.Code, w.Body)
	}
	return w.Body.String()
}

func wantMetric(t *testing.T, tel *Telemetry, line string) {
	t.Helper()
	if page := scrape(t, tel); !strings.Contains(page, "\n"+line+"\n") {
		t.Errorf("/metrics lacks %q:\n%s", line, linesWith(page, "mcphub_"))
	}
}

func linesWith(text, part string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if strings.Contains(line, part) {
			b.WriteString(line)
		}
	}
	return b.String()
}

// span creates one span and returns its context.
func span(t *testing.T, tel *Telemetry) trace.SpanContext {
	t.Helper()
	_, s := tel.TracerProvider().Tracer("test").Start(t.Context(), "tools/call")
	s.End()
	return s.SpanContext()
}

// shutdown returns how long Shutdown took, and its error.
func shutdown(tel *Telemetry, timeout time.Duration) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	begin := time.Now()
	err := tel.Shutdown(ctx)
	return time.Since(begin), err
}

// collector is an OTLP receiver that counts requests by path.
func collector(t *testing.T) (endpoint string, posts func(path string) int) {
	var mu sync.Mutex
	counts := make(map[string]int)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if n, _ := io.Copy(io.Discard, r.Body); n > 0 && r.Method == http.MethodPost {
			mu.Lock()
			counts[r.URL.Path]++
			mu.Unlock()
		}
	}))
	t.Cleanup(server.Close)
	return server.URL, func(path string) int {
		mu.Lock()
		defer mu.Unlock()
		return counts[path]
	}
}

func deadEndpoint(t *testing.T) string {
	l := listen(t)
	l.Close()
	return "http://" + l.Addr().String()
}

// blackHole accepts connections and never answers.
func blackHole(t *testing.T) string {
	l := listen(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
	})
	return "http://" + l.Addr().String()
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestDisabledTelemetryHasNoSDKAndNoGoroutine(t *testing.T) {
	for name, env := range map[string]map[string]string{
		"nothing set": {},
		"none": {"OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none",
			"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"},
		"set to nothing": {"OTEL_TRACES_EXPORTER": "", "OTEL_EXPORTER_OTLP_ENDPOINT": ""},
		"SDK disabled": {"OTEL_SDK_DISABLED": "TRUE", "OTEL_TRACES_EXPORTER": "otlp",
			"OTEL_METRICS_EXPORTER": "otlp", "OTEL_LOGS_EXPORTER": "otlp"},
		"pull":          {"OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "prometheus"},
		"only the port": {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_TRACES_SAMPLER": "always_on"},
	} {
		t.Run(name, func(t *testing.T) {
			for k, v := range env {
				t.Setenv(k, v)
			}
			before := goleak.IgnoreCurrent()
			tel, _ := start(t, Config{})
			goleak.VerifyNone(t, before)

			if tel.TracingEnabled() {
				t.Error("tracing is on")
			}
			if _, ok := tel.TracerProvider().(noop.TracerProvider); !ok {
				t.Errorf("tracer provider is a %T", tel.TracerProvider())
			}
			if err := tel.Shutdown(t.Context()); err != nil {
				t.Errorf("Shutdown: %v", err)
			}
		})
	}
}

func TestEnvironmentIsTakenFromLookup(t *testing.T) {
	endpoint, _ := collector(t)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
	tel, _ := start(t, Config{Lookup: func(string) (string, bool) { return "", false }})
	if tel.TracingEnabled() {
		t.Error("tracing is on")
	}
}

func TestCollectorReceivesTracesAndMetrics(t *testing.T) {
	endpoint, posts := collector(t)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
	tel, stderr := start(t, Config{Version: "1.2.3"})
	if !tel.TracingEnabled() {
		t.Fatal("tracing is off")
	}
	if sc := span(t, tel); !sc.IsSampled() {
		t.Errorf("span is not sampled: %v", sc)
	}
	if _, err := shutdown(tel, time.Minute); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	if posts("/v1/traces") != 1 || posts("/v1/metrics") != 1 {
		t.Errorf("traces %d, metrics %d; want 1 and 1; log: %s", posts("/v1/traces"), posts("/v1/metrics"), stderr)
	}
	wantMetric(t, tel, `mcphub_telemetry_export_errors_total{signal="traces"} 0`)
	wantMetric(t, tel, `mcphub_telemetry_export_errors_total{signal="metrics"} 0`)
}

func TestEachSignalCanBeSentAlone(t *testing.T) {
	for _, test := range []struct {
		name            string
		env             map[string]string
		traces, metrics int
	}{
		{"traces endpoint", map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "/v1/traces"}, 1, 0},
		{"metrics endpoint", map[string]string{"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "/v1/metrics"}, 0, 1},
		{"no metrics", map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "", "OTEL_METRICS_EXPORTER": "none"}, 1, 0},
		{"no traces", map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "", "OTEL_TRACES_EXPORTER": "none"}, 0, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			endpoint, posts := collector(t)
			for k, v := range test.env {
				if strings.HasSuffix(k, "_ENDPOINT") {
					v = endpoint + v
				}
				t.Setenv(k, v)
			}
			tel, _ := start(t, Config{})
			span(t, tel)
			if _, err := shutdown(tel, time.Minute); err != nil {
				t.Errorf("Shutdown: %v", err)
			}
			if tr, me := posts("/v1/traces"), posts("/v1/metrics"); tr != test.traces || me != test.metrics {
				t.Errorf("traces %d, metrics %d; want %d and %d", tr, me, test.traces, test.metrics)
			}
		})
	}
}

func TestDeadEndpointIsLoggedAndCountedAndDoesNotDelayShutdown(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", deadEndpoint(t))
	tel, stderr := start(t, Config{})
	span(t, tel)
	took, err := shutdown(tel, time.Minute)
	if err != nil || took > shutdownBudget {
		t.Errorf("Shutdown took %v: %v", took, err)
	}
	wantMetric(t, tel, `mcphub_telemetry_export_errors_total{signal="traces"} 1`)
	wantMetric(t, tel, `mcphub_telemetry_export_errors_total{signal="metrics"} 1`)
	wantMetric(t, tel, `mcphub_telemetry_export_errors_total{signal="other"} 0`)
	if n := strings.Count(stderr.String(), `"level":"WARN","msg":"telemetry failed"`); n != 2 {
		t.Errorf("%d warnings, want 2: %s", n, stderr)
	}
}

func TestBlackHoleDelaysShutdownByThreeSecondsAtMost(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", blackHole(t))
	tel, stderr := start(t, Config{})
	span(t, tel)
	took, err := shutdown(tel, time.Hour)
	if err == nil || !strings.Contains(err.Error(), "flush not finished") {
		t.Errorf("Shutdown: %v", err)
	}
	if took > shutdownBudget+time.Second { // a second for a busy machine
		t.Errorf("Shutdown took %v", took)
	}
	wantMetric(t, tel, `mcphub_telemetry_export_errors_total{signal="traces"} 1`)
	wantMetric(t, tel, `mcphub_telemetry_export_errors_total{signal="metrics"} 1`)
	if !strings.Contains(stderr.String(), "given up at shutdown") {
		t.Errorf("log: %s", stderr)
	}
	if again := tel.Shutdown(t.Context()); !errors.Is(again, err) {
		t.Errorf("second Shutdown: %v, want %v", again, err)
	}
}

func TestBlackHoleDelaysShutdownNoLongerThanItsContext(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", blackHole(t))
	tel, _ := start(t, Config{})
	span(t, tel)
	took, err := shutdown(tel, 50*time.Millisecond)
	if err == nil || took > time.Second {
		t.Errorf("Shutdown took %v: %v", took, err)
	}
	wantMetric(t, tel, `mcphub_telemetry_export_errors_total{signal="traces"} 1`)
}

// stuck is a stderr whose reader has stopped reading.
type stuck chan struct{}

func (s stuck) Write(p []byte) (int, error) {
	<-s
	return len(p), nil
}

func TestExporterThatIgnoresItsContextDoesNotDelayShutdown(t *testing.T) {
	t.Setenv("OTEL_TRACES_EXPORTER", "console")
	stderr := make(stuck)
	t.Cleanup(func() { close(stderr) })
	tel, _ := start(t, Config{Stderr: stderr})
	span(t, tel)
	took, err := shutdown(tel, 10*time.Millisecond)
	if err == nil || took > cancelGrace+time.Second {
		t.Errorf("Shutdown took %v: %v", took, err)
	}
}

func TestConsoleExportersWriteToStderr(t *testing.T) {
	stdout, err := os.Create(t.TempDir() + "/stdout")
	if err != nil {
		t.Fatal(err)
	}
	defer stdout.Close()
	defer func(old *os.File) { os.Stdout = old }(os.Stdout)
	os.Stdout = stdout

	t.Setenv("OTEL_TRACES_EXPORTER", "console")
	t.Setenv("OTEL_METRICS_EXPORTER", "console")
	tel, stderr := start(t, Config{})
	sc := span(t, tel)
	if _, err := shutdown(tel, time.Minute); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	for _, want := range []string{sc.TraceID().String(), "mcphub_build_info"} {
		if !strings.Contains(stderr.String(), want) {
			t.Errorf("%q is not on stderr: %s", want, stderr)
		}
	}
	if info, err := stdout.Stat(); err != nil || info.Size() > 0 {
		t.Errorf("stdout: %d bytes, %v", info.Size(), err)
	}
}

func TestStartRefusesInvalidSettings(t *testing.T) {
	for _, test := range []struct {
		cfg      Config
		env, val string
		want     string
	}{
		{cfg: Config{LogFormat: "xml"}, want: "auto, tint or json"},
		{cfg: Config{SessionDebug: "loud"}, want: "SESSION_DEBUG"},
		{env: "OTEL_TRACES_EXPORTER", val: "zipkin", want: "OTEL_TRACES_EXPORTER"},
		{env: "OTEL_METRICS_EXPORTER", val: "statsd", want: "OTEL_METRICS_EXPORTER"},
		{env: "OTEL_LOGS_EXPORTER", val: "syslog", want: "OTEL_LOGS_EXPORTER"},
		{env: "OTEL_PROPAGATORS", val: "tracecontext,b3", want: "OTEL_PROPAGATORS"},
		{env: "OTEL_BSP_MAX_QUEUE_SIZE", val: "-1", want: "OTEL_BSP_MAX_QUEUE_SIZE"},
		{env: "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", val: "smoke", want: "invalid OTLP protocol"},
		{env: "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", val: "smoke", want: "OTEL_EXPORTER_OTLP_PROTOCOL"},
	} {
		t.Run(test.want, func(t *testing.T) {
			if test.env != "" {
				t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", deadEndpoint(t))
				t.Setenv(test.env, test.val)
			}
			test.cfg.Stderr = new(buffer)
			_, err := Start(t.Context(), test.cfg)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("Start: %v; want it to say %s", err, test.want)
			}
		})
	}
}

func TestEachTelemetryReportsItsOwnErrors(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", deadEndpoint(t))
	failing, _ := start(t, Config{})
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "")
	quiet, stderr := start(t, Config{})

	span(t, failing)
	if _, err := shutdown(failing, time.Minute); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	wantMetric(t, failing, `mcphub_telemetry_export_errors_total{signal="traces"} 1`)
	for _, signal := range []string{"traces", "metrics", "other"} {
		wantMetric(t, quiet, `mcphub_telemetry_export_errors_total{signal="`+signal+`"} 0`)
	}
	if s := stderr.String(); s != "" {
		t.Errorf("log of the other: %s", s)
	}
}

func TestErrorsOfTheSDKGoToTheLogOnly(t *testing.T) {
	var printed buffer
	log.SetOutput(&printed)
	defer log.SetOutput(os.Stderr)

	tel, stderr := start(t, Config{})
	otel.Handle(errors.New("invalid baggage"))
	if s := printed.String(); s != "" {
		t.Errorf("printed: %s", s)
	}
	if got := stderr.records(t); len(got) != 1 || got[0]["err"] != "invalid baggage" {
		t.Errorf("log: %s", stderr)
	}
	wantMetric(t, tel, `mcphub_telemetry_export_errors_total{signal="other"} 1`)
}
