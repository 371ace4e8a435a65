package hubtest

import (
	"cmp"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// DemoConfig is the configuration of a hub whose only server, demo, is the child
// process mcphub demo-server. Its tools are add, echo, fail, slow and time.
const DemoConfig = `mcpServers: {demo: {command: mcphub, args: [demo-server]}}`

// Options says how a hub runs. The zero value is a hub without servers on free
// ports with a data directory of its own.
//
// The hub gets the environment of the test: use t.Setenv for variables such as
// OTEL_EXPORTER_OTLP_ENDPOINT.
type Options struct {
	Config      string   // text of the configuration file, YAML or JSON; default: empty
	DataDir     string   // default: a temporary directory
	Listen      string   // address of /mcp; default: a free one
	AdminListen string   // address of the admin listener; default: a free one
	LogLevel    string   // default: debug
	Args        []string // more flags of mcphub serve
	Stderr      *os.File // the log; default: Process.Log has it
}

// Hub is a running mcphub. It logs JSON.
type Hub struct {
	*Process
	Options // with the defaults filled in
}

// StartHub starts mcphub serve and waits until the hub is ready. The hub is
// killed at the end of the test.
func StartHub(t testing.TB, o Options) *Hub {
	t.Helper()
	o.Config = cmp.Or(o.Config, "{}")
	o.LogLevel = cmp.Or(o.LogLevel, "debug")
	if o.DataDir == "" {
		o.DataDir = t.TempDir()
	}
	if o.Listen == "" {
		o.Listen = FreeAddress(t)
	}
	if o.AdminListen == "" {
		o.AdminListen = FreeAddress(t)
	}
	file := filepath.Join(t.TempDir(), "mcphub.yaml")
	if err := os.WriteFile(file, []byte(o.Config), 0o600); err != nil {
		t.Fatal(err)
	}
	args := append([]string{"serve", "--config", file, "--listen", o.Listen, "--admin-listen", o.AdminListen, "--data-dir", o.DataDir,
		"--log-format", "json", "--log-level", o.LogLevel}, o.Args...)
	h := &Hub{Process: startProcess(t, o.Stderr, HubProgram(t), args...), Options: o}
	Eventually(t, "the hub is ready", func() bool {
		select {
		case <-h.Done():
			t.Fatalf("the hub ended\n%s", h.Log)
		default:
		}
		status, _ := h.Get("/readyz")
		return status == http.StatusOK
	})
	return h
}

// Restart starts a hub with the options of h, which has ended: on the same ports
// and with the same data directory.
func (h *Hub) Restart() *Hub {
	h.t.Helper()
	return StartHub(h.t, h.Options)
}

// URL returns the URL for MCP clients.
func (h *Hub) URL() string { return "http://" + h.Listen + "/mcp" }

// AdminURL returns the URL of the admin listener, without a slash at its end.
func (h *Hub) AdminURL() string { return "http://" + h.AdminListen }

// Get returns the status and the body of a GET request to the admin listener; 0
// if nobody answers.
func (h *Hub) Get(path string) (status int, body string) {
	h.t.Helper()
	return Get(h.t, h.AdminURL()+path)
}

// AwaitServers waits until n servers are up.
func (h *Hub) AwaitServers(n int) {
	h.t.Helper()
	Eventually(h.t, "the servers are up", func() bool {
		_, body := h.Get("/api/v1/upstreams")
		return strings.Count(body, `"state": "up"`) == n
	})
}

// AwaitSession waits until exactly one session is stored in the data directory
// and returns its id.
func (h *Hub) AwaitSession() string {
	h.t.Helper()
	var index struct{ Sessions []string }
	Eventually(h.t, "the session is in index.json", func() bool {
		data, err := os.ReadFile(filepath.Join(h.DataDir, "sessions", "index.json"))
		return err == nil && json.Unmarshal(data, &index) == nil && len(index.Sessions) == 1
	})
	return index.Sessions[0]
}

// Logged returns the records of the log with that message.
func (h *Hub) Logged(msg string) (records []map[string]any) {
	for line := range strings.Lines(h.Log.String()) {
		var r map[string]any
		if json.Unmarshal([]byte(line), &r) == nil && r["msg"] == msg {
			records = append(records, r)
		}
	}
	return records
}

// Metric returns the value of a series, name{label="value",...} with the labels
// in alphabetical order, as /metrics shows it; "" if there is no such series.
func (h *Hub) Metric(series string) string {
	h.t.Helper()
	_, body := h.Get("/metrics")
	for line := range strings.Lines(body) {
		if value, ok := strings.CutPrefix(line, series+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// Series returns the names and labels that /metrics shows, without the values.
// A hub always has more than a hundred; the test fails if there are fewer.
func (h *Hub) Series() map[string]bool {
	h.t.Helper()
	_, body := h.Get("/metrics")
	found := map[string]bool{}
	for line := range strings.Lines(body) {
		if i := strings.LastIndexByte(line, ' '); i > 0 && line[0] != '#' {
			found[line[:i]] = true
		}
	}
	if len(found) < 100 {
		h.t.Fatalf("%d series\n%s", len(found), body)
	}
	return found
}
