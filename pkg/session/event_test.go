package session_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mcphub-go/mcphub/pkg/persist"
	"github.com/mcphub-go/mcphub/pkg/session"
)

// eventsOf returns the events of id as "type detail".
func eventsOf(m *session.Manager, id string) (all []string) {
	for _, e := range m.Events(id) {
		all = append(all, strings.TrimSpace(string(e.Type)+" "+e.Detail))
	}
	return all
}

func ready(t *testing.T, m *session.Manager, id string) {
	t.Helper()
	check(t, m.Update(t.Context(), id, func(s *session.Session) { s.State = session.Ready }))
}

func TestEventsDescribeTheLifeOfASession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFaulty()
		m := session.New(store, session.Config{})
		s, _ := create(t, m)
		time.Sleep(time.Second)
		ready(t, m, s.ID)
		ready(t, m, s.ID) // it is
		rename(t, m, s.ID, "renamed")
		m.AddEvent(s.ID, session.EventStreamOpened, "GET")
		check(t, m.Close(t.Context()))
		want := []string{"created probe", "initialised", "stream_opened GET"}
		if got := eventsOf(m, s.ID); !slices.Equal(got, want) {
			t.Errorf("before the restart: %q; want %q", got, want)
		}

		m = restored(t, store, session.Config{})
		if got := m.Events(s.ID); got != nil {
			t.Errorf("before it is loaded: %v", got)
		}
		time.Sleep(time.Second)
		end(t, m, s.ID)
		want = []string{"restored", "ended client_delete"}
		if got := eventsOf(m, s.ID); !slices.Equal(got, want) {
			t.Errorf("after the restart: %q; want %q", got, want)
		}
		for i, e := range m.Events(s.ID) {
			if e.Seq != int64(i+1) || e.SessionID != s.ID || !e.Time.Equal(time.Now()) {
				t.Errorf("event %d is %+v", i, e)
			}
		}
	})
}

func TestLastEventOfSessionHasTheReasonOfItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := session.New(new(persist.Memory), session.Config{MaxSessions: 1, AtLimit: session.Evict})
		expect := func(id, want string) {
			t.Helper()
			if got := eventsOf(m, id); got[len(got)-1] != want {
				t.Errorf("the events are %q; want %q last", got, want)
			}
		}
		evicted, _ := create(t, m)
		swept, _ := create(t, m)
		expect(evicted.ID, "ended evicted")
		time.Sleep(31 * time.Minute)
		cleanup(t, m, 1)
		expect(swept.ID, "ended idle_timeout")
		asked, token := create(t, m)
		time.Sleep(31 * time.Minute)
		_, _ = m.Acquire(t.Context(), token, "")
		expect(asked.ID, "ended idle_timeout")
		killed, _ := create(t, m)
		_, err := m.End(t.Context(), killed.ID, session.Admin)
		check(t, err)
		expect(killed.ID, "ended admin")
	})
}

func TestFailingFlushIsOneEventUntilItRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFaulty()
		m, stop := running(t, store, session.Config{})
		defer stop()
		bad, _ := create(t, m)
		good, _ := create(t, m)
		failures := func(id string) (n int) {
			for _, e := range m.Events(id) {
				if e.Type == session.EventFlushFailed {
					n++
				}
			}
			return n
		}
		for period := range 3 {
			store.fail(errDisk)
			rename(t, m, bad.ID, fmt.Sprint(period))
			time.Sleep(time.Minute) // a dozen attempts
			if got := failures(bad.ID); got != period+1 {
				t.Errorf("in failing period %d there are %d events", period+1, got)
			}
			store.during(nil)
			time.Sleep(time.Minute)
		}
		if got := failures(good.ID); got != 0 {
			t.Errorf("a session without changes has %d failures", got)
		}
		if e := m.Events(bad.ID); !strings.Contains(e[len(e)-1].Detail, errDisk.Error()) {
			t.Errorf("the event does not say why: %+v", e[len(e)-1])
		}
	})
}

func TestFailedCreateHasNoEvents(t *testing.T) {
	reg, store := prometheus.NewPedanticRegistry(), newFaulty()
	m := session.New(store, session.Config{Registerer: reg, MaxSessions: 1})
	w := m.WatchEvents(10)
	defer w.Close()
	store.fail(errDisk)
	_, _, _ = m.Create(t.Context(), session.Session{})
	store.during(nil)
	create(t, m)
	refused(t, m, session.Session{}, "global", 1)
	if len(w.C) != 1 {
		t.Errorf("%d events; want the creation of the one session", len(w.C))
	}
}

func TestNoteAddsEventsToLiveSessionsOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFaulty()
		m := session.New(store, session.Config{})
		w := m.WatchEvents(10)
		defer w.Close()
		s, _ := create(t, m)
		end(t, m, s.ID)
		release := store.block()
		var wg sync.WaitGroup
		wg.Go(func() { createInGoroutine(t, m) })
		synctest.Wait()
		unpublished := store.applied()[2][0]
		for _, id := range []string{s.ID, unpublished, "nobody", ""} {
			m.AddEvent(id, session.EventStreamClosed, "")
		}
		if got := eventsOf(m, s.ID); !slices.Equal(got, []string{"created probe", "ended client_delete"}) {
			t.Errorf("the ended session has %q", got)
		}
		if got := len(w.C); got != 2 || m.Events(unpublished) != nil || m.Events("nobody") != nil {
			t.Errorf("%d events were passed on; want 2", got)
		}
		release()
		wg.Wait()
	})
}

func TestSessionKeepsItsLast32Events(t *testing.T) {
	m := session.New(new(persist.Memory), session.Config{})
	s, _ := create(t, m)
	other, _ := create(t, m)
	for i := range 100 {
		m.AddEvent(s.ID, session.EventUpstreamInitialised, fmt.Sprint(i))
		m.AddEvent(other.ID, session.EventStreamOpened, "")
		events := m.Events(s.ID)
		if len(events) != min(i+2, 32) || events[len(events)-1].Detail != fmt.Sprint(i) {
			t.Fatalf("after %d events there are %d, the last is %+v", i+2, len(events), events[len(events)-1])
		}
	}
	events := m.Events(s.ID)
	if events[0].Detail != "68" {
		t.Errorf("the oldest event is %+v; want that of 68", events[0])
	}
	for i := range events[1:] {
		if events[i+1].Seq <= events[i].Seq || events[i+1].Time.Before(events[i].Time) {
			t.Errorf("event %+v comes after %+v", events[i+1], events[i])
		}
	}
}

func TestEventsOf256EndedSessionsAreKept(t *testing.T) {
	m := session.New(new(persist.Memory), session.Config{})
	living, _ := create(t, m)
	var ended []string
	for range 300 {
		s, _ := create(t, m)
		end(t, m, s.ID)
		ended = append(ended, s.ID)
	}
	for i, id := range ended {
		if got, want := eventsOf(m, id) != nil, i >= 300-256; got != want {
			t.Errorf("the events of the session that ended %d. of 300 are kept: %v", i+1, got)
		}
	}
	if got := eventsOf(m, living.ID); len(got) != 1 {
		t.Errorf("the living session has %q", got)
	}
}

func TestEventsReturnsACopy(t *testing.T) {
	m := session.New(new(persist.Memory), session.Config{})
	s, _ := create(t, m)
	before := m.Events(s.ID)
	before[0].Detail = "mine"
	_ = append(before, session.Event{})
	for range 40 { // more than are kept
		m.AddEvent(s.ID, session.EventStreamOpened, "")
	}
	if got := m.Events(s.ID)[0]; got.Detail == "mine" || before[0].Type != session.EventCreated {
		t.Errorf("the first event is %+v, that of the copy %+v", got, before[0])
	}
}

func TestDetailOfEventIsCut(t *testing.T) {
	m := session.New(new(persist.Memory), session.Config{})
	s, _ := createFor(t, m, session.Session{ClientName: strings.Repeat("é", 100_000)})
	m.AddEvent(s.ID, session.EventStreamOpened, "x"+strings.Repeat("é", 100_000))
	for _, e := range m.Events(s.ID) {
		if len(e.Detail) > 300 || !utf8.ValidString(e.Detail) {
			t.Errorf("%s has a detail of %d bytes: %q", e.Type, len(e.Detail), e.Detail)
		}
	}
}

func TestEventsContainNoSecret(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFaulty()
		m, stop := running(t, store, session.Config{})
		defer stop()
		w := m.WatchEvents(100)
		defer w.Close()
		s, token := create(t, m)
		ready(t, m, s.ID)
		store.fail(errDisk)
		rename(t, m, s.ID, "renamed")
		time.Sleep(10 * time.Second)
		store.during(nil)
		_, _ = m.Acquire(t.Context(), token+"x", "")
		_, _ = m.Acquire(t.Context(), token, "somebody else")
		end(t, m, s.ID)
		shown := fmt.Sprintf("%+v", m.Events(s.ID))
		for len(w.C) > 0 {
			shown += fmt.Sprintf("%+v", <-w.C)
		}
		if strings.Contains(shown, verifierOf(token)) || strings.Contains(shown, sha256Hex(verifierOf(token))) {
			t.Errorf("the verifier or its hash is in %s", shown)
		}
		if !strings.Contains(shown, "flush_failed") || !strings.Contains(shown, "ended") {
			t.Errorf("events are missing, so the search above is not meaningful: %s", shown)
		}
	})
}

