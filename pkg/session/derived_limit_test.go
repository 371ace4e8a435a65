package session_test

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mcphub-go/mcphub/pkg/persist"
	"github.com/mcphub-go/mcphub/pkg/session"
)

func TestDerivedSessionIdleLongestIsEvictedAtTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := prometheus.NewPedanticRegistry()
		m := session.New(new(persist.Memory), session.Config{Registerer: reg, MaxDerived: 4})
		by := map[string]string{}
		work := func(names ...string) {
			t.Helper()
			for _, name := range names {
				if by[name] = serveOne(m, named(name)); by[name] == "" {
					t.Errorf("there is no room for %s", name)
				}
				time.Sleep(time.Second)
			}
		}
		work("a", "b", "c", "d", "b", "a") // idle longest: c, d, b, a
		m.Touch(by["c"])
		time.Sleep(time.Second)
		busy := m.AcquireDerived(t.Context(), named("b")) // idle: d, a, c
		for i, tt := range []struct{ gone, left string }{{"d", "abc"}, {"a", "bc"}, {"c", "b"}} {
			work(fmt.Sprint("new", i))
			if m.Has(t.Context(), by[tt.gone]) || len(ids(m)) != 4 {
				t.Errorf("%s is still there, of %d", tt.gone, len(ids(m)))
			}
			for name := range strings.SplitSeq(tt.left, "") {
				if !m.Has(t.Context(), by[name]) {
					t.Errorf("%s has gone with %s", name, tt.gone)
				}
			}
		}
		busy.Release()
		if got := limited(t, reg, "derived", "evicted"); got != 3 {
			t.Errorf("%v evictions were counted", got)
		}
		checkInvariant(t, reg)
	})
}

func TestRequestHasNoDerivedSessionIfAllAreInUse(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	m := session.New(new(persist.Memory), session.Config{Registerer: reg, MaxDerived: 2})
	a, b := m.AcquireDerived(t.Context(), named("a")), m.AcquireDerived(t.Context(), named("b"))
	for range 3 {
		w := m.AcquireDerived(t.Context(), named("c"))
		if w.ID() != "" {
			t.Errorf("the request is of %s", w.ID())
		}
		w.Release()
		w.Release()
	}
	if got := serveOne(m, named("a")); got != a.ID() { // there already
		t.Errorf("the request is of %q; want %s", got, a.ID())
	}
	if got := limited(t, reg, "derived", "refused"); got != 3 {
		t.Errorf("%v requests were counted", got)
	}
	checkInvariant(t, reg)
	a.Release()
	if serveOne(m, named("c")) == "" || !m.Has(t.Context(), b.ID()) || m.Has(t.Context(), a.ID()) {
		t.Errorf("after a's request %v are there", ids(m))
	}
	b.Release()
}

func TestNegativeLimitDisablesDerivedSessions(t *testing.T) {
	m := session.New(new(persist.Memory), session.Config{MaxDerived: -1})
	if got := serveOne(m, named("a")); got != "" || len(ids(m)) != 0 {
		t.Errorf("derived is %q", got)
	}
}

func TestTenThousandDerivedSessionsFitByDefault(t *testing.T) {
	m := session.New(new(persist.Memory), session.Config{})
	for i := range 10_001 {
		serveOne(m, named(fmt.Sprint(i)))
	}
	if n := len(ids(m)); n != 10_000 {
		t.Errorf("there are %d", n)
	}
}

// Every client that may send requests can cause any number of derived sessions.
func TestDerivedSessionsTakeNoPlaceOrEventsFromOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, cfg := range map[string]session.Config{"global": {MaxSessions: 2}, "client": {MaxSessionsPerClient: 2}} {
			reg := prometheus.NewPedanticRegistry()
			cfg.Registerer = reg
			m := session.New(new(persist.Memory), cfg)
			ended, _ := create(t, m)
			end(t, m, ended.ID)
			for i := range 1000 {
				id := serveOne(m, session.Session{Principal: "alice", ClientName: fmt.Sprint(i)})
				if i%2 == 0 {
					if _, err := m.End(t.Context(), id, session.Admin); err != nil {
						t.Error(err)
					}
				}
			}
			for range 2 {
				createFor(t, m, session.Session{Principal: "alice"})
			}
			refused(t, m, session.Session{Principal: "alice"}, name, 2)
			if got := eventsOf(m, ended.ID); len(got) != 2 {
				t.Errorf("%s: the events of the session that ended before are %q", name, got)
			}
			checkInvariant(t, reg)
		}
	})
}

