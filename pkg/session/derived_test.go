package session_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mcphub-go/mcphub/pkg/persist"
	"github.com/mcphub-go/mcphub/pkg/session"
)

// named returns a client of which only the name is known.
func named(name string) session.Session { return session.Session{ClientName: name} }

// serveOne serves one request of s and returns the id under which it was counted.
func serveOne(m *session.Manager, s session.Session) string {
	w := m.AcquireDerived(context.Background(), s)
	defer w.Release()
	return w.ID()
}

func info(t *testing.T, m *session.Manager, id string) session.Info {
	t.Helper()
	i, err := m.Info(t.Context(), id)
	check(t, err)
	return i
}

func TestRequestsWithSamePrincipalClientVersionAndRootShareADerivedSession(t *testing.T) {
	m := session.New(new(persist.Memory), session.Config{})
	first := session.Session{Principal: "alice", ClientName: "probe", ClientVersion: "1", Cwd: "/src", Project: "p", IP: "10.0.0.1",
		UserAgent: "a", ProtocolVersion: "2026-07-28"}
	id := serveOne(m, first)
	for name, tt := range map[string]struct {
		change func(*session.Session)
		same   bool
	}{
		"nothing":   {func(*session.Session) {}, true},
		"principal": {func(s *session.Session) { s.Principal = "bob" }, false},
		"anonymous": {func(s *session.Session) { s.Principal = "" }, false},
		"name":      {func(s *session.Session) { s.ClientName = "Probe" }, false},
		"version":   {func(s *session.Session) { s.ClientVersion = "2" }, false},
		"root":      {func(s *session.Session) { s.Cwd = "/src/" }, false},
		"shifted":   {func(s *session.Session) { s.ClientName, s.ClientVersion = "probe1", "" }, false},
		"project":   {func(s *session.Session) { s.Project = "q" }, true},
		"address":   {func(s *session.Session) { s.IP = "10.0.0.2" }, true},
		"agent":     {func(s *session.Session) { s.UserAgent = "b" }, true},
		"protocol":  {func(s *session.Session) { s.ProtocolVersion = "2027-01-01" }, true},
		"id":        {func(s *session.Session) { s.ID, s.TokenHash, s.CreatedAt = "x", "y", 1 }, true},
	} {
		s := first
		tt.change(&s)
		if got := serveOne(m, s); (got == id) != tt.same {
			t.Errorf("%s: %s after %s; want the same: %v", name, got, id, tt.same)
		}
	}
	got := info(t, m, id)
	if got.Kind != session.Derived || got.Principal != "alice" || got.ClientName != "probe" ||
		got.ClientVersion != "1" || got.Cwd != "/src" ||
		got.Project != "p" || got.IP != "10.0.0.1" || got.UserAgent != "a" || got.ProtocolVersion != "2026-07-28" ||
		got.State != session.Ready {
		t.Errorf("the session is %+v; want the fields of the first request", got)
	}
}

func TestDerivedSessionCountsRequestsLikeALease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := prometheus.NewPedanticRegistry()
		m := session.New(new(persist.Memory), session.Config{Registerer: reg})
		_, token := create(t, m)
		expect := func(id string, l *session.Lease) {
			t.Helper()
			got, want := info(t, m, id), info(t, m, l.Session().ID)
			if got.InFlight != want.InFlight || got.Requests != want.Requests || got.LastAccessedAt != want.LastAccessedAt ||
				!got.ExpiresAt.Equal(want.ExpiresAt) || got.Dirty {
				t.Errorf("derived %+v; want what the other is:\n%+v", got, want)
			}
			for _, name := range []string{"mcphub_sessions_idle", "mcphub_session_oldest_idle_seconds", "mcphub_sessions_overdue"} {
				if d, p := metric(t, reg, name, "derived"), metric(t, reg, name, "protocol"); d != p {
					t.Errorf("%s is %v; want %v", name, d, p)
				}
			}
		}
		l, w := acquire(t, m, token), m.AcquireDerived(t.Context(), named("probe"))
		expect(w.ID(), l)
		time.Sleep(time.Hour) // in use: not idle
		cleanup(t, m, 0)
		expect(w.ID(), l)
		l2, w2 := acquire(t, m, token), m.AcquireDerived(t.Context(), named("probe"))
		expect(w.ID(), l)
		for range 2 { // the second time does nothing
			l.Release()
			w.Release()
		}
		expect(w.ID(), l)
		time.Sleep(time.Minute)
		l2.Release()
		w2.Release()
		expect(w.ID(), l)
		time.Sleep(16 * time.Minute)
		expect(w.ID(), l)
		time.Sleep(14 * time.Minute)
		cleanup(t, m, 2)
		if n := metric(t, reg, "mcphub_session_operations", "derived"); n != 1 {
			t.Errorf("the requests of %v sessions were observed", n)
		}
		if n := metric(t, reg, "mcp_server_session_duration_seconds", "", "_OTHER"); n != 1 {
			t.Errorf("the duration of %v sessions was observed; want that of the session of the protocol alone", n)
		}
		checkInvariant(t, reg)
	})
}

func TestDerivedSessionIsNeverStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg, store := prometheus.NewPedanticRegistry(), newFaulty()
		m, stop := running(t, store, session.Config{Registerer: reg})
		for i := range 20 {
			w := m.AcquireDerived(t.Context(), named(fmt.Sprint("probe", i)))
			time.Sleep(3 * time.Minute) // the last access of a protocol session would be written
			m.Touch(w.ID())
			w.Release()
			if n := metric(t, reg, "mcphub_sessions_dirty", "protocol") + metric(t, reg, "mcphub_sessions_dirty", "derived"); n != 0 {
				t.Fatalf("%v sessions are dirty", n)
			}
		}
		if ok, err := m.End(t.Context(), serveOne(m, named("x")), session.Admin); !ok || err != nil {
			t.Errorf("End = %v, %v", ok, err)
		}
		check(t, m.Flush(t.Context()))
		stop()
		check(t, m.Close(t.Context()))
		if got := store.applied(); len(got) != 0 {
			t.Errorf("written were %v", got)
		}
		again := restored(t, store, session.Config{})
		if got := ids(again); len(got) != 0 {
			t.Errorf("after the restart there are %v", got)
		}
	})
}

func TestEndOfDerivedSessionWritesNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFaulty()
		m := session.New(store, session.Config{})
		serveOne(m, named("probe"))
		time.Sleep(20 * time.Minute)
		s, _ := create(t, m)
		rename(t, m, s.ID, "renamed")
		time.Sleep(10 * time.Minute)
		cleanup(t, m, 1)
		if got := store.applied(); len(got) != 1 {
			t.Errorf("written were %v; want the creation alone", got)
		}
	})
}

func TestDeriveDoesNotWaitForTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFaulty()
		m := session.New(store, session.Config{MaxDerived: 1})
		release := store.block()
		var wg sync.WaitGroup
		wg.Go(func() { createInGoroutine(t, m) })
		synctest.Wait() // Create hangs in the store
		start := time.Now()
		first := serveOne(m, named("a"))
		second := serveOne(m, named("b")) // evicts the first
		if ok, err := m.End(t.Context(), second, session.Admin); !ok || err != nil || first == "" || second == "" {
			t.Errorf("derived %q and %q; End = %v, %v", first, second, ok, err)
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("it took %v", took)
		}
		release()
		wg.Wait()
	})
}

func TestDerivedSessionIsOpenedByNoToken(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	m := session.New(new(persist.Memory), session.Config{Registerer: reg, Open: new(opener).open})
	for _, principal := range []string{"", "alice"} {
		s := named("probe")
		s.Principal = principal
		id := serveOne(m, s)
		for _, token := range []string{id, id + ".", id + ".x", id + "." + id} {
			l, err := m.Acquire(t.Context(), token, principal)
			if err != session.ErrNotFound { //nolint:errorlint // the error itself, not wrapped
				t.Errorf("Acquire(%q) = %v, %v; want ErrNotFound", token, l, err)
			}
			if token != id && m.Has(t.Context(), token) {
				t.Errorf("%q is found as an id", token)
			}
		}
	}
	if n := metric(t, reg, "mcphub_sessions_refused_total", "unknown"); n != 6 { // and two are malformed
		t.Errorf("%v refusals were counted as unknown", n)
	}
}

func TestDerivedSessionCannotBeChanged(t *testing.T) {
	m := session.New(new(persist.Memory), session.Config{})
	id := serveOne(m, named("probe"))
	before := info(t, m, id)
	fn := func(s *session.Session) { s.ClientName, s.Kind = "x", session.Protocol }
	for name, err := range map[string]error{
		"Update":         m.Update(t.Context(), id, fn),
		"UpdateDurably":  m.UpdateDurably(t.Context(), id, fn),
		"UpdateMetadata": m.UpdateMetadata(t.Context(), id, map[string]json.RawMessage{"k": json.RawMessage("1")}),
	} {
		if !errors.Is(err, session.ErrDerived) {
			t.Errorf("%s = %v; want ErrDerived", name, err)
		}
	}
	if got := info(t, m, id); got.ClientName != before.ClientName || got.Kind != session.Derived || got.Metadata != nil {
		t.Errorf("it became %+v", got)
	}
}