func TestWatchGetsEveryEventAsItHappens(t *testing.T) {
	m := session.New(new(persist.Memory), session.Config{})
	before, _ := create(t, m)
	w := m.WatchEvents(10)
	defer w.Close()
	s, _ := create(t, m)
	m.AddEvent(before.ID, session.EventStreamOpened, "GET")
	end(t, m, s.ID)
	for i, want := range []session.Event{
		{Seq: 2, SessionID: s.ID, Type: session.EventCreated, Detail: "probe"},
		{Seq: 3, SessionID: before.ID, Type: session.EventStreamOpened, Detail: "GET"},
		{Seq: 4, SessionID: s.ID, Type: session.EventEnded, Detail: "client_delete"},
	} {
		got := <-w.C
		got.Time = time.Time{}
		if got != want {
			t.Errorf("event %d is %+v; want %+v", i, got, want)
		}
	}
	if len(w.C) != 0 || w.Lost() != 0 {
		t.Errorf("%d events more, %d lost", len(w.C), w.Lost())
	}
}

func TestSlowWatcherLosesEventsAndDelaysNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // a blocked goroutine would be reported as a deadlock
		reg := prometheus.NewPedanticRegistry()
		m := session.New(new(persist.Memory), session.Config{Registerer: reg})
		slow, never, quick := m.WatchEvents(2), m.WatchEvents(0), m.WatchEvents(100)
		for range 10 {
			create(t, m)
		}
		if got := slow.Lost(); got != 8 || slow.Lost() != 0 {
			t.Errorf("the slow watcher lost %d events, and then %d; want 8 and 0", got, slow.Lost())
		}
		if got := never.Lost(); got != 10 {
			t.Errorf("the watcher without a queue lost %d events; want 10", got)
		}
		if first, next := <-slow.C, <-slow.C; first.Seq != 1 || next.Seq != 2 {
			t.Errorf("the slow watcher got %+v and %+v; want the first two", first, next)
		}
		create(t, m)
		if got := <-slow.C; got.Seq != 11 || slow.Lost() != 0 {
			t.Errorf("once it has read, the slow watcher gets %+v", got)
		}
		if got := len(quick.C); got != 11 || quick.Lost() != 0 {
			t.Errorf("the quick watcher has %d events", got)
		}
		for _, w := range []*session.EventWatch{slow, never, quick} {
			w.Close()
			w.Close() // further calls do nothing
		}
		create(t, m)
		if len(quick.C) != 11 || never.Lost() != 1 {
			t.Errorf("after Close a watch has %d events", len(quick.C))
		}
		if got := metric(t, reg, "mcphub_session_events_lost_total"); got != 8+11 {
			t.Errorf("%v lost events were counted; want 19", got)
		}
	})
}

func TestWatchesMayBeOpenedAndClosedWhileEventsHappen(t *testing.T) {
	m := session.New(new(persist.Memory), session.Config{})
	s, _ := create(t, m)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 200 {
				m.AddEvent(s.ID, session.EventStreamOpened, "")
			}
		})
		wg.Go(func() {
			for range 100 {
				w := m.WatchEvents(4)
				var last int64
				for range 2 {
					select {
					case e := <-w.C:
						if e.Seq <= last {
							t.Errorf("event %d after %d", e.Seq, last)
						}
						last = e.Seq
					default:
					}
				}
				w.Close()
				_ = w.Lost()
				_ = m.Events(s.ID)
			}
		})
	}
	wg.Wait()
}

// A concurrent End must not record its event before that of Create.
func TestEventsOfEverySessionBeginWithItsCreationAndEndWithItsEnd(t *testing.T) {
	m := session.New(new(persist.Memory), session.Config{MaxSessions: 4, AtLimit: session.Evict})
	w := m.WatchEvents(100_000)
	defer w.Close()
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 50 {
				_, _, _ = m.Create(t.Context(), session.Session{})
				for _, id := range ids(m) {
					m.AddEvent(id, session.EventStreamOpened, "")
				}
			}
		})
	}
	wg.Wait()
	if w.Lost() != 0 {
		t.Fatal("events were lost, so the search below is not meaningful")
	}
	begun, over := map[string]bool{}, map[string]bool{}
	var last int64
	for len(w.C) > 0 {
		e := <-w.C
		if begun[e.SessionID] == (e.Type == session.EventCreated) || over[e.SessionID] || e.Seq != last+1 {
			t.Fatalf("after event %d comes %+v", last, e)
		}
		begun[e.SessionID], last = true, e.Seq
		if e.Type == session.EventEnded {
			over[e.SessionID] = true
		}
	}
	if len(over) == 0 {
		t.Error("no session has ended, so the search above is not meaningful")
	}
}
