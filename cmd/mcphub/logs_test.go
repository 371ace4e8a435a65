package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mark3labs/mcp-go/server"

	"github.com/mcphub-go/mcphub/pkg/config"
	"github.com/mcphub-go/mcphub/pkg/hubtest"
	"github.com/mcphub-go/mcphub/pkg/telemetry"
)

func TestLogLevelsOfARunningHubAreShownAndChanged(t *testing.T) {
	t.Setenv("MCPHUB_LOG", "session=warn,gateway=error")
	hub := hubtest.StartHub(t, hubtest.Options{Config: "log: {levels: {gateway: trace, admin: warn}}\n" + hubtest.DemoConfig})
	level := func(args ...string) (int, string, string) {
		t.Helper()
		return mcphub(t, "", append(append([]string{"log-level"}, args...), "--admin", hub.AdminListen)...)
	}
	levels := func() map[string]string {
		t.Helper()
		_, out, _ := level("--json")
		var list struct {
			Levels []struct{ Subsystem, Level, Then string }
		}
		if err := json.Unmarshal([]byte(out), &list); err != nil {
			t.Fatalf("%v in %s", err, out)
		}
		all := map[string]string{}
		for _, l := range list.Levels {
			all[l.Subsystem] = strings.TrimSpace(l.Level + " " + l.Then)
		}
		return all
	}
	hubtest.Connect(t, hub.URL())
	if got := levels(); len(got) != 9 || got["session"] != "warn" || got["gateway"] != "error" || got["admin"] != "warn" || got["default"] != "debug" || got["upstream"] != "debug" {
		t.Errorf("at start: %v", got)
	}
	if n := len(hub.Logged("session created")); n != 0 {
		t.Errorf("%d records below the level", n)
	}

	status, out, errs := level("session=trace", "upstream=warn", "--for", "10m")
	if status != 0 || !strings.Contains(out, "10m0s") && !strings.Contains(out, "9m59s") {
		t.Errorf("%d\n%s%s", status, out, errs)
	}
	if got := levels(); got["session"] != "trace warn" || got["upstream"] != "warn default" {
		t.Errorf("after a change: %v", got)
	}
	hubtest.Connect(t, hub.URL())
	hubtest.Eventually(t, "the session is logged", func() bool { return len(hub.Logged("session created")) == 1 })
	if n := len(hub.Logged("log levels changed")); n != 1 {
		t.Errorf("%d records of the change", n)
	}

	before := levels()
	for _, test := range []struct {
		args   []string
		status int
		words  string
	}{
		{[]string{"session=debug", "sesion=debug"}, 1, "want one of default, admin, catalog"},
		{[]string{"session=loud"}, 1, "want trace, debug, info, notice, warn or error"},
		{[]string{"session=info", "--for", "48h"}, 1, "between 1s and 24h"},
		{[]string{"session=info", "--for", "-1m"}, 2, "positive duration"},
		{[]string{"session"}, 2, "SUBSYSTEM=LEVEL"},
		{[]string{"session=debug", "session=info"}, 2, "twice"},
		{[]string{"--for", "10m"}, 2, "--for needs levels"},
	} {
		if status, _, errs := level(test.args...); status != test.status || !strings.Contains(errs, test.words) {
			t.Errorf("%v: %d %s", test.args, status, errs)
		}
	}
	if got := levels(); got["session"] != before["session"] {
		t.Errorf("refused changes left %v", got)
	}
}

func TestConfigurationAndTelemetryKnowTheSameSubsystems(t *testing.T) {
	c := config.Default()
	c.DataDir = t.TempDir()
	c.Log.Levels = map[string]string{}
	for _, name := range telemetry.Subsystems() {
		c.Log.Levels[name] = "info"
	}
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
	c.Log.Levels["x"] = "info"
	if err := c.Validate(); err == nil || !strings.Contains(err.Error(), strings.Join(telemetry.Subsystems(), ", ")) {
		t.Errorf("%v; telemetry knows %v", err, telemetry.Subsystems())
	}
}

func TestAWrongMCPHUBLOGIsRefusedAtStart(t *testing.T) {
	t.Setenv("MCPHUB_LOG", "sesion=debug")
	status, _, errs := mcphub(t, "", "serve", "--data-dir", t.TempDir(), "--listen", hubtest.FreeAddress(t), "--admin-listen", hubtest.FreeAddress(t))
	if status != 2 || !strings.Contains(errs, "MCPHUB_LOG, entry 1: unknown subsystem; did you mean session?") {
		t.Errorf("%d %s", status, errs)
	}
}

