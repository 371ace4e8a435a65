package session_test

import (
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mcphub-go/mcphub/pkg/persist"
	"github.com/mcphub-go/mcphub/pkg/session"
)

// The session manager of mcp-hub-lite had the defects A1 to C13; see docs/seed.md. Each
// test that guards against one has a comment with its number and description. The tests
// in this file have only that purpose.

// B3: the id was derived from the working directory.
func TestTwoWindowsOfOneClientGetTwoSessions(t *testing.T) {
	m := session.New(new(persist.Memory), session.Config{})
	window := session.Session{Principal: "alice", ClientName: "ide", Cwd: "/src", Project: "x", IP: "::1", UserAgent: "ide/1"}
	first, firstToken := createFor(t, m, window)
	second, secondToken := createFor(t, m, window)
	if first.ID == second.ID || firstToken == secondToken || verifierOf(firstToken) == verifierOf(secondToken) {
		t.Errorf("both are %s", first.ID)
	}
	end(t, m, first.ID)
	if !m.Has(t.Context(), second.ID) {
		t.Error("one window has ended the session of the other")
	}
}

// B12: a client could choose its id.
func TestCreateIgnoresIdentityFromItsCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFaulty()
		m := session.New(store, session.Config{})
		s, token := createFor(t, m, session.Session{
			ID: "chosen", TokenHash: sha256Hex("chosen"), State: session.Ready, CreatedAt: 1, LastAccessedAt: 9e12, SchemaVersion: 99,
		})
		now := time.Now().UnixMilli()
		if s.ID == "chosen" || s.TokenHash != sha256Hex(verifierOf(token)) || s.State != session.Initializing ||
			s.CreatedAt != now || s.LastAccessedAt != now || stored(t, store, s.ID).SchemaVersion != session.SchemaVersion {
			t.Errorf("the session is %+v", s)
		}
		for _, token := range []string{"chosen", "chosen.chosen", s.ID, s.ID + ".chosen"} {
			if _, err := m.Acquire(t.Context(), token, ""); !errors.Is(err, session.ErrNotFound) {
				t.Errorf("Acquire of %q = %v; want ErrNotFound", token, err)
			}
		}
	})
}

// A14: the session id "index" was the file name of the index. B7: requests for unknown
// ids created sessions.
func TestIDFromOutsideOpensNoFileAndCreatesNothing(t *testing.T) {
	path := t.TempDir()
	m := restored(t, openDir(t, path), session.Config{})
	create(t, m)
	before := names(t, path)
	for _, id := range []string{
		"index", "INDEX", "index.json", ".lock", ".", "..", "../x", "/etc/passwd", "quarantine", "quarantine/x", "a/b", `a\b`,
		"a\x00b", "a\nb", "é", strings.Repeat("a", 250), strings.Repeat("a", 5000), "", "unknown", "constructor", "__proto__",
	} {
		for call, err := range map[string]error{
			"Acquire":        second(m.Acquire(t.Context(), id, "")),
			"Acquire v":      second(m.Acquire(t.Context(), id+".v", "")),
			"Get":            second(m.Get(t.Context(), id)),
			"Info":           second(m.Info(t.Context(), id)),
			"Update":         m.Update(t.Context(), id, func(*session.Session) {}),
			"UpdateDurably":  m.UpdateDurably(t.Context(), id, func(*session.Session) {}),
			"UpdateMetadata": m.UpdateMetadata(t.Context(), id, values("a", "1")),
		} {
			if !errors.Is(err, session.ErrNotFound) {
				t.Errorf("%s of %.20q = %v; want ErrNotFound", call, id, err)
			}
		}
		if ok, err := m.End(t.Context(), id, session.Admin); ok || err != nil || m.Has(t.Context(), id) || m.Events(id) != nil {
			t.Errorf("there was a session %.20q: %v, %v", id, ok, err)
		}
		m.Touch(id)
		m.AddEvent(id, session.EventStreamOpened, "")
	}
	check(t, m.Flush(t.Context()))
	if after := names(t, path); !slices.Equal(after, before) || len(ids(m)) != 1 {
		t.Errorf("the directory holds %v; want %v", after, before)
	}
}

func names(t *testing.T, dir string) (all []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	check(t, err)
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

// C3: there were two times of the last access, and some calls updated only one.
func TestEveryUseMovesTheLastAccess(t *testing.T) {
	for name, use := range map[string]func(t *testing.T, m *session.Manager, id, token string){
		"Touch":   func(_ *testing.T, m *session.Manager, id, _ string) { m.Touch(id) },
		"Acquire": func(t *testing.T, m *session.Manager, _, token string) { acquire(t, m, token).Release() },
		"Update":  func(t *testing.T, m *session.Manager, id, _ string) { rename(t, m, id, "renamed") },
		"UpdateMetadata": func(t *testing.T, m *session.Manager, id, _ string) {
			check(t, m.UpdateMetadata(t.Context(), id, values("a", "1")))
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				reg, store := prometheus.NewPedanticRegistry(), newFaulty()
				m := session.New(store, session.Config{Registerer: reg})
				s, token := create(t, m)
				time.Sleep(20 * time.Minute)
				use(t, m, s.ID, token)
				check(t, m.Flush(t.Context()))
				now := time.Now()
				i, err := m.Info(t.Context(), s.ID)
				check(t, err)
				if i.LastAccessedAt != now.UnixMilli() || !i.ExpiresAt.Equal(now.Add(30*time.Minute)) ||
					stored(t, store, s.ID).LastAccessedAt != now.UnixMilli() ||
					metric(t, reg, "mcphub_session_oldest_idle_seconds", "protocol") != 0 {
					t.Errorf("used at %v: %+v, stored %d", now, i, stored(t, store, s.ID).LastAccessedAt)
				}
			})
		})
	}
}

