package canary

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
)

// aboutNoCall are the messages of records that belong to no call or are written
// before the span of the call starts.
var aboutNoCall = []string{ //nolint:gochecknoglobals // a table
	"sessions flushed", // many at once, in a trace of their own
	"session flushed",  // likewise
	"server stderr",    // the process is shared
}

// records returns the records in the log of a hub after the first n bytes.
func records(t *testing.T, h *hubtest.Hub, n int) (all []map[string]any) {
	for line := range strings.Lines(h.Log.String()[n:]) {
		var r map[string]any
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Errorf("this is no record of the log: %s", line)
			continue
		}
		all = append(all, r)
	}
	return all
}

func TestEachRecordOfACallNamesItsSessionAndTrace(t *testing.T) {
	all := &traffic{}
	hub, _ := startLeaky(t, hubtest.StartCollector(t), all, filepath.Join(t.TempDir(), "child"))
	for _, name := range []string{"child", "legacy", "modern"} {
		hubtest.Eventually(t, name+" is up", func() bool { return hub.Metric(`mcphub_backend_up{mcphub_backend="`+name+`"}`) == "1" })
	}
	c := startTrusting(t, hub.URL(), all)
	c.ask("tools/call", `"name":"legacy__everything","arguments":{}`) // makes the session's connection

	for server, trace := range map[string]string{"legacy": "call of the server", "modern": "call of the server"} {
		before := len(hub.Log.String())
		c.ask("tools/call", `"name":"`+server+`__everything","arguments":{}`)
		count := map[string]int{}
		hubtest.Eventually(t, "the message is logged", func() bool {
			return slices.ContainsFunc(records(t, hub, before),
				func(r map[string]any) bool { return r["msg"] == "message of the client" && r["method"] == "tools/call" })
		})
		for _, r := range records(t, hub, before) {
			msg, _ := r["msg"].(string)
			about, _ := r["upstream"].(string)
			if about != "" && about != server || slices.Contains(aboutNoCall, msg) || r["subsystem"] == "telemetry" {
				continue // the hub connects to other servers again, and exports spans
			}
			count[msg]++
			traceID, _ := r["trace_id"].(string)
			spanID, _ := r["span_id"].(string)
			if r["session"] != hubtest.SessionID(c.token) || len(traceID) != 32 || len(spanID) != 16 {
				t.Errorf("%s: %v", server, r)
			}
		}
		t.Log(server, count)
		if count[trace] == 0 || count["the server sent a text that is no message"] == 0 {
			t.Errorf("%s: the records are %v", server, count)
		}
	}
}

func TestSessionsChosenForDebuggingAreTracedAndTheOthersNot(t *testing.T) {
	dir := t.TempDir()
	hub := hubtest.StartHub(t, hubtest.Options{Config: hubtest.DemoConfig, DataDir: dir})
	chosen, other := hubtest.Connect(t, hub.URL()), hubtest.Connect(t, hub.URL())
	hub.Terminate(20 * time.Second)

	c := hubtest.StartCollector(t)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", c.URL)
	t.Setenv("OTEL_TRACES_SAMPLER", "parentbased_always_off")
	t.Setenv("SESSION_DEBUG", "id:"+chosen.SessionID()[:12])
	hub = hubtest.StartHub(t, hubtest.Options{Config: hubtest.DemoConfig, DataDir: dir})
	for _, client := range []*hubtest.LegacyClient{chosen, other} {
		client.URL = hub.URL()
		client.Request("tools/call", `{"name":"demo__echo","arguments":{"text":"x"}}`)
	}
	hub.Terminate(20 * time.Second)
	spans := c.Traces.String()
	if !strings.Contains(spans, chosen.SessionID()) || !strings.Contains(spans, "tools/call echo") {
		t.Error("the chosen session is not traced")
	}
	if strings.Contains(spans, other.SessionID()) {
		t.Error("the other session is traced")
	}
	for token, want := range map[string]bool{chosen.Token: true, other.Token: false} {
		found := slices.ContainsFunc(hub.Logged("session in use"),
			func(r map[string]any) bool { return r["session"] == hubtest.SessionID(token) })
		if found != want {
			t.Errorf("%s: logged at TRACE: %t", hubtest.SessionID(token), found)
		}
	}
}
