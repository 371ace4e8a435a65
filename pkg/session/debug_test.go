package session_test

import (
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
	"github.com/mcphub-go/mcphub/pkg/persist"
	"github.com/mcphub-go/mcphub/pkg/session"
)

// debugLog returns the records about one session: the message and, if it has one, the reason.
func debugLog(t *testing.T, log *hubtest.Buffer, id string) (said []string) {
	t.Helper()
	for line := range strings.Lines(log.String()) {
		var r struct{ Msg, Session, Why, Reason string }
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		if r.Session == id {
			said = append(said, strings.TrimSuffix(r.Msg+": "+r.Why+r.Reason, ": "))
		}
	}
	return said
}

func TestTheDebugLogTellsTheStoryOfASession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, store := &hubtest.Buffer{}, newFaulty()
		config := session.Config{Logger: slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
		m, stop := running(t, store, config)
		s, token, err := m.Create(t.Context(), session.Session{})
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Update(t.Context(), s.ID, func(s *session.Session) {
			s.State, s.Cwd = session.Ready, "/secret-canary"
			s.Subscriptions = []string{"file:///secret-canary"}
		}); err != nil {
			t.Fatal(err)
		}
		fails := true
		store.mu.Lock()
		store.onApply = func(int, []persist.Change) error {
			if fails {
				fails = false
				return errDisk
			}
			return nil
		}
		store.mu.Unlock()
		time.Sleep(time.Minute) // and once more, because the first write fails
		lease, err := m.Acquire(t.Context(), token, "")
		if err != nil {
			t.Fatal(err)
		}
		lease.Release()
		time.Sleep(10 * time.Second)
		stop()

		m, stop = running(t, store, config)
		time.Sleep(time.Hour)
		stop()
		want := []string{
			"session flushed", "session created",
			"session became dirty: an update of cwd, state, subscriptions", "session became dirty: its write failed", "session flushed",
			"session became dirty: use; the stored time of its last use is old", "session flushed",
			"session restored", "session became dirty: its end: idle_timeout", "session ended: idle_timeout", "session flushed",
		}
		if said := debugLog(t, log, s.ID); !slices.Equal(said, want) {
			t.Errorf("the log says\n%s\nwant\n%s", strings.Join(said, "\n"), strings.Join(want, "\n"))
		}
		if strings.Contains(log.String(), "secret-canary") {
			t.Error("the log shows a value")
		}
		_ = m
	})
}

func TestAMarkIsLoggedOutsideOfTheLock(t *testing.T) {
	var m *session.Manager
	m = session.New(&persist.Memory{}, session.Config{Logger: slog.New(slog.NewTextHandler(writerFunc(func(p []byte) (int, error) {
		m.Has(t.Context(), "x") // which takes the lock
		return len(p), nil
	}), &slog.HandlerOptions{Level: slog.LevelDebug}))})
	s, _, err := m.Create(t.Context(), session.Session{})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.UpdateDurably(t.Context(), s.ID, func(s *session.Session) { s.State = session.Ready }); err != nil {
		t.Fatal(err)
	}
	if _, err := m.End(t.Context(), s.ID, session.Admin); err != nil {
		t.Fatal(err)
	}
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