func TestDerivedSessionIsNotEvictedForAProtocolSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, cfg := range map[string]session.Config{"global": {MaxSessions: 1}, "client": {MaxSessionsPerClient: 1}} {
			cfg.AtLimit = session.Evict
			m := session.New(new(persist.Memory), cfg)
			idlest := serveOne(m, session.Session{Principal: "alice", ClientName: "probe"})
			time.Sleep(time.Second)
			first, _ := createFor(t, m, session.Session{Principal: "alice", ClientName: "probe"})
			time.Sleep(time.Second)
			createFor(t, m, session.Session{Principal: "alice", ClientName: "probe"})
			if !m.Has(t.Context(), idlest) || m.Has(t.Context(), first.ID) {
				t.Errorf("%s: there are %v; want %s, and %s evicted", name, ids(m), idlest, first.ID)
			}
		}
	})
}

func TestFieldsOfDerivedSessionAreBounded(t *testing.T) {
	m := session.New(new(persist.Memory), session.Config{})
	long := strings.Repeat("é", 1<<20)
	s := realistic(0)
	s.ClientName, s.ClientVersion, s.ProtocolVersion, s.Cwd, s.Project, s.UserAgent, s.IP = long, long, long, long, long, long, long
	id := serveOne(m, s)
	if again := serveOne(m, s); again != id {
		t.Errorf("the same request is of %s and of %s", id, again)
	}
	got := info(t, m, id)
	for name, field := range map[string]string{"name": got.ClientName, "version": got.ClientVersion, "protocol": got.ProtocolVersion,
		"project": got.Project, "agent": got.UserAgent, "address": got.IP} {
		if len(field) > 260 || len(field) < 250 || !utf8.ValidString(field) {
			t.Errorf("%s has %d bytes", name, len(field))
		}
	}
	if len(got.Cwd) > 4100 || len(got.Cwd) < 4000 {
		t.Errorf("the root has %d bytes", len(got.Cwd))
	}
	if got.Capabilities != nil || got.Metadata != nil || got.Upstreams != nil || got.LogLevel != "" {
		t.Errorf("kept is %+v", got.Session)
	}
	if _, err := m.End(t.Context(), id, session.Admin); err != nil {
		t.Error(err)
	}
	if again := serveOne(m, s); again == id || again == "" || len(ids(m)) != 1 {
		t.Errorf("after its end the request is of %q, of %v", again, ids(m))
	}
}

// A name is often a substring of a buffer with the whole request.
func TestDerivedSessionDoesNotRetainTheRequest(t *testing.T) {
	const n, size = 64, 1 << 20
	m := session.New(new(persist.Memory), session.Config{})
	heap := func() int64 {
		var s runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&s)
		return int64(s.HeapAlloc)
	}
	before := heap()
	for i := range n {
		request := strings.Repeat(fmt.Sprintf("%8d", i), size/8)
		part := request[:32]
		serveOne(m, session.Session{ClientName: part, ClientVersion: part, Cwd: part, Project: part, IP: part,
			UserAgent: part, ProtocolVersion: part, Principal: part})
	}
	if grown := heap() - before; grown > n*size/4 {
		t.Errorf("%d sessions keep %d bytes", n, grown)
	}
	if got := len(ids(m)); got != n {
		t.Errorf("there are %d sessions", got)
	}
}

func TestDeriveAllocatesOnlyItsHandle(t *testing.T) {
	m := session.New(new(persist.Memory), session.Config{})
	ctx, s := t.Context(), realistic(0)
	serveOne(m, s)
	if n := testing.AllocsPerRun(1000, func() { m.AcquireDerived(ctx, s).Release() }); n > 1 {
		t.Errorf("a request allocates %v times", n)
	}
}

func TestEventsOf256EndedSessionsOfEachKindAreKept(t *testing.T) {
	m := session.New(new(persist.Memory), session.Config{})
	var derived, others []string
	for i := range 300 {
		s, _ := create(t, m)
		others = append(others, s.ID)
		end(t, m, s.ID)
		derived = append(derived, serveOne(m, named(fmt.Sprint(i))))
		if _, err := m.End(t.Context(), derived[i], session.Admin); err != nil {
			t.Error(err)
		}
	}
	for name, all := range map[string][]string{"derived": derived, "protocol": others} {
		kept := slices.DeleteFunc(slices.Clone(all), func(id string) bool { return m.Events(id) == nil })
		if !slices.Equal(kept, all[300-256:]) {
			t.Errorf("%s: the events of %d are kept", name, len(kept))
		}
	}
}
