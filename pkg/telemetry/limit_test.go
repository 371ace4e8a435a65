package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// count returns how many records have this message.
func count(t *testing.T, stderr *buffer, msg string) (n int) {
	t.Helper()
	for _, r := range stderr.records(t) {
		if r["msg"] == msg {
			n++
		}
	}
	return n
}

func summaries(t *testing.T, stderr *buffer) (all []map[string]any) {
	t.Helper()
	for _, r := range stderr.records(t) {
		if r["msg"] == "log records were suppressed" {
			delete(r, "time")
			delete(r, "msg")
			all = append(all, r)
		}
	}
	return all
}

func TestRepeatedWarningsAreLimitedAndSummarizedOncePerMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tel, stderr := start(t, Config{})
		l := tel.LoggerFor("session")
		for range 2 {
			for i := range 1000 {
				l.Warn("session refused: wrong verifier", "session", i)
			}
			time.Sleep(limitWindow)
			synctest.Wait()
		}
		if n := count(t, stderr, "session refused: wrong verifier"); n != 2*maxRepeats {
			t.Errorf("%d records are written, want %d", n, 2*maxRepeats)
		}
		want := map[string]any{"level": "WARN", "subsystem": "session", "of": "session refused: wrong verifier", "suppressed": 990}
		got := summaries(t, stderr)
		if len(got) != 2 || !equalJSON(got[0], want) || !equalJSON(got[1], want) {
			t.Errorf("summaries %v, want twice %v", got, want)
		}
		wantMetric(t, tel, `mcphub_log_records_suppressed_total{subsystem="session"} 1980`)
		wantMetric(t, tel, `mcphub_log_records_suppressed_total{subsystem="main"} 0`)
		wantMetric(t, tel, `mcphub_log_records_total{level="warn"} 22`)

		time.Sleep(time.Hour) // without records there are no summaries
		synctest.Wait()
		if n := len(stderr.records(t)); n != 22 {
			t.Errorf("%d records", n)
		}
	})
}

func TestKindsOfRecordsDoNotLimitEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tel, stderr := start(t, Config{})
		up := tel.LoggerFor("upstream")
		for range maxRepeats {
			up.Warn("server is down", "upstream", "a")
			up.With("upstream", "b").Warn("server is down")
			up.With("upstream", "c").WithGroup("g").Error("server is down")
			tel.LoggerFor("gateway").Warn("server is down", "upstream", "a")
			tel.Logger().Warn("server is down")
			up.Warn("something else", "upstream", "a")
		}
		if n := len(stderr.records(t)); n != 6*maxRepeats {
			t.Errorf("%d records, want %d", n, 6*maxRepeats)
		}
		up.With("upstream", "b").Error("server is down")
		time.Sleep(limitWindow)
		synctest.Wait()
		got := summaries(t, stderr)
		if len(got) != 1 || got[0]["upstream"] != "b" || got[0]["level"] != "ERROR" || got[0]["suppressed"] != 1.0 {
			t.Errorf("summaries: %v", got)
		}
	})
}

func TestRecordsBelowWarnAreNotLimited(t *testing.T) {
	tel, stderr := start(t, Config{})
	for range 1000 {
		tel.LoggerFor("session").Info("session created")
	}
	if n := count(t, stderr, "session created"); n != 1000 {
		t.Errorf("%d records", n)
	}
}

func TestOutputIsLimitedForEachServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tel, stderr := start(t, Config{})
		for _, name := range []string{"chatty", "quiet"} {
			l := tel.LoggerFor("server").With("upstream", name)
			for range maxOutput {
				l.Info(serverOutput, "line", "x")
			}
		}
		for range 5000 {
			tel.LoggerFor("server").With("upstream", "chatty").Info(serverOutput, "line", "x")
		}
		if n := count(t, stderr, serverOutput); n != 2*maxOutput {
			t.Errorf("%d lines, want %d", n, 2*maxOutput)
		}
		_ = tel.Shutdown(context.Background())
		if got := summaries(t, stderr); len(got) != 1 || got[0]["upstream"] != "chatty" ||
			got[0]["level"] != "INFO" || got[0]["suppressed"] != 5000.0 {
			t.Errorf("summaries: %v", got)
		}
	})
}

func TestLimiterKeepsABoundedNumberOfKinds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tel, stderr := start(t, Config{})
		long := strings.Repeat("x", 1<<20)
		for i := range 10 * maxKinds {
			tel.LoggerFor("catalog").Warn(fmt.Sprint(i, long[:i]))
		}
		tel.LoggerFor("catalog").With("upstream", long).Warn(long)
		if n := len(tel.limit.kinds); n > maxKinds+1 {
			t.Errorf("%d kinds are remembered", n)
		}
		for k := range tel.limit.kinds {
			if len(k.message) > maxKindBytes || len(k.upstream) > maxKindBytes {
				t.Errorf("%d bytes of a message are remembered", len(k.message))
			}
		}
		if n := len(stderr.records(t)); n != maxKinds+maxRepeats {
			t.Errorf("%d records are written", n)
		}
		time.Sleep(limitWindow)
		synctest.Wait()
		if got := summaries(t, stderr); len(got) != 1 || got[0]["of"] != "several messages" {
			t.Errorf("summaries: %v", got)
		}
		if len(tel.limit.kinds) != 0 {
			t.Errorf("%d kinds are left", len(tel.limit.kinds))
		}
	})
}

func TestShutdownWritesSummariesAndEndsTheLimit(t *testing.T) {
	tel, stderr := start(t, Config{})
	for range maxRepeats + 5 {
		tel.Logger().Error("no room")
	}
	_ = tel.Shutdown(t.Context())
	tel.Logger().Error("no room")
	if n := count(t, stderr, "no room"); n != maxRepeats+1 {
		t.Errorf("%d records", n)
	}
	if got := summaries(t, stderr); len(got) != 1 || got[0]["suppressed"] != 5.0 {
		t.Errorf("summaries: %v", got)
	}
}

func TestSuppressedWarningAllocatesNothing(t *testing.T) {
	tel, _ := start(t, Config{})
	l, err := tel.LoggerFor("upstream").With("upstream", "a"), errors.New("x")
	warn := func() { l.LogAttrs(t.Context(), slog.LevelWarn, "server is down", slog.Any("err", err)) }
	for range maxRepeats + 1 {
		warn()
	}
	if allocs := testing.AllocsPerRun(100, warn); allocs > 0 {
		t.Errorf("%v allocations", allocs)
	}
}
