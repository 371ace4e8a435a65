package session_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mcphub-go/mcphub/pkg/persist"
	"github.com/mcphub-go/mcphub/pkg/session"
)

func createFor(t *testing.T, m *session.Manager, s session.Session) (session.Session, string) {
	t.Helper()
	s, token, err := m.Create(t.Context(), s)
	check(t, err)
	return s, token
}

// refused fails the test unless one more session is refused with this limit.
func refused(t *testing.T, m *session.Manager, s session.Session, scope string, limit int) {
	t.Helper()
	got, token, err := m.Create(t.Context(), s)
	le, ok := errors.AsType[*session.LimitError](err)
	if !ok || le.Scope != scope || le.Limit != limit || got.ID != "" || token != "" {
		t.Errorf("Create = %+v, %q, %v; want a LimitError of %s %d", got, token, err, scope, limit)
	}
}

func limited(t *testing.T, reg prometheus.Gatherer, scope, action string) float64 {
	t.Helper()
	return metric(t, reg, "mcphub_sessions_limited_total", action, scope)
}

func TestSessionBeyondTheLimitIsRefusedAndNotWritten(t *testing.T) {
	reg, store := prometheus.NewPedanticRegistry(), newFaulty()
	m := session.New(store, session.Config{Registerer: reg, MaxSessions: 3})
	for range 3 {
		create(t, m)
	}
	before := ids(m)
	for range 5 {
		refused(t, m, session.Session{}, "global", 3)
	}
	check(t, m.Flush(t.Context()))
	if got := ids(m); !slices.Equal(got, before) || len(store.applied()) != 3 || !slices.Equal(keys(t, store), before) {
		t.Errorf("the sessions are %v, stored %v in %d batches; want the first 3", got, keys(t, store), len(store.applied()))
	}
	if got := limited(t, reg, "global", "refused"); got != 5 {
		t.Errorf("%v refusals were counted", got)
	}
	if got := metric(t, reg, "mcphub_sessions_created_total", "protocol", "streamable_http"); got != 3 {
		t.Errorf("%v creations were counted", got)
	}
	checkInvariant(t, reg)
}

func TestStoredSessionsCountBeforeTheyAreLoaded(t *testing.T) {
	store := newFaulty()
	for _, id := range []string{"s1", "s2"} {
		put(t, store, id, fresh(id))
	}
	put(t, store, "damaged", "{")
	m := restored(t, store, session.Config{MaxSessions: 3})
	refused(t, m, session.Session{}, "global", 3)
	acquire(t, m, "s1").Release() // loaded: it counts once
	refused(t, m, session.Session{}, "global", 3)
	if m.Has(t.Context(), "damaged") {
		t.Error("a damaged session was loaded")
	}
	create(t, m) // the damaged one does not count any more
	refused(t, m, session.Session{}, "global", 3)
}

func TestEachClientHasItsOwnLimit(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	m := session.New(new(persist.Memory), session.Config{Registerer: reg, MaxSessionsPerClient: 2})
	clients := []session.Session{
		{Principal: "alice", IP: "10.0.0.1", ClientName: "a"},
		{Principal: "bob", IP: "10.0.0.1", ClientName: "a"},
		{IP: "10.0.0.1", ClientName: "a"},
		{IP: "10.0.0.1", ClientName: "b"},
		{IP: "10.0.0.2", ClientName: "a"},
		{},
		{ClientName: "alice"}, // no principal
	}
	for range 2 {
		for _, c := range clients {
			createFor(t, m, c)
		}
	}
	for _, c := range clients {
		refused(t, m, c, "client", 2)
	}
	refused(t, m, session.Session{Principal: "alice", IP: "::1", ClientName: "x"}, "client", 2) // from any address
	if got := limited(t, reg, "client", "refused"); got != float64(len(clients)+1) {
		t.Errorf("%v refusals were counted", got)
	}
	createFor(t, m, session.Session{Principal: "carol"})
}

func TestRestoredSessionCountsForItsClient(t *testing.T) {
	store := newFaulty()
	alice := session.Session{Principal: "alice"}
	s, _ := createFor(t, session.New(store, session.Config{}), alice)
	m := restored(t, store, session.Config{MaxSessionsPerClient: 1})
	if !m.Has(t.Context(), s.ID) {
		t.Fatal("the session did not load")
	}
	refused(t, m, alice, "client", 1)
}

func TestEndedSessionFreesItsPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, cfg := range map[string]session.Config{"global": {MaxSessions: 1}, "client": {MaxSessionsPerClient: 1}} {
			m := session.New(newFaulty(), cfg)
			s, _ := create(t, m)
			end(t, m, s.ID)
			s, _ = create(t, m)
			refused(t, m, s, name, 1)
			time.Sleep(31 * time.Minute)
			cleanup(t, m, 1)
			create(t, m)
		}
	})
}

func TestFailedCreateFreesItsPlace(t *testing.T) {
	for name, cfg := range map[string]session.Config{
		"global": {MaxSessions: 1}, "client": {MaxSessionsPerClient: 1}, "evicting": {MaxSessions: 1, AtLimit: session.Evict},
	} {
		store := newFaulty()
		m := session.New(store, cfg)
		store.fail(errDisk)
		for range 3 {
			if _, _, err := m.Create(t.Context(), session.Session{}); !errors.Is(err, errDisk) {
				t.Errorf("%s: Create = %v; want the store's error", name, err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, _, err := m.Create(ctx, session.Session{}); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: Create = %v; want context.Canceled", name, err)
		}
		store.during(nil)
		create(t, m)
	}
}

func TestSessionIdleLongestIsEvictedForTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg, store, o := prometheus.NewPedanticRegistry(), newFaulty(), new(opener)
		m := session.New(store, session.Config{Registerer: reg, Open: o.open, MaxSessions: 3, AtLimit: session.Evict})
		first, firstToken := create(t, m)
		time.Sleep(time.Second)
		second, secondToken := create(t, m)
		time.Sleep(time.Second)
		third, _ := create(t, m)
		time.Sleep(time.Second)
		for _, token := range []string{secondToken, firstToken} {
			l := acquire(t, m, token)
			_, err := l.Live(t.Context())
			check(t, err)
			l.Release()
			time.Sleep(time.Second)
		}
		// By their last access: third, second, first.
		for _, tt := range []struct {
			evicted session.Session
			closed  []session.Reason
		}{{third, nil}, {second, []session.Reason{session.Evicted}}, {first, []session.Reason{session.Evicted, session.Evicted}}} {
			create(t, m)
			if m.Has(t.Context(), tt.evicted.ID) || record(t, store, tt.evicted.ID) != "" || len(ids(m)) != 3 {
				t.Errorf("after Create %v are live, %v stored; want 3 without %s", ids(m), keys(t, store), tt.evicted.ID)
			}
			o.expect(t, 2, tt.closed...)
		}
		if got := limited(t, reg, "global", "evicted"); got != 3 {
			t.Errorf("%v evictions were counted", got)
		}
		if got := metric(t, reg, "mcphub_sessions_closed_total", "protocol", "evicted"); got != 3 {
			t.Errorf("%v sessions ended as evicted", got)
		}
		checkInvariant(t, reg)
	})
}

// Otherwise it would return after a crash, beyond the limit.
func TestEvictedSessionIsRemovedFromTheStoreWhenCreateReturns(t *testing.T) {
	store := newFaulty()
	m := session.New(store, session.Config{MaxSessions: 1, AtLimit: session.Evict})
	create(t, m)
	s, _ := create(t, m)
	if got := keys(t, store); !slices.Equal(got, []string{s.ID}) || len(store.applied()) != 2 {
		t.Errorf("the store holds %v after %d batches; want %s after 2", got, len(store.applied()), s.ID)
	}
}

func TestEvictionThatCannotBeStoredIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFaulty()
		m, stop := running(t, store, session.Config{MaxSessions: 1, AtLimit: session.Evict})
		defer stop()
		old, _ := create(t, m)
		store.during(func(_ int, _ []persist.Change) error {
			return &persist.BatchError{Failed: map[string]error{old.ID: errDisk}}
		})
		s, _ := create(t, m) // the record of s itself was written
		if got := len(keys(t, store)); got != 2 || m.Has(t.Context(), old.ID) {
			t.Fatalf("%d sessions are stored", got)
		}
		store.during(nil)
		time.Sleep(6 * time.Second)
		if got := keys(t, store); !slices.Equal(got, []string{s.ID}) {
			t.Errorf("the store holds %v; want %s", got, s.ID)
		}
	})
}

