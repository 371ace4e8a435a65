package session_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcphub-go/mcphub/pkg/persist"
	"github.com/mcphub-go/mcphub/pkg/session"
)

// B6: a deleted session returned after a restart.
func TestEndIsDurable(t *testing.T) {
	path := t.TempDir()
	dir := openDir(t, path)
	m := session.New(dir, session.Config{})
	s, token := create(t, m)
	kept, keptToken := create(t, m)
	end(t, m, s.ID)
	check(t, dir.Close()) // a crash: without Close of the Manager

	m = restored(t, openDir(t, path), session.Config{})
	if _, err := m.Acquire(t.Context(), token, ""); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("after the crash Acquire of the deleted session = %v", err)
	}
	acquire(t, m, keptToken).Release()
	if got := ids(m); len(got) != 1 || got[0] != kept.ID {
		t.Errorf("after the crash there are %v", got)
	}
}

func TestEndReportsWhetherThereWasASession(t *testing.T) {
	m := session.New(new(persist.Memory), session.Config{})
	s, _ := create(t, m)
	end(t, m, s.ID)
	for _, id := range []string{s.ID, "nobody", "../x", ""} {
		if ok, err := m.End(t.Context(), id, session.ClientDelete); ok || err != nil {
			t.Errorf("End of %q = %v, %v; want no session, no error", id, ok, err)
		}
	}
}

// A client that disconnects after DELETE must not leave its session behind.
func TestEndCompletesAfterItsContextHasEnded(t *testing.T) {
	store := newFaulty()
	m := session.New(store, session.Config{})
	s, _ := create(t, m)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if ok, err := m.End(ctx, s.ID, session.ClientDelete); !ok || err != nil {
		t.Errorf("End = %v, %v", ok, err)
	}
	if got := keys(t, store); len(got) != 0 {
		t.Errorf("the store holds %v", got)
	}
}

func TestEndWithFailingStoreRemovesTheRecordLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFaulty()
		m, stop := running(t, store, session.Config{})
		defer stop()
		s, token := create(t, m)
		store.fail(errDisk)
		if ok, err := m.End(t.Context(), s.ID, session.ClientDelete); !ok || !errors.Is(err, session.ErrUnavailable) {
			t.Errorf("End = %v, %v; want an ended session and ErrUnavailable", ok, err)
		}
		if _, err := m.Acquire(t.Context(), token, ""); !errors.Is(err, session.ErrNotFound) {
			t.Errorf("Acquire of the ended session = %v", err)
		}
		time.Sleep(time.Minute)
		store.during(nil)
		time.Sleep(6 * time.Second)
		if got := keys(t, store); len(got) != 0 {
			t.Errorf("the store still holds %v", got)
		}
	})
}

func TestCleanupWithFailingStoreRemovesTheRecordLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFaulty()
		m := session.New(store, session.Config{})
		create(t, m)
		time.Sleep(31 * time.Minute)
		store.fail(errDisk)
		if n, err := m.Cleanup(t.Context()); n != 1 || !errors.Is(err, errDisk) {
			t.Errorf("Cleanup = %d, %v; want one ended session and the store's error", n, err)
		}
		store.during(nil)
		check(t, m.Flush(t.Context()))
		if n, err := m.Cleanup(t.Context()); n != 0 || err != nil || len(keys(t, store)) != 0 {
			t.Errorf("the next Cleanup = %d, %v; the store holds %v", n, err, keys(t, store))
		}
	})
}

func TestCleanupDoesNotFailForTheWriteOfAnotherSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFaulty()
		m := session.New(store, session.Config{})
		create(t, m)
		time.Sleep(20 * time.Minute)
		bad, _ := create(t, m)
		rename(t, m, bad.ID, strings.Repeat("x", persist.MaxValue))
		time.Sleep(11 * time.Minute)
		if n, err := m.Cleanup(t.Context()); n != 1 || err != nil {
			t.Errorf("Cleanup = %d, %v; want the idle session ended and no error", n, err)
		}
		if err := m.Flush(t.Context()); !errors.Is(err, persist.ErrTooLarge) {
			t.Errorf("Flush = %v; want ErrTooLarge", err)
		}
	})
}

// A1: changes that were not written at the shutdown were lost.
func TestCloseWritesRemainingChanges(t *testing.T) {
	path := t.TempDir()
	dir := openDir(t, path)
	m := session.New(dir, session.Config{})
	s, token := create(t, m)
	rename(t, m, s.ID, "renamed")
	check(t, m.Close(t.Context()))
	check(t, dir.Close())
	l := acquire(t, restored(t, openDir(t, path), session.Config{}), token)
	if got := l.Session().ClientName; got != "renamed" {
		t.Errorf("after the restart the client is %q", got)
	}
	l.Release()
}

func TestCloseReturnsFailedWrites(t *testing.T) {
	store := newFaulty()
	m := session.New(store, session.Config{})
	s, _ := create(t, m)
	rename(t, m, s.ID, "renamed")
	store.fail(errDisk)
	err := m.Close(t.Context())
	if !errors.Is(err, errDisk) || !strings.Contains(err.Error(), "1 of 1 sessions could not be written") {
		t.Errorf("Close = %v; want the failed writes and their cause", err)
	}
}

// frozen is a Store that does not answer any more, such as a remote one.
type frozen struct{ persist.Store }

func (frozen) Apply(ctx context.Context, _ []persist.Change) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestFrozenStoreDelaysCreateAndCloseByTheirLimitAtMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFaulty()
		m := session.New(store, session.Config{WriteTimeout: 10 * time.Second})
		s, _ := create(t, m)
		store.Store = frozen{store.Store}
		start := time.Now()
		if _, _, err := m.Create(t.Context(), session.Session{}); !errors.Is(err, session.ErrUnavailable) ||
			time.Since(start) != 10*time.Second {
			t.Errorf("Create = %v after %v; want ErrUnavailable after 10s", err, time.Since(start))
		}
		rename(t, m, s.ID, "renamed")
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		start = time.Now()
		if err := m.Close(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 2*time.Second {
			t.Errorf("Close = %v after %v; want an error after its 2s", err, time.Since(start))
		}
	})
}

// C9: timers were never stopped.
func TestRunEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFaulty()
		m, stop := running(t, store, session.Config{})
		s, _ := create(t, m)
		store.fail(errDisk)
		rename(t, m, s.ID, "renamed")
		time.Sleep(10 * time.Second)
		start := time.Now()
		stop() // during a pause
		if took := time.Since(start); took != 0 {
			t.Errorf("Run ended %v after its context", took)
		}
	})
}
