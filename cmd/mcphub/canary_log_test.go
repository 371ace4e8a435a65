package main

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// aboutNoCall are the records at trace level that a call has nothing to do with,
// or that are written before its span begins.
var aboutNoCall = []string{ //nolint:gochecknoglobals // a table
	"sessions flushed", // many at once, in a trace of their own
	"session in use",   // before it is known what the message says
	"server stderr",    // of a process that all share
}

// records are those that a hub has logged since the first n bytes.
func (h *hubProcess) records(n int) (all []map[string]any) {
	for line := range strings.Lines(h.log.String()[n:]) {
		var r map[string]any
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			h.t.Errorf("this is no record of the log: %s", line)
			continue
		}
		all = append(all, r)
	}
	return all
}

func TestEachRecordOfACallNamesItsSessionAndTrace(t *testing.T) {
	seen, said, got := &lockedBuffer{}, &lockedBuffer{}, &lockedBuffer{}
	hub, _ := startLeaky(t, startCollector(t), seen, said, filepath.Join(t.TempDir(), "child"))
	for _, name := range []string{"child", "legacy", "modern"} {
		eventually(t, name+" is up", func() bool { return hub.metric(`mcphub_backend_up{mcphub_backend="`+name+`"}`) == "1" })
	}
	c := startTrusting(t, hub.url(), got, said)
	c.ask("tools/call", `"name":"legacy__everything","arguments":{}`) // makes the session's connection

	for server, trace := range map[string]string{"legacy": "call of the server", "modern": "call of the server"} {
		before := len(hub.log.String())
		c.ask("tools/call", `"name":"`+server+`__everything","arguments":{}`)
		count := map[string]int{}
		eventually(t, "the message is logged", func() bool {
			return slices.ContainsFunc(hub.records(before), func(r map[string]any) bool { return r["msg"] == "message of the client" && r["method"] == "tools/call" })
		})
		for _, r := range hub.records(before) {
			msg, _ := r["msg"].(string)
			about, _ := r["upstream"].(string)
			if about != "" && about != server || slices.Contains(aboutNoCall, msg) || r["subsystem"] == "telemetry" {
				continue // other servers are tried again, and spans exported
			}
			count[msg]++
			traceID, _ := r["trace_id"].(string)
			spanID, _ := r["span_id"].(string)
			if r["session"] != public(c.token) || len(traceID) != 32 || len(spanID) != 16 {
				t.Errorf("%s: %v", server, r)
			}
		}
		t.Log(server, count)
		if count[trace] == 0 || count["the server sent an event that is no message"] == 0 {
			t.Errorf("%s: the records are %v", server, count)
		}
	}
}

func TestSessionsChosenForDebuggingAreTracedAndTheOthersNot(t *testing.T) {
	dir := t.TempDir()
	hub := startHub(t, demoConfig, dir)
	chosen, other := connect(t, hub.url()), connect(t, hub.url())
	hub.terminate(20 * time.Second)

	c := startCollector(t)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", c.url)
	t.Setenv("OTEL_TRACES_SAMPLER", "parentbased_always_off")
	t.Setenv("SESSION_DEBUG", "id:"+public(chosen.token)[:12])
	hub = startHub(t, demoConfig, dir)
	for _, client := range []*rawClient{chosen, other} {
		client.url = hub.url()
		client.request("tools/call", `{"name":"demo__echo","arguments":{"text":"x"}}`)
	}
	hub.terminate(20 * time.Second)
	spans := c.traces.String()
	if !strings.Contains(spans, public(chosen.token)) || !strings.Contains(spans, "tools/call echo") {
		t.Error("the chosen session is not traced")
	}
	if strings.Contains(spans, public(other.token)) {
		t.Error("the other session is traced")
	}
	for token, want := range map[string]bool{chosen.token: true, other.token: false} {
		found := slices.ContainsFunc(hub.logged("session in use"), func(r map[string]any) bool { return r["session"] == public(token) })
		if found != want {
			t.Errorf("%s: logged at TRACE: %t", public(token), found)
		}
	}
}
