package telemetry

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func levelOf(t *testing.T, tel *Telemetry, subsystem string) LevelState {
	t.Helper()
	for _, l := range tel.Levels().List() {
		if l.Subsystem == subsystem {
			return l
		}
	}
	t.Fatalf("no level of %s", subsystem)
	return LevelState{}
}

func set(t *testing.T, tel *Telemetry, d time.Duration, levels map[string]string) {
	t.Helper()
	if err := tel.Levels().Set(t.Context(), levels, d); err != nil {
		t.Fatal(err)
	}
}

func TestEachSubsystemHasItsOwnLevelOrTheDefault(t *testing.T) {
	tel, _ := start(t, Config{LogLevel: slog.LevelWarn, LogLevels: map[string]string{"session": "debug", "upstream": "error"}})
	for _, name := range append([]string{""}, Subsystems()...) {
		want := slog.LevelWarn
		l := tel.Logger()
		if name != "" {
			l = tel.LoggerFor(name)
		}
		switch name {
		case "session":
			want = slog.LevelDebug
		case "upstream":
			want = slog.LevelError
		}
		if !l.Enabled(t.Context(), want) || l.Enabled(t.Context(), want-1) {
			t.Errorf("%q does not log from %v on", name, want)
		}
	}
}

func TestRecordsNameTheirSubsystem(t *testing.T) {
	tel, stderr := start(t, Config{})
	for _, name := range Subsystems() {
		tel.LoggerFor(name).Info(name)
	}
	tel.Logger().Info("")
	for _, r := range stderr.records(t) {
		if got, _ := r["subsystem"].(string); got != r["msg"] {
			t.Errorf("record is %v", r)
		}
	}
}

func TestLowerOfSessionDebugAndOwnLevelApplies(t *testing.T) {
	for _, test := range []struct{ own, debug, want string }{
		{"", "", "info"}, {"warn", "", "warn"}, {"warn", "1", "debug"}, {"trace", "1", "trace"},
		{"error", "id:abc", "error"}, {"debug", "2", "trace"},
	} {
		cfg := Config{SessionDebug: test.debug, LogLevels: map[string]string{"session": test.own}}
		if test.own == "" {
			cfg.LogLevels = nil
		}
		tel, _ := start(t, cfg)
		if got := levelOf(t, tel, "session"); got.Level != test.want {
			t.Errorf("%+v: %+v", test, got)
		}
	}
}

