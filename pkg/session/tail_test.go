package session_test

import (
	"encoding/json"
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

func tail(t *testing.T, m *session.Manager, id string, cfg session.TailConfig) *session.Tail {
	t.Helper()
	tail, err := m.Tail(t.Context(), id, cfg)
	check(t, err)
	t.Cleanup(tail.Close)
	return tail
}

func methods(tail *session.Tail) (all []string) {
	for len(tail.C) > 0 {
		all = append(all, (<-tail.C).Method)
	}
	return all
}

func TestTailGetsTheMessagesOfItsSessionInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := session.New(new(persist.Memory), session.Config{})
		mine, _ := create(t, m)
		other, _ := create(t, m)
		m.PublishMessage(session.Message{SessionID: mine.ID, Method: "before"}, nil)
		a, b := tail(t, m, mine.ID, session.TailConfig{Buffer: 10}), tail(t, m, mine.ID, session.TailConfig{Buffer: 10})
		failures := tail(t, m, mine.ID, session.TailConfig{Buffer: 10, Filter: session.Message.Failed})
		time.Sleep(time.Second)
		m.PublishMessage(
			session.Message{SessionID: mine.ID, Method: "first", ID: json.RawMessage(`"x"`), Size: 3},
			[]byte(`{"password":"canary"}`),
		)
		m.PublishMessage(session.Message{SessionID: other.ID, Method: "other"}, nil)
		m.PublishMessage(session.Message{SessionID: mine.ID, Method: "second", Outcome: "-32603"}, nil)
		m.PublishMessage(session.Message{SessionID: mine.ID, Method: "third", Outcome: "ok"}, nil)
		first := <-a.C
		if first.Seq != 1 || !first.Time.Equal(time.Now()) || string(first.ID) != `"x"` || first.Size != 3 || first.Payload != nil {
			t.Errorf("the first message is %+v", first)
		}
		if got := methods(a); !slices.Equal(got, []string{"second", "third"}) {
			t.Errorf("then came %q", got)
		}
		if got := methods(b); !slices.Equal(got, []string{"first", "second", "third"}) {
			t.Errorf("the other tail got %q", got)
		}
		if got := methods(failures); !slices.Equal(got, []string{"second"}) {
			t.Errorf("the tail of failures got %q", got)
		}
		a.Close()
		a.Close() // further calls do nothing
		m.PublishMessage(session.Message{SessionID: mine.ID, Method: "last"}, nil)
		if len(a.C) != 0 || !slices.Equal(methods(b), []string{"last"}) {
			t.Error("a closed tail gets messages, or the other gets none")
		}
	})
}

func TestTailFailsForUnknownAndEndedSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := new(persist.Memory)
		m := session.New(store, session.Config{})
		s, _ := create(t, m)
		if _, err := m.Tail(t.Context(), "none", session.TailConfig{}); !errors.Is(err, session.ErrNotFound) {
			t.Errorf("an unknown session: %v", err)
		}
		end(t, m, s.ID)
		if _, err := m.Tail(t.Context(), s.ID, session.TailConfig{}); !errors.Is(err, session.ErrNotFound) {
			t.Errorf("an ended session: %v", err)
		}
		s, _ = create(t, m)
		check(t, m.Close(t.Context()))
		if _, err := m.Tail(t.Context(), s.ID, session.TailConfig{}); !errors.Is(err, session.ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
		m = restored(t, store, session.Config{})
		tail(t, m, s.ID, session.TailConfig{Buffer: 1}) // which loads the session
		m.PublishMessage(session.Message{SessionID: s.ID}, nil)
	})
}

func TestTailIsNotifiedOfTheEndOfItsSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := session.New(new(persist.Memory), session.Config{})
		ended, _ := create(t, m)
		lives, _ := create(t, m)
		work := m.AcquireDerived(t.Context(), session.Session{ClientName: "modern"})
		work.Release()
		over, stays := tail(t, m, ended.ID, session.TailConfig{Buffer: 1}), tail(t, m, lives.ID, session.TailConfig{})
		derived := tail(t, m, work.ID(), session.TailConfig{Buffer: 1})
		m.PublishMessage(session.Message{SessionID: work.ID(), Method: "tools/list"}, nil)
		if got := methods(derived); !slices.Equal(got, []string{"tools/list"}) {
			t.Errorf("of a derived session came %q", got)
		}
		end(t, m, ended.ID)
		<-over.Done()
		if over.EndReason() != session.ClientDelete || stays.EndReason() != "" || derived.EndReason() != "" {
			t.Errorf("ended are %q, %q and %q", over.EndReason(), stays.EndReason(), derived.EndReason())
		}
		m.PublishMessage(session.Message{SessionID: ended.ID, Method: "late"}, nil)
		if got := methods(over); !slices.Equal(got, []string{"late"}) {
			t.Errorf("the messages after its end are %q", got)
		}
		check(t, m.Close(t.Context()))
		<-stays.Done()
		<-derived.Done()
		if stays.EndReason() != session.Shutdown || derived.EndReason() != session.Shutdown || over.EndReason() != session.ClientDelete {
			t.Errorf("with the hub ended %q, %q and %q", stays.EndReason(), derived.EndReason(), over.EndReason())
		}
	})
}

func TestSlowTailCountsLostMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := prometheus.NewPedanticRegistry()
		m := session.New(new(persist.Memory), session.Config{Registerer: reg})
		s, _ := create(t, m)
		slow, quick := tail(t, m, s.ID, session.TailConfig{Buffer: 2}), tail(t, m, s.ID, session.TailConfig{Buffer: 100})
		for range 10 {
			m.PublishMessage(session.Message{SessionID: s.ID}, nil)
		}
		if got := slow.Lost(); got != 8 || slow.Lost() != 0 {
			t.Errorf("the slow one lost %d", got)
		}
		<-slow.C
		<-slow.C
		m.PublishMessage(session.Message{SessionID: s.ID}, nil)
		if got := <-slow.C; got.Seq != 11 {
			t.Errorf("once it has read, it gets %+v", got)
		}
		if len(quick.C) != 11 || quick.Lost() != 0 {
			t.Errorf("the quick one has %d", len(quick.C))
		}
		lost := metric(t, reg, "mcphub_session_messages_lost_total")
		if active := metric(t, reg, "mcphub_session_tails_active"); lost != 8 || active != 2 {
			t.Errorf("%v lost, %v active", lost, active)
		}
		slow.Close()
		quick.Close()
		if active := metric(t, reg, "mcphub_session_tails_active"); active != 0 || m.HasTails() {
			t.Errorf("%v tails after the last is closed", active)
		}
	})
}

func TestTailsMayBeOpenedAndClosedWhileMessagesPass(t *testing.T) {
	m := session.New(new(persist.Memory), session.Config{})
	s, _ := create(t, m)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 100 {
				x, err := m.Tail(t.Context(), s.ID, session.TailConfig{Buffer: 4, IncludePayload: i%2 == 0})
				check(t, err)
				m.PublishMessage(session.Message{SessionID: s.ID, Method: fmt.Sprint(i)}, []byte(`{"a":"b"}`))
				if got := <-x.C; (got.Payload != nil) != (i%2 == 0) {
					t.Errorf("tail %d got %+v", i, got)
				}
				x.Close()
			}
		})
	}
	wg.Wait()
	if m.HasTails() {
		t.Error("there are tails left")
	}
}

func TestPassedAllocatesNothingWithoutTails(t *testing.T) {
	m := session.New(new(persist.Memory), session.Config{})
	s, _ := create(t, m)
	other, _ := create(t, m)
	tailed := false
	if n := testing.AllocsPerRun(100, func() { tailed = tailed || m.HasTails() }); n != 0 || tailed {
		t.Errorf("%v allocations; tailed: %v", n, tailed)
	}
	tail(t, m, other.ID, session.TailConfig{Buffer: 1})
	msg, body := session.Message{SessionID: s.ID, Method: "tools/call"}, []byte(`{"a":"b"}`)
	if n := testing.AllocsPerRun(100, func() { m.PublishMessage(msg, body) }); n != 0 || !m.HasTails() {
		t.Errorf("%v allocations for a session without a tail", n)
	}
}

func TestTextsOfMessagesAreBounded(t *testing.T) {
	m := session.New(new(persist.Memory), session.Config{})
	s, token := create(t, m)
	x := tail(t, m, s.ID, session.TailConfig{Buffer: 9})
	long := json.RawMessage(`"` + string(make([]byte, 0)) + fmt.Sprintf("%01000d", 0) + `"`)
	for _, id := range []json.RawMessage{long, json.RawMessage(`"` + token + `"`), json.RawMessage(`12`), nil} {
		m.PublishMessage(session.Message{SessionID: s.ID, Method: "tools/" + token + fmt.Sprintf("%01000d", 0), ID: id}, nil)
	}
	for _, want := range []string{`"[cut]"`, `"` + s.ID + `.[redacted]"`, `12`, ``} {
		if got := <-x.C; string(got.ID) != want || len(got.Method) > 300 {
			t.Errorf("the tail got %+v, want the id %s", got, want)
		}
	}
}
