package session_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mcphub-go/mcphub/pkg/persist"
	"github.com/mcphub-go/mcphub/pkg/session"
)

// A2: a change could wait a quarter of an hour for the disk.
func TestChangeIsWrittenFlushIntervalAfterTheFirstMark(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFaulty()
		m, stop := running(t, store, session.Config{})
		defer stop()
		s, _ := create(t, m)
		time.Sleep(23 * time.Second) // idle for longer than one interval
		for i := range 5 {           // a debounce would restart each time
			rename(t, m, s.ID, strings.Repeat("x", i+1))
			time.Sleep(999 * time.Millisecond)
		}
		if got := stored(t, store, s.ID).ClientName; got != "probe" {
			t.Errorf("after 4.995 s %q is stored already", got)
		}
		time.Sleep(6 * time.Millisecond)
		if got := stored(t, store, s.ID).ClientName; got != "xxxxx" {
			t.Errorf("after 5.001 s %q is stored; want the last change", got)
		}
		if i, err := m.Info(t.Context(), s.ID); err != nil || i.Dirty {
			t.Errorf("Info = %+v, %v; want a clean session", i, err)
		}
		time.Sleep(time.Hour / 4)
		if got := len(store.applied()); got != 2 {
			t.Errorf("%d batches were written; want the creation and one more", got)
		}
	})
}

// A10: marks made during a write were cleared together with those of the write.
func TestChangeDuringAWriteIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFaulty()
		m := session.New(store, session.Config{})
		s, _ := create(t, m)
		rename(t, m, s.ID, "first")
		release := store.block()
		flushed := make(chan error)
		go func() { flushed <- m.Flush(t.Context()) }()
		synctest.Wait()
		rename(t, m, s.ID, "second")
		release()
		check(t, <-flushed)
		if got := stored(t, store, s.ID).ClientName; got != "first" {
			t.Errorf("the write in progress stored %q", got)
		}
		if i, _ := m.Info(t.Context(), s.ID); !i.Dirty {
			t.Error("the change during the write is lost")
		}
		check(t, m.Flush(t.Context()))
		if got := stored(t, store, s.ID).ClientName; got != "second" {
			t.Errorf("the next write stored %q", got)
		}
	})
}

// A9: a failed write was neither tried again nor visible.
func TestFailedWriteIsTriedAgainWithoutAnotherMark(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg, store := prometheus.NewPedanticRegistry(), newFaulty()
		m, stop := running(t, store, session.Config{Registerer: reg})
		defer stop()
		s, _ := create(t, m)
		var tries []time.Duration
		start := time.Now()
		store.during(func(int, []persist.Change) error {
			tries = append(tries, time.Since(start))
			return errDisk
		})
		rename(t, m, s.ID, "renamed")
		time.Sleep(time.Minute)
		if age := metric(t, reg, "mcphub_session_oldest_dirty_age_seconds", "protocol"); age != 60 {
			t.Errorf("the oldest dirty age is %v after 60 s of failures", age)
		}
		synctest.Wait()
		for i, want := range []time.Duration{5 * time.Second, time.Second, 2 * time.Second, 4 * time.Second,
			5 * time.Second, 5 * time.Second} {
			pause := tries[i]
			if i > 0 {
				pause -= tries[i-1]
			}
			if pause > want || pause < want*3/4-time.Millisecond {
				t.Errorf("try %d came after %v; want about %v", i+1, pause, want)
			}
		}
		if failed := metric(t, reg, "mcphub_session_flushes_total", "error"); failed != float64(len(tries)) {
			t.Errorf("%v failures were counted; want %d", failed, len(tries))
		}
		store.during(nil)
		time.Sleep(5 * time.Second)
		if got := stored(t, store, s.ID).ClientName; got != "renamed" {
			t.Errorf("after the store has recovered it holds %q", got)
		}
		if dirty := metric(t, reg, "mcphub_sessions_dirty", "protocol"); dirty != 0 {
			t.Errorf("%v sessions are dirty after the store has recovered", dirty)
		}
	})
}

func TestHangingWriteIsVisibleInMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg, store := prometheus.NewPedanticRegistry(), newFaulty()
		m, stop := running(t, store, session.Config{Registerer: reg})
		defer stop()
		s, _ := create(t, m)
		release := store.block()
		defer release()
		rename(t, m, s.ID, "renamed")
		time.Sleep(time.Minute)
		if dirty := metric(t, reg, "mcphub_sessions_dirty", "protocol"); dirty != 1 {
			t.Errorf("%v sessions are dirty; want 1", dirty)
		}
		rename(t, m, s.ID, "renamed again")
		if age := metric(t, reg, "mcphub_session_oldest_dirty_age_seconds", "protocol"); age != 60 {
			t.Errorf("the oldest dirty age is %v s; want 60", age)
		}
		if dirty := metric(t, reg, "mcphub_sessions_dirty", "protocol"); dirty != 1 {
			t.Errorf("%v sessions are dirty; want the same one", dirty)
		}
		if i, _ := m.Info(t.Context(), s.ID); !i.Dirty {
			t.Error("Info does not say that the session is dirty")
		}
	})
}