func TestUnknownSubsystemOrLevelFailsStart(t *testing.T) {
	for name, want := range map[string]string{
		"sesion":     "admin, catalog, gateway, mcp, persist, server, session, telemetry, upstream",
		DefaultLevel: "admin, catalog",
		"session":    "trace, debug, info, notice, warn or error",
	} {
		_, err := Start(t.Context(), Config{Stderr: new(buffer), LogLevels: map[string]string{name: "loud"}})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestLevelChangeAppliesToExistingLoggersAndIsLogged(t *testing.T) {
	tel, stderr := start(t, Config{LogLevel: slog.LevelError, LogLevels: map[string]string{"telemetry": "error"}})
	l := tel.LoggerFor("gateway").With("k", 1)
	l.Debug("too early")
	set(t, tel, 0, map[string]string{"gateway": "debug", DefaultLevel: "warn"})
	l.Debug("now")
	tel.LoggerFor("upstream").Warn("default")
	set(t, tel, 0, map[string]string{"gateway": DefaultLevel})
	l.Info("too late")
	var msgs []string
	for _, r := range stderr.records(t) {
		msgs = append(msgs, r["msg"].(string))
	}
	if want := []string{"log levels changed", "now", "default", "log levels changed"}; !slices.Equal(msgs, want) {
		t.Errorf("logged %q, want %q", msgs, want)
	}
	if r := stderr.records(t)[0]; r["subsystem"] != "telemetry" ||
		!equalJSON(r["levels"], map[string]any{"default": "warn", "gateway": "debug"}) {
		t.Errorf("record is %v", r)
	}
}

func TestInvalidLevelChangesNothing(t *testing.T) {
	tel, stderr := start(t, Config{})
	before := tel.Levels().List()
	for _, test := range []struct {
		levels map[string]string
		d      time.Duration
		want   string
	}{
		{map[string]string{"session": "debug", "sesion": "debug"}, 0, `"sesion": want one of default, admin, catalog`},
		{map[string]string{"session": "debug", "upstream": "loud"}, 0, "upstream: log level \"loud\": want trace"},
		{map[string]string{DefaultLevel: DefaultLevel}, 0, "want trace"},
		{map[string]string{"": "debug"}, 0, "want one of"},
		{nil, 0, "no log level to set"},
		{map[string]string{"session": "debug"}, 25 * time.Hour, "between 1s and 24h0m0s"},
		{map[string]string{"session": "debug"}, -time.Minute, "between"},
		{map[string]string{"session": "debug"}, time.Millisecond, "between"},
	} {
		err := tel.Levels().Set(t.Context(), test.levels, test.d)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%v: %v, want %s", test.levels, err, test.want)
		}
	}
	if got := tel.Levels().List(); !slices.Equal(got, before) || stderr.String() != "" {
		t.Errorf("levels are %v\n%s", got, stderr)
	}
}

func TestTemporaryLevelGivesWayToThePermanentOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tel, stderr := start(t, Config{})
		set(t, tel, 0, map[string]string{"session": "warn"})
		set(t, tel, time.Minute, map[string]string{"session": "debug", "gateway": "trace"})
		set(t, tel, 10*time.Minute, map[string]string{"session": "trace"})
		want := LevelState{Subsystem: "session", Level: "trace", Own: true, Until: time.Now().Add(10 * time.Minute), Then: "warn"}
		if got := levelOf(t, tel, "session"); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := levelOf(t, tel, "gateway"); got != (LevelState{Subsystem: "gateway", Level: "info"}) {
			t.Errorf("after its time: %+v", got)
		}
		if got := levelOf(t, tel, "session"); got.Level != "trace" {
			t.Errorf("the first time ended the second: %+v", got)
		}
		time.Sleep(9 * time.Minute)
		synctest.Wait()
		if got := levelOf(t, tel, "session"); got != (LevelState{Subsystem: "session", Level: "warn", Own: true}) {
			t.Errorf("after its time: %+v", got)
		}
		if n := strings.Count(stderr.String(), "log level is back"); n != 2 {
			t.Errorf("%d records say so:\n%s", n, stderr)
		}
	})
}

func TestPermanentLevelEndsATemporaryOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tel, stderr := start(t, Config{})
		set(t, tel, time.Minute, map[string]string{"session": "debug", DefaultLevel: "error"})
		set(t, tel, 0, map[string]string{"session": "notice", DefaultLevel: "warn"})
		time.Sleep(time.Hour)
		synctest.Wait()
		if got := levelOf(t, tel, "session"); got.Level != "notice" || levelOf(t, tel, "admin").Level != "warn" {
			t.Errorf("%+v", tel.Levels().List())
		}
		if strings.Contains(stderr.String(), "is back") {
			t.Errorf("log: %s", stderr)
		}
	})
}

func TestShutdownStopsTheTimersOfLevels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // waits for all timers
		tel, stderr := start(t, Config{})
		set(t, tel, time.Hour, map[string]string{"session": "debug"})
		if err := tel.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		time.Sleep(2 * time.Hour)
		if err := tel.Levels().Set(t.Context(), map[string]string{"session": "debug"}, time.Hour); err == nil {
			t.Error("a level is set after the shutdown")
		}
		if strings.Contains(stderr.String(), "is back") {
			t.Errorf("log: %s", stderr)
		}
	})
}

func TestLevelsAreSafeForConcurrentUse(t *testing.T) {
	tel, _ := start(t, Config{Stderr: discard{}})
	var g sync.WaitGroup
	for i := range 4 {
		g.Go(func() {
			for j := range 200 {
				switch i {
				case 0:
					_ = tel.Levels().Set(context.Background(), map[string]string{"session": levels[j%len(levels)].name}, 0)
				case 1:
					_ = tel.Levels().Set(context.Background(), map[string]string{"session": "debug", DefaultLevel: "warn"}, time.Hour)
				case 2:
					tel.Levels().List()
				case 3:
					tel.LoggerFor("session").Info("x")
				}
			}
		})
	}
	g.Wait()
}