func TestWhatAServerPrintsCannotFloodTheLog(t *testing.T) {
	program := hubtest.HubProgram(t)
	hub := hubtest.StartHub(t, hubtest.Options{Config: `mcpServers: {chatty: {command: sh, args: [-c, "seq 5000 >&2; exec ` + program + ` demo-server"]}}`})
	hubtest.Eventually(t, "the server is up", func() bool { return hub.Metric(`mcphub_backend_up{mcphub_backend="chatty"}`) == "1" })
	hubtest.Eventually(t, "the rest is counted", func() bool { return hub.Metric(`mcphub_log_records_suppressed_total{subsystem="upstream"}`) == "4800" })
	if n := len(hub.Logged("server stderr")); n != 200 {
		t.Errorf("%d lines are logged", n)
	}
	if status := hub.Terminate(20 * time.Second); status != 0 {
		t.Errorf("exit status %d", status)
	}
	got := hub.Logged("log records were suppressed")
	if len(got) != 1 || got[0]["upstream"] != "chatty" || got[0]["suppressed"] != 4800.0 || got[0]["subsystem"] != "upstream" {
		t.Errorf("summaries: %v", got)
	}
}

func TestWrongVerifiersCannotFloodTheLog(t *testing.T) {
	hub := hubtest.StartHub(t, hubtest.Options{Config: hubtest.DemoConfig})
	c := hubtest.Connect(t, hub.URL())
	c.Token = c.SessionID() + "." + strings.Repeat("a", len(c.Token)-len(c.SessionID())-1)
	for range 50 {
		if status, _ := c.Post(`{"jsonrpc":"2.0","id":1,"method":"ping"}`); status != http.StatusNotFound {
			t.Fatalf("status %d", status)
		}
	}
	if n := len(hub.Logged("session refused: wrong verifier")); n != 10 {
		t.Errorf("%d warnings", n)
	}
	if got := hub.Metric(`mcphub_log_records_suppressed_total{subsystem="session"}`); got != "40" {
		t.Errorf("%s are counted as suppressed", got)
	}
}

func TestRecordsBelowACallNameItsSessionAndSpan(t *testing.T) {
	t.Setenv("OTEL_TRACES_EXPORTER", "otlp")
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://"+hubtest.FreeAddress(t))
	inner := server.NewStreamableHTTPServer(server.NewMCPServer("forgetful", "1", server.WithToolCapabilities(false)), server.WithStateful(true))
	var forgot atomic.Bool
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if strings.Contains(string(body), `"tools/call"`) && !forgot.Swap(true) {
			http.Error(w, "not found", http.StatusNotFound)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		inner.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		upstream.CloseClientConnections()
		upstream.Close()
	})
	hub := hubtest.StartHub(t, hubtest.Options{Config: `{"naming": "bare", "mcpServers": {"forgetful": {"url": "` + upstream.URL + `", "era": "legacy"}}}`})
	c := hubtest.Connect(t, hub.URL())
	c.Request("tools/call", `{"name":"any","arguments":{}}`)
	const msg = "the server forgot a session; initializing again"
	hubtest.Eventually(t, "the hub finds its session gone", func() bool { return len(hub.Logged(msg)) > 0 })
	r := hub.Logged(msg)[0]
	traceID, _ := r["trace_id"].(string)
	spanID, _ := r["span_id"].(string)
	if r["session"] != c.SessionID() || len(traceID) != 32 || len(spanID) != 16 || r["subsystem"] != "upstream" || r["upstream"] != "forgetful" {
		t.Errorf("record is %v", r)
	}
}

// blackHole accepts connections, reads what comes and never answers.
func blackHole(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(io.Discard, conn) }()
			t.Cleanup(func() { conn.Close() })
		}
	}()
	return "http://" + l.Addr().String()
}

func TestABadCollectorSlowsDownNeitherCallsNorTheShutdown(t *testing.T) {
	refusing := "http://" + hubtest.FreeAddress(t)
	collector := &http.Server{Addr: strings.TrimPrefix(refusing, "http://"), Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
	})}
	go func() { _ = collector.ListenAndServe() }()
	t.Cleanup(func() { collector.Close() })
	for name, endpoint := range map[string]string{"dead": "http://" + hubtest.FreeAddress(t), "black hole": blackHole(t), "refusing": refusing} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
			t.Setenv("OTEL_LOGS_EXPORTER", "otlp")
			t.Setenv("OTEL_BSP_MAX_QUEUE_SIZE", "16")
			t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
			t.Setenv("OTEL_BLRP_SCHEDULE_DELAY", "50")
			hub := hubtest.StartHub(t, hubtest.Options{Config: hubtest.DemoConfig})
			c := hubtest.Connect(t, hub.URL())
			begin := time.Now()
			for range 200 {
				c.Request("tools/call", `{"name":"demo__echo","arguments":{"text":"x"}}`)
			}
			if took := time.Since(begin); took > 10*time.Second { // much for a busy machine; one export waits for 10 s
				t.Errorf("200 calls took %v", took)
			}
			begin = time.Now()
			if status := hub.Terminate(20 * time.Second); status != 0 {
				t.Errorf("exit status %d", status)
			}
			if took := time.Since(begin); took > 6*time.Second { // a tenth of 10 s is for the last telemetry
				t.Errorf("the shutdown took %v", took)
			}
		})
	}
}
