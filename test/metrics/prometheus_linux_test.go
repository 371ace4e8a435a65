package metrics

import (
	"context"
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mark3labs/mcp-go/client"
	"github.com/mark3labs/mcp-go/mcp"
	"golang.org/x/sys/unix"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
)

// How a real Prometheus reads the metrics of a hub. make e2e installs one and runs
// these tests.

// useOnce connects a client of the version, calls a tool and closes. The client
// ends its session, if it has one.
func useOnce(ctx context.Context, url, name, version string) error {
	c, err := client.NewStreamableHttpClient(url)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	if err := c.Start(ctx); err != nil {
		return err
	}
	var hello mcp.InitializeRequest
	hello.Params.ProtocolVersion = version
	hello.Params.ClientInfo = mcp.Implementation{Name: name, Version: "1"}
	if _, err := c.Initialize(ctx, hello); err != nil {
		return err
	}
	if got := c.ProtocolVersion(); got != version {
		return fmt.Errorf("the client speaks %s, not %s", got, version)
	}
	var call mcp.CallToolRequest
	call.Params.Name, call.Params.Arguments = "demo__echo", map[string]any{"text": "x"}
	_, err = c.CallTool(ctx, call)
	return err
}

// churn connects, uses and closes clients of both eras until stop is called.
func churn(t *testing.T, url string) (stop func()) {
	t.Helper()
	var ending atomic.Bool
	var workers sync.WaitGroup
	for i := range 6 {
		version := []string{mcp.LATEST_LEGACY_PROTOCOL_VERSION, mcp.LATEST_PROTOCOL_VERSION}[i%2]
		workers.Go(func() {
			for n := 0; !ending.Load(); n++ {
				if err := useOnce(t.Context(), url, fmt.Sprintf("client-%d-%d", i, n), version); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	return func() { ending.Store(true); workers.Wait() }
}

func TestPrometheusReadsAllThatTheHubMeasures(t *testing.T) {
	_, promtool := installed(t, "MCPHUB_PROMETHEUS"), installed(t, "MCPHUB_PROMTOOL")
	t.Setenv("OTEL_TRACES_EXPORTER", "console")
	t.Setenv("OTEL_TRACES_SAMPLER", "parentbased_always_off") // what the client samples is sampled
	hub := hubtest.StartHub(t, hubtest.Options{Config: hubtest.DemoConfig, LogLevel: "warn"})
	native, text := observe(t, hub.AdminListen), observe(t, hub.AdminListen)
	p := startPrometheus(t, scrapeJob{name: "mcphub", target: native.address()}, scrapeJob{name: "text", target: text.address(),
		settings: "    scrape_native_histograms: false\n    scrape_protocols: [OpenMetricsText1.0.0]\n"})

	stop := churn(t, hub.URL())
	hubtest.Eventually(t, "Prometheus has seen sessions come and go for some seconds", func() bool {
		return p.holds(`changes(mcphub_sessions_active{job="mcphub",kind="protocol"}[5m]) >= 3 and on ()
			changes(mcphub_sessions_closed_total{job="mcphub",kind="protocol",reason="client_delete"}[5m]) >= 10`)
	})
	stop()
	t.Run("every session is accounted for at every scrape", func(t *testing.T) { checkConservation(t, p) })
	t.Run("every message is accounted for at rest", func(t *testing.T) { checkMessages(t, p) })
	t.Run("histograms are classic and native", func(t *testing.T) { checkHistograms(t, p) })
	t.Run("sampled calls have exemplars", func(t *testing.T) { checkExemplars(t, p, hub) })
	t.Run("the rules are sound and nothing alerts", func(t *testing.T) { checkRules(t, p) })
	t.Run("formats are negotiated", func(t *testing.T) {
		if got := slices.Sorted(maps.Keys(native.seen())); !slices.Equal(got, []string{"application/vnd.google.protobuf"}) {
			t.Errorf("with native histograms the hub answers %q", got)
		}
		if got := slices.Sorted(maps.Keys(text.seen())); !slices.Equal(got, []string{"application/openmetrics-text"}) {
			t.Errorf("without them the hub answers %q", got)
		}
		// A scrape may take half a second, which a busy machine may miss once.
		if failed := p.query("avg_over_time(up[5m]) < 0.9"); len(failed) > 0 || len(p.query("up == 1")) != 2 {
			t.Errorf("scrapes failed: %v", failed)
		}
	})
	t.Run("promtool has nothing to say", func(t *testing.T) {
		cmd := exec.Command(promtool, "check", "metrics")
		_, page := hub.Get("/metrics")
		cmd.Stdin = strings.NewReader(page)
		if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%v\n%s", err, out)
		}
	})
}

// checkConservation adds up the session family scrape by scrape: the samples
// of one scrape have one time.
func checkConservation(t *testing.T, p *prometheus) {
	t.Helper()
	type scrape struct {
		job, kind string
		at        float64
	}
	sums, active := map[scrape]float64{}, map[string]map[float64]bool{"protocol": {}, "derived": {}}
	for name, sign := range map[string]float64{"created_total": 1, "restored_total": 1, "closed_total": -1, "active": -1} {
		series := p.query("mcphub_sessions_" + name + "[5m]")
		if len(series) == 0 {
			t.Fatalf("no mcphub_sessions_%s", name)
		}
		for _, s := range series {
			for _, v := range s.Values {
				sums[scrape{s.Metric["job"], s.Metric["kind"], v.time()}] += sign * v.value()
				if name == "active" {
					active[s.Metric["kind"]][v.value()] = true
				}
			}
		}
	}
	for s, sum := range sums {
		if sum != 0 {
			t.Errorf("%+v: created + restored - closed - active is %v", s, sum)
		}
	}
	t.Logf("%d sums", len(sums))
	if len(sums) < 30 || len(active["protocol"]) < 2 || len(active["derived"]) < 2 {
		t.Errorf("too little to prove anything: %d sums, active were %v", len(sums), active)
	}
}

func checkMessages(t *testing.T, p *prometheus) {
	t.Helper()
	hubtest.Eventually(t, "Prometheus sees a hub at rest", func() bool {
		return p.holds(`sum(mcphub_requests_in_flight{job="mcphub"}) == 0 and changes(sum(mcphub_messages_total{job="mcphub"})[2s:500ms]) == 0`)
	})
	const rest = `instance_hop:mcphub_messages_unaccounted:diff{job="mcphub"}`
	if !p.holds(`count(`+rest+` == 0) == 4`) || !p.holds(`max_over_time(max(abs(`+rest+`))[10m:500ms]) == 0`) { // under load, too
		t.Errorf("messages are unaccounted for: %v", p.query(rest))
	}
	for hop, direction := range map[string][2]string{"downstream": {"in", "out"}, "backend": {"out", "in"}} {
		asked := fmt.Sprintf(`sum(mcphub_messages_total{job="mcphub",hop=%q,direction=%q,kind="request"})`, hop, direction[0])
		answered := fmt.Sprintf(`sum(mcphub_messages_total{job="mcphub",hop=%q,direction=%q,kind=~"response|error"})`, hop, direction[1])
		if !p.holds(asked+" == "+answered) || !p.holds(asked+" > 10") {
			t.Errorf("%s: %v requests, %v answers", hop, p.query(asked), p.query(answered))
		}
	}
}

func checkHistograms(t *testing.T, p *prometheus) {
	t.Helper()
	for _, name := range []string{"mcp_server_operation_duration_seconds", "mcp_client_operation_duration_seconds"} {
		const which = `{mcp_method_name="tools/call",gen_ai_tool_name!="",error_type=""`
		classic := p.query("sum by (job) (" + name + "_bucket" + which + `,le="+Inf"})`)
		if len(classic) != 2 { // both jobs
			t.Errorf("%s: classic: %v", name, classic)
		}
		for _, s := range p.query("sum by (job) (" + name + which + "})") {
			if s.Metric["job"] != "mcphub" {
				t.Errorf("%s: a text format carries native histograms: %v", name, s)
			}
			count, ok := s.native()
			if !ok || !p.holds("sum("+name+"_count"+which+`,job="mcphub"}) == `+count) {
				t.Errorf("%s: native: %v, count %q; classic: %v", name, s, count, classic)
			}
		}
		if !p.holds("histogram_quantile(0.5, sum(" + name + which + `,job="mcphub"})) > 0`) {
			t.Errorf("%s: no quantile of the native histogram", name)
		}
		if !p.holds("histogram_quantile(0.5, sum by (le) (" + name + "_bucket" + which + "})) > 0") {
			t.Errorf("%s: no quantile of the classic histogram", name)
		}
	}
}

// checkExemplars makes a call whose client samples it and one whose client does not.
func checkExemplars(t *testing.T, p *prometheus, hub *hubtest.Hub) {
	t.Helper()
	const sampled, unsampled = "4bf92f3577b34da6a3ce929d0e0e4736", "0af7651916cd43dd8448eb211c80319c"
	call := func(trace, flags string) {
		t.Helper()
		c := hubtest.NewModernClient(t, hub.URL(), "traced")
		c.Traceparent = "00-" + trace + "-00f067aa0ba902b7-" + flags
		if a := c.Request("tools/call", "demo__echo", `"name":"demo__echo","arguments":{"text":"x"}`); a.Result == nil {
			t.Fatalf("%s", a.Error)
		}
	}
	found := func(metric, trace string) (jobs []string) {
		t.Helper()
		var data []struct {
			SeriesLabels map[string]string
			Exemplars    []struct{ Labels map[string]string }
		}
		p.api(&data, "query_exemplars", "query", metric, "start", fmt.Sprint(time.Now().Add(-time.Hour).Unix()),
			"end", fmt.Sprint(time.Now().Add(time.Hour).Unix()))
		for _, series := range data {
			for _, e := range series.Exemplars {
				if e.Labels["trace_id"] == trace && len(e.Labels["span_id"]) == 16 && !slices.Contains(jobs, series.SeriesLabels["job"]) {
					jobs = append(jobs, series.SeriesLabels["job"])
				}
			}
		}
		return jobs
	}
	call(unsampled, "00")
	call(sampled, "01")
	for _, hop := range []string{"server", "client"} {
		metric := "mcp_" + hop + "_operation_duration_seconds_bucket"
		hubtest.Eventually(t, "the exemplars of "+metric+" arrive", func() bool { return len(found(metric, sampled)) == 2 })
		if jobs := found(metric, unsampled); len(jobs) > 0 {
			t.Errorf("%s: an exemplar leads to a trace that is not there", metric)
		}
	}
}

func checkRules(t *testing.T, p *prometheus) {
	t.Helper()
	var data struct {
		Groups []struct {
			Rules []struct{ Name, Health, LastError string }
		}
	}
	count := strings.Count(mustRead(t, filepath.Join("..", "..", "deploy", "prometheus", "mcphub.rules.yml")), "\n      - ")
	p.api(&data, "rules")
	for _, g := range data.Groups {
		for _, r := range g.Rules {
			count--
			if r.Health != "ok" || r.LastError != "" {
				t.Errorf("%s: %s %s", r.Name, r.Health, r.LastError)
			}
		}
	}
	if count != 0 {
		t.Errorf("%d rules were not loaded", count)
	}
	if alerts := p.alerts(); len(alerts) > 0 {
		t.Errorf("a healthy hub alerts: %v", alerts)
	}
}

func TestAHubThatCannotStoreItsSessionsAlertsUntilItCan(t *testing.T) {
	installed(t, "MCPHUB_PROMETHEUS")
	hub := hubtest.StartHub(t, hubtest.Options{Config: hubtest.DemoConfig + "\nsessions: {flushInterval: 200ms, idleTimeout: 8s}"})
	p := startPrometheus(t, scrapeJob{name: "mcphub", target: hub.AdminListen})
	c := hubtest.Connect(t, hub.URL())
	hubtest.Eventually(t, "the hub is scraped", func() bool { return p.holds(`mcphub_sessions_active{kind="protocol"} == 1`) })
	if alerts := p.alerts(); len(alerts) > 0 {
		t.Errorf("a healthy hub alerts: %v", alerts)
	}

	limitFiles(t, hub, 0) // every write fails from now on, as on a full disk
	hubtest.Eventually(t, "the alert fires", func() bool {
		c.Request("ping", "{}") // in use, so there is something to store; the hub goes on answering
		return p.alerts()["MCPHubDirtySessionsStuck"] == "firing"
	})
	if alerts := p.alerts(); len(alerts) != 1 {
		t.Errorf("not this alert alone: %v", alerts)
	}

	limitFiles(t, hub, unix.RLIM_INFINITY)
	hubtest.Eventually(t, "the alert is over", func() bool { return len(p.alerts()) == 0 })
}

// limitFiles sets how long a file of the hub may get.
func limitFiles(t *testing.T, hub *hubtest.Hub, bytes uint64) {
	t.Helper()
	if err := unix.Prlimit(hub.PID(), unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: bytes, Max: unix.RLIM_INFINITY}, nil); err != nil {
		t.Fatal(err)
	}
}
