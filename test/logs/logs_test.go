// Package logs proves that clients and servers cannot flood the log of a hub, that
// its records name the session and the span of a call, and that a bad collector
// slows nothing down.
package logs

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mark3labs/mcp-go/server"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
)

func TestWhatAServerPrintsCannotFloodTheLog(t *testing.T) {
	program := hubtest.HubProgram(t)
	config := `mcpServers: {chatty: {command: sh, args: [-c, "seq 5000 >&2; exec ` + program + ` demo-server"]}}`
	hub := hubtest.StartHub(t, hubtest.Options{Config: config})
	hubtest.Eventually(t, "the server is up", func() bool { return hub.Metric(`mcphub_backend_up{mcphub_backend="chatty"}`) == "1" })
	hubtest.Eventually(t, "the rest is counted",
		func() bool { return hub.Metric(`mcphub_log_records_suppressed_total{subsystem="server"}`) == "4800" })
	if n := len(hub.Logged("server stderr")); n != 200 {
		t.Errorf("%d lines are logged", n)
	}
	if status := hub.Terminate(20 * time.Second); status != 0 {
		t.Errorf("exit status %d", status)
	}
	got := hub.Logged("log records were suppressed")
	if len(got) != 1 || got[0]["upstream"] != "chatty" || got[0]["suppressed"] != 4800.0 || got[0]["subsystem"] != "server" {
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
	forgetful := server.NewMCPServer("forgetful", "1", server.WithToolCapabilities(false))
	inner := server.NewStreamableHTTPServer(forgetful, server.WithStateful(true))
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
	config := `{"naming": "bare", "mcpServers": {"forgetful": {"url": "` + upstream.URL + `", "era": "legacy"}}}`
	hub := hubtest.StartHub(t, hubtest.Options{Config: config})
	c := hubtest.Connect(t, hub.URL())
	c.Request("tools/call", `{"name":"any","arguments":{}}`)
	const msg = "the server forgot a session; initializing again"
	hubtest.Eventually(t, "the hub finds its session gone", func() bool { return len(hub.Logged(msg)) > 0 })
	r := hub.Logged(msg)[0]
	traceID, _ := r["trace_id"].(string)
	spanID, _ := r["span_id"].(string)
	if r["session"] != c.SessionID() || len(traceID) != 32 || len(spanID) != 16 || r["subsystem"] != "upstream" ||
		r["upstream"] != "forgetful" {
		t.Errorf("record is %v", r)
	}
}

// blackHole accepts connections, reads and never answers.
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
	collector := &http.Server{Addr: strings.TrimPrefix(refusing, "http://"),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusServiceUnavailable)
		})}
	go func() { _ = collector.ListenAndServe() }()
	t.Cleanup(func() { collector.Close() })
	for name, endpoint := range map[string]string{"dead": "http://" + hubtest.FreeAddress(t),
		"black hole": blackHole(t), "refusing": refusing} {
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
			if took := time.Since(begin); took > 10*time.Second { // generous for a busy machine, but one export waits for 10 s
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

func TestAFailedCallIsOneLineThatSaysWhereToLook(t *testing.T) {
	t.Setenv("OTEL_TRACES_EXPORTER", "otlp")
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://"+hubtest.FreeAddress(t))
	hub := hubtest.StartHub(t, hubtest.Options{Config: hubtest.DemoConfig, LogLevel: "info"})
	hub.AwaitServers(1)
	c, m := hubtest.Connect(t, hub.URL()), hubtest.NewModernClient(t, hub.URL(), "modern")
	c.Request("tools/call", `{"name":"demo__echo","arguments":{"text":"x"}}`) // does not fail
	c.Request("tools/call", `{"name":"demo__fail","arguments":{"message":"canary"}}`)
	c.Request("tools/call", `{"name":"canary","arguments":{}}`)
	c.Request("prompts/get", `{"name":"canary"}`)
	m.Request("tools/call", "demo__fail", `"name":"demo__fail","arguments":{"message":"canary"}`)
	want := []map[string]any{
		{"method": "tools/call", "tool": "demo__fail", "upstream": "demo", "code": "tool_error", "fault": "tool"},
		{"method": "tools/call", "tool": "_OTHER", "code": "-32602", "fault": "client"},
		{"method": "prompts/get", "prompt": "_OTHER", "code": "-32602", "fault": "client"},
		{"method": "tools/call", "tool": "demo__fail", "upstream": "demo", "code": "tool_error", "fault": "tool"},
	}
	hubtest.Eventually(t, "the calls are logged", func() bool { return len(hub.Logged("a call failed")) == len(want) })
	for i, r := range hub.Logged("a call failed") {
		for key, value := range want[i] {
			if r[key] != value {
				t.Errorf("call %d: %s is %v, want %v", i, key, r[key], value)
			}
		}
		trace, _ := r["trace_id"].(string)
		session, _ := r["session"].(string)
		took, _ := r["took"].(string)
		if _, err := time.ParseDuration(took); err != nil || len(trace) != 32 || session == "" || r["level"] != "INFO" {
			t.Errorf("call %d: %v", i, r)
		}
		if i < 3 && session != c.SessionID() {
			t.Errorf("call %d: session %s", i, session)
		}
	}
	if strings.Contains(hub.Log.String(), "canary") {
		t.Errorf("the log has arguments or invented names\n%s", hub.Log)
	}
}

func TestFailedCallsCannotFloodTheLog(t *testing.T) {
	hub := hubtest.StartHub(t, hubtest.Options{Config: hubtest.DemoConfig, LogLevel: "info"})
	hub.AwaitServers(1)
	c := hubtest.Connect(t, hub.URL())
	for range 250 {
		c.Request("tools/call", `{"name":"demo__fail","arguments":{}}`)
	}
	if got := hub.Metric(`mcphub_log_records_suppressed_total{subsystem="gateway"}`); got != "50" {
		t.Errorf("%s are counted as suppressed", got)
	}
	hub.Terminate(20 * time.Second)
	if n := len(hub.Logged("a call failed")); n != 200 {
		t.Errorf("%d lines", n)
	}
}
