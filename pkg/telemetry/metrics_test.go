package telemetry

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestMetricsAreServedAsTextAndOpenMetrics(t *testing.T) {
	tel, _ := start(t, Config{Version: "1.2.3"})
	server := httptest.NewServer(tel.Handler())
	defer server.Close()
	for accept, want := range map[string]struct{ contentType, end string }{
		"text/plain": {"text/plain; version=0.0.4", "\n"},
		"application/openmetrics-text;version=1.0.0": {"application/openmetrics-text; version=1.0.0", "\n# EOF\n"},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept", accept)
		resp, err := server.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s, %v", accept, resp.Status, err)
		}
		if got := resp.Header.Get("Content-Type"); !strings.HasPrefix(got, want.contentType) {
			t.Errorf("%s: got %s", accept, got)
		}
		page := string(body)
		if !strings.HasSuffix(page, want.end) {
			t.Errorf("%s: page ends with %q", accept, page[max(0, len(page)-20):])
		}
		for _, part := range []string{
			`mcphub_build_info{goversion="` + runtime.Version() + `",mcp_sdk_version="unknown",revision="`, `",version="1.2.3"} 1`,
			`mcphub_log_records_total{level="info"} 0`,
			"mcphub_config_last_reload_successful 1", "mcphub_config_last_reload_success_timestamp_seconds 1.",
			"process_open_fds", "go_goroutines", "go_sched_latencies_seconds_bucket", "go_gc_pauses_seconds_count",
		} {
			if !strings.Contains(page, part) {
				t.Errorf("%s: page lacks %s", accept, part)
			}
		}
	}
}

func TestOwnMetricsPassTheLinter(t *testing.T) {
	tel, _ := start(t, Config{})
	problems, err := testutil.GatherAndLint(tel.Registry(),
		"mcphub_build_info", "mcphub_config_last_reload_successful",
		"mcphub_config_last_reload_success_timestamp_seconds", "mcphub_log_records_total", "mcphub_telemetry_export_errors_total")
	if err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
}

type brokenCollector struct{ desc *prometheus.Desc }

func (c brokenCollector) Describe(ch chan<- *prometheus.Desc) { ch <- c.desc }
func (c brokenCollector) Collect(ch chan<- prometheus.Metric) {
	ch <- prometheus.NewInvalidMetric(c.desc, errors.New("store is gone"))
}

func TestFailedScrapeIsLogged(t *testing.T) {
	tel, stderr := start(t, Config{})
	tel.Registry().MustRegister(brokenCollector{prometheus.NewDesc("mcphub_test", "Broken.", nil, nil)})
	w := httptest.NewRecorder()
	tel.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusInternalServerError {
		t.Errorf("/metrics answers %d", w.Code)
	}
	if got := stderr.records(t); len(got) != 1 || got[0]["level"] != "WARN" || !strings.Contains(stderr.String(), "store is gone") {
		t.Errorf("log: %s", stderr)
	}
}