func TestClientBeyondItsLimitEvictsOnlyItsOwnSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := prometheus.NewPedanticRegistry()
		m := session.New(new(persist.Memory), session.Config{Registerer: reg, MaxSessionsPerClient: 1, AtLimit: session.Evict})
		alice, _ := createFor(t, m, session.Session{Principal: "alice"}) // idle longest of all
		time.Sleep(time.Second)
		bob, _ := createFor(t, m, session.Session{Principal: "bob"})
		time.Sleep(time.Second)
		createFor(t, m, session.Session{Principal: "bob"})
		if !m.Has(t.Context(), alice.ID) || m.Has(t.Context(), bob.ID) {
			t.Errorf("the sessions are %v; want alice's and bob's second", ids(m))
		}
		if got := limited(t, reg, "client", "evicted"); got != 1 {
			t.Errorf("%v evictions were counted", got)
		}
	})
}

func TestSessionInUseIsNeverEvicted(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	m := session.New(new(persist.Memory), session.Config{Registerer: reg, MaxSessions: 2, AtLimit: session.Evict})
	used, token := create(t, m)
	l := acquire(t, m, token)
	for range 3 {
		create(t, m) // evicts the other
	}
	if !m.Has(t.Context(), used.ID) {
		t.Fatal("the session in use was evicted")
	}
	other := ids(m)[0]
	if other == used.ID {
		other = ids(m)[1]
	}
	end(t, m, other)
	_, token = create(t, m)
	second := acquire(t, m, token)
	refused(t, m, session.Session{}, "global", 2)
	if e, r := limited(t, reg, "global", "evicted"), limited(t, reg, "global", "refused"); e != 2 || r != 1 {
		t.Errorf("%v evictions and %v refusals were counted; want 2 and 1", e, r)
	}
	l.Release()
	create(t, m)
	if m.Has(t.Context(), used.ID) {
		t.Error("the session that is not in use any more was not evicted")
	}
	second.Release()
}

func TestCreateWithEndedContextEvictsNobody(t *testing.T) {
	m := session.New(new(persist.Memory), session.Config{MaxSessions: 1, AtLimit: session.Evict})
	s, _ := create(t, m)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := m.Create(ctx, session.Session{}); !errors.Is(err, context.Canceled) || !m.Has(t.Context(), s.ID) {
		t.Errorf("Create = %v; want context.Canceled and nothing evicted", err)
	}
}

// C7: there was no limit.
func TestConcurrentCreatesNeverExceedTheLimit(t *testing.T) {
	for _, policy := range []session.LimitPolicy{session.Refuse, session.Evict} {
		for name, cfg := range map[string]session.Config{"global": {MaxSessions: 10}, "client": {MaxSessionsPerClient: 10}} {
			t.Run(fmt.Sprint(policy, " ", name), func(t *testing.T) {
				reg, store := prometheus.NewPedanticRegistry(), newFaulty()
				cfg.Registerer, cfg.AtLimit = reg, policy
				// One in three writes fails: those places must become free too.
				store.during(func(n int, _ []persist.Change) error {
					if n%3 == 0 {
						return errDisk
					}
					return nil
				})
				m := session.New(store, cfg)
				var wg sync.WaitGroup
				for range 64 {
					wg.Go(func() {
						for range 10 {
							_, _, err := m.Create(t.Context(), session.Session{})
							if _, full := errors.AsType[*session.LimitError](err); err != nil && !full && !errors.Is(err, errDisk) {
								t.Error(err)
							}
							if n := len(ids(m)); n > 10 {
								t.Errorf("there are %d sessions", n)
							}
						}
					})
				}
				wg.Wait()
				checkInvariant(t, reg)
				store.during(nil)
				check(t, m.Flush(t.Context()))
				for len(ids(m)) < 10 {
					create(t, m)
				}
				if policy == session.Refuse {
					refused(t, m, session.Session{}, name, 10)
				}
				if got := keys(t, store); !slices.Equal(got, ids(m)) {
					t.Errorf("stored are %v, live %v", got, ids(m))
				}
			})
		}
	}
}
