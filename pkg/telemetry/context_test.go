package telemetry

import (
	"context"
	"testing"
)

type testSession struct{}

func sessionOf(ctx context.Context) string {
	id, _ := ctx.Value(testSession{}).(string)
	return id
}

func TestRecordsHaveTheSessionOfTheirContextOnce(t *testing.T) {
	tel, stderr := start(t, Config{SessionOf: sessionOf})
	ctx := context.WithValue(t.Context(), testSession{}, "abc")
	for _, name := range Subsystems() {
		tel.LoggerFor(name).InfoContext(ctx, "abc")
	}
	l := tel.Logger()
	l.InfoContext(ctx, "abc")
	l.WithGroup("g").InfoContext(ctx, "abc", "k", "v")
	l.InfoContext(ctx, "other", "session", "other")
	l.With("session", "other").InfoContext(ctx, "other")
	l.InfoContext(t.Context(), "")
	l.Info("")
	records := stderr.records(t)
	if len(records) != len(subsystems)+6 {
		t.Fatalf("log: %s", stderr)
	}
	for _, r := range records {
		if got, _ := r["session"].(string); got != r["msg"] {
			t.Errorf("record is %v", r)
		}
	}
}

func TestSessionDebugSelectsByTheSessionOfTheContextToo(t *testing.T) {
	tel, stderr := start(t, Config{SessionOf: sessionOf, SessionDebug: "id:abc"})
	for _, id := range []string{"abc", "xyz"} {
		tel.LoggerFor("session").DebugContext(context.WithValue(t.Context(), testSession{}, id), id)
	}
	if got := stderr.records(t); len(got) != 1 || got[0]["msg"] != "abc" {
		t.Errorf("log: %s", stderr)
	}
}