func TestDerivedSessionEndsLikeOthers(t *testing.T) {
	for why, tt := range map[session.Reason]struct {
		cfg   session.Config
		inUse bool // while it ends
		end   func(t *testing.T, m *session.Manager, id string)
	}{
		session.IdleTimeout: {end: func(t *testing.T, m *session.Manager, _ string) {
			t.Helper()
			time.Sleep(30 * time.Minute)
			cleanup(t, m, 1)
		}},
		session.MaxLifetime: {cfg: session.Config{MaxLifetime: time.Minute}, end: func(t *testing.T, m *session.Manager, _ string) {
			t.Helper()
			time.Sleep(time.Minute)
			cleanup(t, m, 1)
		}},
		session.Admin: {inUse: true, end: func(t *testing.T, m *session.Manager, id string) {
			t.Helper()
			for _, want := range []bool{true, false} {
				if ok, err := m.End(t.Context(), id, session.Admin); ok != want || err != nil {
					t.Errorf("End = %v, %v; want %v", ok, err, want)
				}
			}
		}},
		session.Evicted: {cfg: session.Config{MaxDerived: 1}, end: func(_ *testing.T, m *session.Manager, _ string) {
			serveOne(m, named("another"))
		}},
		session.Shutdown: {inUse: true, end: func(t *testing.T, m *session.Manager, _ string) {
			t.Helper()
			check(t, m.Close(t.Context()))
		}},
	} {
		t.Run(string(why), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				reg := prometheus.NewPedanticRegistry()
				tt.cfg.Registerer = reg
				m := session.New(new(persist.Memory), tt.cfg)
				w := m.AcquireDerived(t.Context(), named("probe"))
				if !tt.inUse {
					w.Release()
				}
				tt.end(t, m, w.ID())
				w.Release()
				if m.Has(t.Context(), w.ID()) {
					t.Error("it is still there")
				}
				if got, want := eventsOf(m, w.ID()), []string{"created probe", "ended " + string(why)}; !slices.Equal(got, want) {
					t.Errorf("its events are %q; want %q", got, want)
				}
				if n := metric(t, reg, "mcphub_sessions_closed_total", "derived", string(why)); n != 1 {
					t.Errorf("%v were counted as closed", n)
				}
				checkInvariant(t, reg)
				id := serveOne(m, named("probe"))
				if id == w.ID() || (id == "") != (why == session.Shutdown) {
					t.Errorf("after %s the next request is of %q", w.ID(), id)
				}
				checkInvariant(t, reg)
			})
		})
	}
}

func TestRequestAfterIdleTimeoutGetsNewDerivedSessionBeforeTheSweep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := prometheus.NewPedanticRegistry()
		m := session.New(new(persist.Memory), session.Config{Registerer: reg, MaxDerived: 1})
		first := serveOne(m, named("probe"))
		time.Sleep(30*time.Minute - time.Millisecond)
		if got := serveOne(m, named("probe")); got != first {
			t.Fatalf("the session is %s; want %s", got, first)
		}
		time.Sleep(30 * time.Minute)
		if got := serveOne(m, named("probe")); got == first || got == "" {
			t.Errorf("the session is %q", got)
		}
		if got := eventsOf(m, first); !slices.Contains(got, "ended idle_timeout") {
			t.Errorf("the events of the first are %q", got)
		}
		if n := limited(t, reg, "derived", "evicted"); n != 0 {
			t.Errorf("%v evictions were counted", n)
		}
		checkInvariant(t, reg)
	})
}

func TestSpanOfDerivedSessionHasNoMCPSessionID(t *testing.T) {
	m, _, tracer, ended := traced(t)
	ctx, request := tracer.Start(t.Context(), "request")
	id := serveOne(m, named("probe"))
	if got := ended(); len(got) != 0 {
		t.Errorf("Derive made the spans %v", got)
	}
	if _, err := m.End(ctx, id, session.Admin); err != nil {
		t.Error(err)
	}
	span := ended()["mcphub.session.delete"]
	expectSpan(t, span, request, "mcphub.session.id", id)
	if got := attr(span, "mcp.session.id").AsString(); got != "" {
		t.Errorf("mcp.session.id is %q", got)
	}
}

func TestDeriveIsSafeForConcurrentUse(t *testing.T) {
	const limit, workers, steps = 8, 16, 300
	reg := prometheus.NewPedanticRegistry()
	m := session.New(new(persist.Memory), session.Config{Registerer: reg, MaxDerived: limit,
		IdleTimeout: 2 * time.Millisecond, TouchThrottle: time.Nanosecond})
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	var wg sync.WaitGroup
	for i := range workers {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(i)))
			var held []*session.DerivedRequest
			for range steps {
				w := m.AcquireDerived(t.Context(), named(fmt.Sprint(r.IntN(2*limit))))
				held = append(held, w)
				switch r.IntN(6) {
				case 0:
					_, _ = m.End(t.Context(), w.ID(), session.Admin)
				case 1:
					_, _ = m.Cleanup(t.Context())
				case 2:
					m.Touch(w.ID())
				}
				if n := len(ids(m)); n > limit {
					t.Errorf("there are %d sessions", n)
				}
				if len(held) > 2 {
					held[0].Release()
					held = held[1:]
				}
			}
			for _, w := range held {
				w.Release()
			}
			checkInvariant(t, reg)
		})
	}
	wg.Wait()
	checkInvariant(t, reg)
	infos, _ := m.All()
	for _, i := range infos {
		if i.InFlight != 0 {
			t.Errorf("%s has %d requests", i.ID, i.InFlight)
		}
	}
	// No session is in use, so each can be evicted.
	for i := range 2 * limit {
		if serveOne(m, named(fmt.Sprint("new", i))) == "" {
			t.Errorf("there is no room for request %d", i)
		}
	}
	if n := len(ids(m)); n > limit {
		t.Errorf("there are %d sessions", n)
	}
	checkInvariant(t, reg)
}
