package main

import (
	"encoding/json"
	"strings"
	"testing"

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
	if got := levels(); len(got) != 10 || got["session"] != "warn" || got["gateway"] != "error" || got["admin"] != "warn" ||
		got["default"] != "debug" ||
		got["upstream"] != "debug" {
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
	status, _, errs := mcphub(
		t,
		"",
		"serve",
		"--data-dir",
		t.TempDir(),
		"--listen",
		hubtest.FreeAddress(t),
		"--admin-listen",
		hubtest.FreeAddress(t),
	)
	if status != 2 || !strings.Contains(errs, "MCPHUB_LOG, entry 1: unknown subsystem; did you mean session?") {
		t.Errorf("%d %s", status, errs)
	}
}