func TestRecordThatCannotBeWrittenDoesNotDelayTheOthers(t *testing.T) {
	poison := map[string]func(*faulty, *session.Session){
		"refused by the store": func(f *faulty, s *session.Session) {
			id := s.ID
			f.during(func(_ int, changes []persist.Change) error {
				for _, c := range changes {
					if c.Key == id && c.Value != nil {
						return &persist.BatchError{Failed: map[string]error{id: errDisk}}
					}
				}
				return nil
			})
		},
		"no JSON": func(_ *faulty, s *session.Session) {
			s.Metadata = map[string]json.RawMessage{"x": json.RawMessage("{")}
		},
		"too large": func(_ *faulty, s *session.Session) {
			s.ClientName = strings.Repeat("x", persist.MaxValue)
		},
	}
	for name, spoil := range poison {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				reg, store := prometheus.NewPedanticRegistry(), newFaulty()
				m, stop := running(t, store, session.Config{Registerer: reg})
				defer stop()
				bad, _ := create(t, m)
				good, _ := create(t, m)
				check(t, m.Update(t.Context(), bad.ID, func(s *session.Session) { spoil(store, s) }))
				for range 3 {
					time.Sleep(90 * time.Second) // enough failures for the longest pause
					name := time.Now().String()
					rename(t, m, good.ID, name)
					time.Sleep(5*time.Second + time.Millisecond)
					if got := stored(t, store, good.ID).ClientName; got != name {
						t.Fatal("a good session was not written within FlushInterval")
					}
					if _, _, err := m.Create(t.Context(), session.Session{}); err != nil {
						t.Fatal(err)
					}
				}
				if dirty := metric(t, reg, "mcphub_sessions_dirty", "protocol"); dirty != 1 {
					t.Errorf("%v sessions are dirty; want the bad one", dirty)
				}
				end(t, m, bad.ID) // as the runbook recommends
				check(t, m.Flush(t.Context()))
			})
		})
	}
}

// A4: one change rewrote the whole store.
func TestFlushWritesOnlyDirtySessions(t *testing.T) {
	store := newFaulty()
	m := session.New(store, session.Config{})
	var last session.Session
	for range 1000 {
		last, _ = create(t, m)
	}
	rename(t, m, last.ID, "renamed")
	check(t, m.Flush(t.Context()))
	batches := store.applied()
	if got := batches[len(batches)-1]; len(got) != 1 || got[0] != last.ID {
		t.Errorf("one dirty session of 1000 was flushed as %v", got)
	}
}

func TestFlushWithoutChangesDoesNotCallTheStore(t *testing.T) {
	reg, store := prometheus.NewPedanticRegistry(), newFaulty()
	m := session.New(store, session.Config{Registerer: reg})
	check(t, m.Flush(t.Context()))
	if got := len(store.applied()); got != 0 || metric(t, reg, "mcphub_session_flushes_total", "skipped") != 1 {
		t.Errorf("%d batches were written, %v skipped", got, metric(t, reg, "mcphub_session_flushes_total", "skipped"))
	}
}

func TestFlushWithEndedContextWritesAndLosesNothing(t *testing.T) {
	store := newFaulty()
	m := session.New(store, session.Config{})
	s, _ := create(t, m)
	rename(t, m, s.ID, "renamed")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 100 {
		if err := m.Flush(ctx); !errors.Is(err, context.Canceled) {
			t.Fatalf("Flush = %v; want context.Canceled", err)
		}
	}
	check(t, m.Flush(t.Context()))
	if got := stored(t, store, s.ID).ClientName; got != "renamed" {
		t.Errorf("%q is stored", got)
	}
}

func TestUpdateDurablyReturnsAfterChangeIsStored(t *testing.T) {
	store := newFaulty()
	m := session.New(store, session.Config{})
	s, _ := create(t, m)
	bind := func(s *session.Session) { s.Upstreams = map[string]session.Upstream{"docs": {SessionID: "u1"}} }
	check(t, m.UpdateDurably(t.Context(), s.ID, bind))
	if got := stored(t, store, s.ID).Upstreams["docs"].SessionID; got != "u1" {
		t.Errorf("the stored upstream session is %q", got)
	}
	store.fail(errDisk)
	err := m.UpdateDurably(t.Context(), s.ID, func(s *session.Session) { s.LogLevel = "debug" })
	if !errors.Is(err, session.ErrUnavailable) {
		t.Errorf("with a failing store UpdateDurably = %v", err)
	}
	store.during(nil)
	check(t, m.Flush(t.Context()))
	if got := stored(t, store, s.ID).LogLevel; got != "debug" {
		t.Errorf("the change was not written later: %q", got)
	}
}

// B6: a deleted session came back.
func TestDeletedSessionIsNeverWrittenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFaulty()
		m := session.New(store, session.Config{})
		s, token := create(t, m)
		l := acquire(t, m, token)
		rename(t, m, s.ID, "renamed")
		release := store.block()
		var wg sync.WaitGroup
		wg.Go(func() { _ = m.Flush(t.Context()) })
		synctest.Wait() // the record is being written
		wg.Go(func() { _, _ = m.End(t.Context(), s.ID, session.ClientDelete) })
		synctest.Wait()
		changes := map[string]error{
			"Update":         m.Update(t.Context(), s.ID, func(*session.Session) {}),
			"UpdateDurably":  m.UpdateDurably(t.Context(), s.ID, func(*session.Session) {}),
			"UpdateMetadata": m.UpdateMetadata(t.Context(), s.ID, nil),
		}
		for call, err := range changes {
			if !errors.Is(err, session.ErrNotFound) {
				t.Errorf("%s of a deleted session = %v; want ErrNotFound", call, err)
			}
		}
		m.Touch(s.ID)
		release()
		wg.Wait()
		time.Sleep(time.Hour)
		l.Release()
		check(t, m.Flush(t.Context()))
		if got := keys(t, store); len(got) != 0 {
			t.Errorf("the store holds %v", got)
		}
	})
}