// C4: the sweep had the interval of the flush.
func TestSweepHasItsOwnInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, stop := running(t, newFaulty(), session.Config{
			IdleTimeout: time.Minute, CleanupInterval: time.Second, FlushInterval: time.Hour,
		})
		defer stop()
		s, _ := create(t, m)
		time.Sleep(time.Minute - time.Millisecond)
		if !m.Has(t.Context(), s.ID) {
			t.Error("the session ended too early")
		}
		time.Sleep(time.Second + time.Millisecond)
		if m.Has(t.Context(), s.ID) {
			t.Error("the session has outlived its sweep")
		}
	})
}

// C5: the sweep did not wait for what it closed, and counted twice.
func TestCleanupWaitsForClosedSessionsAndCountsThemOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg, o := prometheus.NewPedanticRegistry(), new(opener)
		m := session.New(newFaulty(), session.Config{Registerer: reg, Open: o.open})
		const n = 10
		for range n {
			_, token := create(t, m)
			l := acquire(t, m, token)
			_, err := l.Live(t.Context())
			check(t, err)
			l.Release()
		}
		time.Sleep(31 * time.Minute)
		var wg sync.WaitGroup
		var total int
		var mu sync.Mutex
		for range 8 {
			wg.Go(func() {
				ended, err := m.Cleanup(t.Context())
				mu.Lock()
				defer mu.Unlock()
				if total += ended; err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if got := metric(t, reg, "mcphub_sessions_closed_total", "protocol", "idle_timeout"); total != n || got != n {
			t.Errorf("%d sessions were swept, %v counted; want %d", total, got, n)
		}
		o.expect(t, n, slices.Repeat([]session.Reason{session.IdleTimeout}, n)...)
	})
}

// C8: the same state was kept in three places, which became inconsistent.
func TestEndedSessionIsRemovedEverywhere(t *testing.T) {
	reg, store := prometheus.NewPedanticRegistry(), newFaulty()
	m := session.New(store, session.Config{Registerer: reg})
	s, token := create(t, m)
	check(t, m.UpdateMetadata(t.Context(), s.ID, values("a", "1")))
	end(t, m, s.ID)
	_, getErr := m.Get(t.Context(), s.ID)
	_, infoErr := m.Info(t.Context(), s.ID)
	_, acquireErr := m.Acquire(t.Context(), token, "")
	for _, err := range []error{getErr, infoErr, acquireErr} {
		if !errors.Is(err, session.ErrNotFound) {
			t.Errorf("after End: %v", err)
		}
	}
	if m.Has(t.Context(), s.ID) || len(ids(m)) != 0 || record(t, store, s.ID) != "" {
		t.Errorf("after End %v are live and %v stored", ids(m), keys(t, store))
	}
	for name, labels := range map[string][]string{
		"mcphub_sessions_active": {"protocol", "streamable_http"}, "mcphub_sessions_dirty": {"protocol"},
	} {
		if got := metric(t, reg, name, labels...); got != 0 {
			t.Errorf("after End %s = %v", name, got)
		}
	}
}

// C9: importing the module started timers and installed signal handlers.
func TestNewStartsNoGoroutine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // a goroutine left in the bubble is reported as a deadlock
		m := session.New(newFaulty(), session.Config{MaxSessions: 1, AtLimit: session.Evict})
		check(t, m.Restore(t.Context()))
		create(t, m)
		s, token := create(t, m)
		acquire(t, m, token).Release()
		rename(t, m, s.ID, "renamed")
		m.WatchEvents(1)
	})
}

// C11: the client had the id before the session was known.
func TestTokenOpensItsSessionImmediately(t *testing.T) {
	m := session.New(new(persist.Memory), session.Config{})
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for range 20 {
				s, token, err := m.Create(t.Context(), session.Session{Capabilities: json.RawMessage(`{}`)})
				if err != nil {
					t.Error(err)
					return
				}
				l, err := m.Acquire(t.Context(), token, "")
				if err != nil || l.Session().ID != s.ID || len(m.Events(s.ID)) != 1 {
					t.Errorf("Acquire = %v", err)
					return
				}
				l.Release()
			}
		})
	}
	wg.Wait()
}
