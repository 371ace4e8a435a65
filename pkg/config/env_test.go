package config

import (
	"reflect"
	"strings"
	"testing"
)

func TestEnvironmentOverridesTheFile(t *testing.T) {
	t.Setenv("HOME", "/home/someone")
	c := mustParse(t, everything)
	env := map[string]string{
		"MCPHUB_LISTEN": "127.0.0.1:1", "MCPHUB_ADMIN_LISTEN": "127.0.0.1:2", "MCPHUB_DATA_DIR": "~/d",
		"MCPHUB_LOG_LEVEL": "warn", "MCPHUB_LOG_FORMAT": "tint",
		"MCPHUB_LOG": "session=debug, upstream=error",
	}
	if err := c.ApplyEnv(func(name string) (string, bool) { v, ok := env[name]; return v, ok }); err != nil {
		t.Fatal(err)
	}
	if c.Listen != "127.0.0.1:1" || c.Admin.Listen != "127.0.0.1:2" || c.DataDir != "/home/someone/d" ||
		!reflect.DeepEqual(c.Log, Log{"warn", map[string]string{"gateway": "warn", "session": "debug", "upstream": "error"}, "tint"}) {
		t.Errorf("%+v", c)
	}
	if c.Naming != "conflict" || len(c.Servers) != 2 {
		t.Error("something else changed")
	}
}

func TestEmptyVariableOverridesNothing(t *testing.T) {
	c := mustParse(t, everything)
	if err := c.ApplyEnv(func(string) (string, bool) { return "", true }); err != nil {
		t.Fatal(err)
	}
	if c.Listen != ":80" {
		t.Error(c.Listen)
	}
}

func TestWrongEnvironmentIsRefusedByName(t *testing.T) {
	c := Default()
	err := c.ApplyEnv(func(string) (string, bool) { return "canary", true })
	if err == nil || strings.Contains(err.Error(), "canary") {
		t.Fatal(err)
	}
	for _, want := range []string{
		"MCPHUB_LISTEN: is not an address; expected an address host:port",
		"MCPHUB_ADMIN_LISTEN: is not an address",
		"MCPHUB_LOG_LEVEL: unknown value; expected trace, debug, info, notice, warn or error",
		"MCPHUB_LOG_FORMAT: unknown value; expected auto, tint or json",
		"MCPHUB_LOG, entry 1: is not of the form SUBSYSTEM=LEVEL; expected such as session=debug",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in\n%v", want, err)
		}
	}
}

func TestWrongFlagsAreRefusedByName(t *testing.T) {
	c := Default()
	err := c.ApplyFlags(func(string) (string, bool) { return "canary", true })
	if err == nil || strings.Contains(err.Error(), "canary") {
		t.Fatal(err)
	}
	for _, want := range []string{
		"--listen: is not an address; expected an address host:port",
		"--admin-listen: is not an address",
		"--log-level: unknown value; expected trace, debug, info, notice, warn or error",
		"--log-format: unknown value; expected auto, tint or json",
		"--trace-parent: unknown value; expected remote, link or ignore",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in\n%v", want, err)
		}
	}
}

func TestEveryLevelThatARunningHubTakesIsTakenAtTheStart(t *testing.T) {
	for _, level := range []string{"trace", "debug", "info", "notice", "warn", "error"} {
		c := mustParse(t, "log: {level: "+level+", levels: {session: "+level+"}}")
		lookup := func(name string) (string, bool) { return "upstream=" + level, name == "MCPHUB_LOG" }
		if err := c.ApplyEnv(lookup); err != nil || c.Log.Level != level || c.Log.Levels["upstream"] != level {
			t.Errorf("%s: %v", level, err)
		}
	}
}

func TestFinishMakesAnyConfigUsable(t *testing.T) {
	t.Setenv("HOME", "/home/someone")
	c := Config{Servers: []Server{{Name: "a", Command: "x", Cwd: "~/w"}, {Name: "b", URL: "http://h/"}}}
	if err := c.Finish(); err != nil {
		t.Fatal(err)
	}
	if c.Listen != Default().Listen || c.DataDir != "/home/someone/.mcp-hub-lite" || c.Servers[0].Cwd != "/home/someone/w" ||
		c.Servers[0].Isolation != "shared" || c.Servers[1].Isolation != "session" {
		t.Errorf("%+v", c)
	}
}

func TestHomeThatCannotBeFoundIsRefused(t *testing.T) {
	t.Setenv("HOME", "")
	c := Default()
	if err := c.Finish(); err == nil || !strings.Contains(err.Error(), "home directory") {
		t.Error(err)
	}
	if err := c.Validate(); err == nil || !strings.Contains(err.Error(), "dataDir: the ~ was not replaced") {
		t.Error(err)
	}
}

func TestValidateNamesTheServer(t *testing.T) {
	c := Default()
	c.DataDir = "/d"
	c.Servers = []Server{
		{Name: "docs", URL: "https://canary:canary@h/", Isolation: "session", ConnectTimeout: 1, CallTimeout: 1},
		{Name: "docs", Command: "x", Isolation: "shared", ConnectTimeout: 1},
	}
	err := c.Validate()
	if err == nil || strings.Contains(err.Error(), "canary") {
		t.Fatal(err)
	}
	for _, want := range []string{
		"mcpServers.docs.url: contains a user name or password",
		"mcpServers.docs: is the name of two servers",
		"mcpServers.docs.callTimeout: is not positive",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in\n%v", want, err)
		}
	}
}

func TestWrongLogLevelsAreRefusedWithTheirPlaceAndWhatIsValid(t *testing.T) {
	for text, want := range map[string]string{
		"session=debug,sesion=info": "MCPHUB_LOG, entry 2: unknown subsystem; did you mean session?",
		"canary=info": "MCPHUB_LOG, entry 1: unknown subsystem; expected one of admin, catalog, gateway, mcp," +
			" persist, server, session, telemetry, upstream",
		"default=info":   "MCPHUB_LOG, entry 1: unknown subsystem",
		"session=canary": "MCPHUB_LOG, entry 1: unknown value; expected trace, debug, info, notice, warn or error",
		"session=":       "MCPHUB_LOG, entry 1: unknown value",
		"session=info,":  "MCPHUB_LOG, entry 2: is not of the form SUBSYSTEM=LEVEL",
	} {
		c := Default()
		err := c.ApplyEnv(func(name string) (string, bool) { return text, name == "MCPHUB_LOG" })
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
		if c.Log.Levels != nil {
			t.Errorf("%s set %v", text, c.Log.Levels)
		}
	}
}

func TestValidateChecksLevelsThatWereSetInCode(t *testing.T) {
	c := Default()
	c.Log.Levels = map[string]string{"session": "loud", "sesion": "info"}
	err := c.Validate()
	for _, want := range []string{"log.levels.session: unknown value", "log.levels.sesion: unknown subsystem; did you mean session?"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
