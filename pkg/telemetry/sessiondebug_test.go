package telemetry

import (
	"log/slog"
	"slices"
	"strings"
	"testing"
)

func messages(t *testing.T, stderr *buffer) (msgs []string) {
	t.Helper()
	for _, r := range stderr.records(t) {
		if r["subsystem"] == "session" {
			msgs = append(msgs, r["msg"].(string))
		}
	}
	return msgs
}

func TestSessionDebugSetsTheLevelOfTheSessionCode(t *testing.T) {
	normal := []string{"info", "notice", "warn", "error"}
	debug := append([]string{"debug"}, normal...)
	all := append([]string{"trace"}, debug...)
	for value, want := range map[string][]string{
		"": normal, "0": normal, "off": normal, "false": normal, "False": normal,
		"1": debug, "true": debug, "debug": debug, "on": debug, " ON ": debug,
		"2": all, "trace": all,
		"id:abc": normal, "id: xyz , abc": normal,
	} {
		t.Run(value, func(t *testing.T) {
			tel, stderr := start(t, Config{SessionDebug: value})
			logAll(tel.LoggerFor("session"))
			if got := messages(t, stderr); !slices.Equal(got, want) {
				t.Errorf("session code logs %v, want %v", got, want)
			}
			if tel.Logger().Enabled(t.Context(), slog.LevelDebug) {
				t.Error("the other code logs at DEBUG")
			}
		})
	}
}

func TestSessionDebugNeverRaisesTheLevelOfTheSessionCode(t *testing.T) {
	for _, value := range []string{"", "1", "2", "id:abc"} {
		tel, stderr := start(t, Config{SessionDebug: value, LogLevel: levelTrace})
		logAll(tel.LoggerFor("session"))
		if got := messages(t, stderr); len(got) != len(levels) {
			t.Errorf("%q: %v", value, got)
		}
	}
}

func TestSessionDebugCanSelectSessions(t *testing.T) {
	all := []string{"trace", "debug", "info", "notice", "warn", "error"}
	normal := all[2:]
	for name, test := range map[string]struct {
		log  func(*slog.Logger)
		want []string
	}{
		"in the record":            {func(l *slog.Logger) { logAll(l, "n", 1, "session", "abc") }, all},
		"second of the list":       {func(l *slog.Logger) { logAll(l, "session", "xyz") }, all},
		"in the logger":            {func(l *slog.Logger) { logAll(l.With("session", "abc")) }, all},
		"in the logger, below":     {func(l *slog.Logger) { logAll(l.With("session", "abc").WithGroup("g").With("k", 1)) }, all},
		"another session":          {func(l *slog.Logger) { logAll(l, "session", "ab") }, normal},
		"a session that begins so": {func(l *slog.Logger) { logAll(l, "session", "abcd") }, all},
		"another attribute":        {func(l *slog.Logger) { logAll(l, "id", "abc") }, normal},
		"another's logger":         {func(l *slog.Logger) { l.With("session", "abc"); logAll(l.With("session", "b")) }, normal},
		"no attribute":             {func(l *slog.Logger) { logAll(l) }, normal},
	} {
		t.Run(name, func(t *testing.T) {
			tel, stderr := start(t, Config{SessionDebug: "id:abc,xyz.thesecretverifier"})
			test.log(tel.LoggerFor("session"))
			if got := messages(t, stderr); !slices.Equal(got, test.want) {
				t.Errorf("logged %v, want %v", got, test.want)
			}
		})
	}
}

func TestSessionDebugErrorNamesVariableAndValuesButNoSession(t *testing.T) {
	for _, value := range []string{"3", "yes", "id:", "id:a,,b", "id:.verifier", "abc.verifier"} {
		_, err := Start(t.Context(), Config{SessionDebug: value, Stderr: new(buffer)})
		if err == nil {
			t.Errorf("%q is accepted", value)
			continue
		}
		for _, want := range []string{"SESSION_DEBUG", "off", "debug", "trace", "id:<sessionId>"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%q: %v; lacks %s", value, err, want)
			}
		}
		if strings.Contains(err.Error(), "verifier") {
			t.Errorf("the error tells the token: %v", err)
		}
	}
}
