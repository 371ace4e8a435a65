package session_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcphub-go/mcphub/pkg/persist"
	"github.com/mcphub-go/mcphub/pkg/session"
)

func TestCreateReturnsAfterSessionIsStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFaulty()
		m := session.New(store, session.Config{})
		release := store.block()
		created := make(chan session.Session, 1)
		go func() {
			s, _, err := m.Create(t.Context(), session.Session{})
			if err != nil {
				t.Error(err)
			}
			created <- s
		}()
		time.Sleep(9 * time.Second) // within the WriteTimeout
		select {
		case <-created:
			t.Fatal("Create returned before the store had the session")
		default:
		}
		id := store.applied()[0][0]
		if m.Has(t.Context(), id) || len(ids(m)) != 0 {
			t.Error("a session is visible before it is stored")
		}
		release()
		s := <-created
		if record(t, store, s.ID) == "" || !m.Has(t.Context(), s.ID) {
			t.Error("the session is not stored after Create")
		}
	})
}

func TestCreatedSessionSurvivesCrash(t *testing.T) {
	path := t.TempDir()
	dir := openDir(t, path)
	s, token := create(t, session.New(dir, session.Config{}))
	check(t, dir.Close()) // no Flush, no Close of the Manager

	m := restored(t, openDir(t, path), session.Config{})
	l := acquire(t, m, token)
	defer l.Release()
	if got := l.Session(); got.ID != s.ID || got.ClientName != "probe" || got.CreatedAt != s.CreatedAt {
		t.Errorf("after the crash the session is %+v; want %+v", got, s)
	}
}

func TestFailingStoreCreatesNoSession(t *testing.T) {
	store := newFaulty()
	m := session.New(store, session.Config{})
	for name, fault := range map[string]func(int, []persist.Change) error{
		"refused": func(int, []persist.Change) error { return errDisk },
		"failed alone": func(_ int, c []persist.Change) error {
			return &persist.BatchError{Failed: map[string]error{c[0].Key: errDisk}}
		},
		"stored, but not confirmed": func(_ int, c []persist.Change) error {
			return errors.Join(store.Store.Apply(t.Context(), c), errDisk)
		},
	} {
		store.during(fault)
		s, token, err := m.Create(t.Context(), session.Session{})
		if !errors.Is(err, session.ErrUnavailable) || !errors.Is(err, errDisk) {
			t.Errorf("%s: Create = %v; want ErrUnavailable and the cause", name, err)
		}
		if s.ID != "" || token != "" || len(ids(m)) != 0 {
			t.Errorf("%s: a session is left: %+v %q %v", name, s, token, ids(m))
		}
	}
	store.during(nil)
	check(t, m.Flush(t.Context()))
	if got := keys(t, store); len(got) != 0 {
		t.Errorf("the store is left with %v", got)
	}
}

func TestCreateCancelledBeforeItsBatchWritesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFaulty()
		m := session.New(store, session.Config{})
		release := store.block()
		var wg sync.WaitGroup
		wg.Go(func() { createInGoroutine(t, m) })
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		wg.Go(func() {
			if _, _, err := m.Create(ctx, session.Session{}); !errors.Is(err, context.Canceled) {
				t.Errorf("Create = %v; want context.Canceled", err)
			}
		})
		synctest.Wait()
		cancel()
		synctest.Wait()
		release()
		wg.Wait()
		check(t, m.Flush(t.Context()))
		if got := store.applied(); len(got) != 1 || len(got[0]) != 1 || len(ids(m)) != 1 {
			t.Errorf("the store was asked for %v; want the first session only", got)
		}
	})
}

func TestCreateWithEndedContextWritesNothing(t *testing.T) {
	store := newFaulty()
	m := session.New(store, session.Config{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 100 { // a select between two ready channels would write half of them
		if _, _, err := m.Create(ctx, session.Session{}); !errors.Is(err, context.Canceled) {
			t.Fatalf("Create = %v; want context.Canceled", err)
		}
	}
	check(t, m.Flush(t.Context()))
	if got := store.applied(); len(got) != 0 {
		t.Errorf("the store was asked for %v", got)
	}
}

// If its context ends while the session is being written, Create waits for the outcome,
// so that the caller knows whether there is a session.
func TestCreateCancelledDuringTheWriteReturnsItsOutcome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFaulty()
		m := session.New(store, session.Config{})
		release := store.block()
		ctx, cancel := context.WithCancel(t.Context())
		created := make(chan error)
		go func() {
			_, _, err := m.Create(ctx, session.Session{})
			created <- err
		}()
		synctest.Wait()
		cancel()
		synctest.Wait()
		release()
		check(t, <-created)
		if got := keys(t, store); !slices.Equal(got, ids(m)) || len(got) != 1 {
			t.Errorf("stored %v, live %v; want the one session in both", got, ids(m))
		}
	})
}

func TestConcurrentCreatesShareABatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const creates = 500
		store := newFaulty()
		m := session.New(store, session.Config{})
		release := store.block()
		var wg sync.WaitGroup
		for range creates {
			wg.Go(func() { createInGoroutine(t, m) })
		}
		synctest.Wait()
		release()
		wg.Wait()
		if got := len(store.applied()); got != 2 {
			t.Errorf("%d creates took %d batches; want 2: the first, and one for all that waited", creates, got)
		}
		if got := keys(t, store); len(got) != creates {
			t.Errorf("%d sessions are stored; want %d", len(got), creates)
		}
	})
}

func TestRecordThatCannotBeEncodedFailsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFaulty()
		m := session.New(store, session.Config{})
		release := store.block()
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() { createInGoroutine(t, m) })
		}
		synctest.Wait()
		wg.Go(func() {
			_, _, err := m.Create(t.Context(), session.Session{Capabilities: json.RawMessage("{")})
			if err == nil {
				t.Error("a session whose capabilities are not JSON was created")
			}
		})
		synctest.Wait()
		release()
		wg.Wait()
		if got := keys(t, store); len(got) != 3 {
			t.Errorf("%d sessions are stored; want 3", len(got))
		}
	})
}
