package session_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcphub-go/mcphub/pkg/persist"
	"github.com/mcphub-go/mcphub/pkg/session"
)

func TestHangingStoreDelaysCallersByWriteTimeoutAtMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit = 3 * time.Second
		store := newFaulty()
		m := session.New(store, session.Config{WriteTimeout: limit})
		kept, token := create(t, m)
		gone, _ := create(t, m)
		rename(t, m, kept.ID, "renamed")
		release := store.block() // and it ignores its ctx
		defer release()
		for name, fn := range map[string]func() error{
			"Create": func() error {
				_, _, err := m.Create(t.Context(), session.Session{})
				return err
			},
			"End": func() error {
				ok, err := m.End(t.Context(), gone.ID, session.ClientDelete)
				if !ok {
					t.Error("End found no session")
				}
				return err
			},
			"UpdateDurably": func() error {
				return m.UpdateDurably(t.Context(), kept.ID, func(s *session.Session) { s.LogLevel = "debug" })
			},
			"Flush": func() error {
				err := m.Flush(t.Context())
				if !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("Flush = %v", err)
				}
				return fmt.Errorf("%w: %w", session.ErrUnavailable, err) // Flush itself does not return ErrUnavailable
			},
		} {
			start := time.Now()
			err := fn()
			if took := time.Since(start); !errors.Is(err, session.ErrUnavailable) || took != limit {
				t.Errorf("%s took %s: %v; want ErrUnavailable after %s", name, took, err, limit)
			}
		}
		acquire(t, m, token).Release() // Acquire needs no store
		release()
		synctest.Wait() // the blocked writes complete now
		check(t, m.Flush(t.Context()))
		made, _ := create(t, m)
		want := []string{kept.ID, made.ID}
		slices.Sort(want)
		if got := keys(t, store); !slices.Equal(got, want) {
			t.Errorf("the store holds %v; want %v", got, want)
		}
		if s := stored(t, store, kept.ID); s.ClientName != "renamed" || s.LogLevel != "debug" {
			t.Errorf("the store has %+v", s)
		}
	})
}

func TestListReturnsPagesInOrderOfIDs(t *testing.T) {
	store := newFaulty()
	put(t, store, "zz", fresh("zz")) // not loaded
	m := restored(t, store, session.Config{})
	var all []string
	for range 5 {
		s, _ := create(t, m)
		all = append(all, s.ID)
	}
	slices.Sort(all)
	for _, tt := range []struct {
		after string
		limit int
		want  []string
	}{
		{"", 0, all}, {"", 2, all[:2]}, {all[1], 2, all[2:4]}, {all[3], 2, all[4:]}, {all[4], 2, nil}, {"", 99, all},
		{all[1], 0, all[2:]}, {all[1] + "0", 1, all[2:3]}, // a session of the page before may have ended meanwhile
	} {
		page, count, restoring := m.List(tt.after, tt.limit)
		var got []string
		for _, i := range page {
			got = append(got, i.ID)
		}
		if !slices.Equal(got, tt.want) || count != 5 || restoring != 1 {
			t.Errorf("List(%q, %d) = %v of %d, %d to come; want %v", tt.after, tt.limit, got, count, restoring, tt.want)
		}
	}
}

// Regression: touches were written once a minute, even with a shorter idle timeout.
func TestSessionInUseSurvivesCrashWithAnyIdleTimeout(t *testing.T) {
	for touched := 30; touched < 45; touched++ { // at each offset to the flush
		synctest.Test(t, func(t *testing.T) {
			store := newFaulty()
			m, stop := running(t, store, session.Config{IdleTimeout: 20 * time.Second})
			s, token := create(t, m)
			for range touched {
				time.Sleep(time.Second)
				m.Touch(s.ID)
			}
			stop() // without a last flush
			time.Sleep(4 * time.Second)
			m = restored(t, store, session.Config{IdleTimeout: 20 * time.Second})
			if l, err := m.Acquire(t.Context(), token, ""); err != nil {
				t.Errorf("touched %d times: %v", touched, err)
			} else {
				l.Release()
			}
		})
	}
}

func TestCheckRecordAcceptsLoadableRecords(t *testing.T) {
	store := new(persist.Memory)
	s, _ := create(t, session.New(store, session.Config{}))
	for id, data := range map[string]string{"s1": fresh("s1"), s.ID: record(t, store, s.ID)} {
		check(t, session.CheckRecord(id, []byte(data)))
	}
	for data, why := range map[string]string{
		"":                      "not a session record",
		`[]`:                    "not a session record",
		fresh("s1") + "x":       "not a session record",
		fresh("s2"):             `has the session id "s2"`,
		`{"sessionId":"s1"}`:    "is missing",
		`{"schemaVersion":999}`: "schema version 999",
	} {
		if err := session.CheckRecord("s1", []byte(data)); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v; want %q", data, err, why)
		}
	}
}
