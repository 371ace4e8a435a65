package session_test

import (
	"encoding/json"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcphub-go/mcphub/pkg/persist"
	"github.com/mcphub-go/mcphub/pkg/session"
)

func TestTouchWithinTheThrottleIsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := session.New(new(persist.Memory), session.Config{})
		s, _ := create(t, m)
		accessed := func() int64 { return get(t, m, s.ID).LastAccessedAt - s.CreatedAt }
		for _, tt := range []struct {
			wait time.Duration
			want int64
		}{{99 * time.Millisecond, 0}, {time.Millisecond, 100}, {99 * time.Millisecond, 100}, {time.Millisecond, 200}} {
			time.Sleep(tt.wait)
			m.Touch(s.ID)
			if got := accessed(); got != tt.want {
				t.Errorf("the last access is %d ms after the creation; want %d", got, tt.want)
			}
		}
		m.Touch("nobody") // no panic, no session
		if len(ids(m)) != 1 {
			t.Error("a touch created a session")
		}
	})
}

// A11: every request caused a write.
func TestTouchAloneIsWrittenAfterAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFaulty()
		m, stop := running(t, store, session.Config{})
		defer stop()
		s, _ := create(t, m)
		for range 59 {
			time.Sleep(time.Second)
			m.Touch(s.ID)
		}
		time.Sleep(999 * time.Millisecond)
		m.Touch(s.ID) // 59.999 s
		time.Sleep(30 * time.Second)
		if got := len(store.applied()); got != 1 {
			t.Fatalf("%d batches were written; want 1, the creation", got)
		}
		m.Touch(s.ID)
		time.Sleep(5*time.Second + time.Millisecond)
		if got := len(store.applied()); got != 2 {
			t.Fatalf("%d batches were written; want the creation and the touch", got)
		}
		if got := stored(t, store, s.ID).LastAccessedAt; got != get(t, m, s.ID).LastAccessedAt {
			t.Errorf("the stored last access is %d", got)
		}
		time.Sleep(54 * time.Second)
		m.Touch(s.ID)
		time.Sleep(10 * time.Second)
		if got := len(store.applied()); got != 2 {
			t.Error("a touch that moved less than a minute was written")
		}
		s, _ = create(t, m)
		time.Sleep(time.Minute)
		m.Touch(s.ID)
		time.Sleep(5*time.Second + time.Millisecond)
		if got := len(store.applied()); got != 4 {
			t.Error("a touch that moved a minute exactly was not written")
		}
	})
}

func stored(t *testing.T, store persist.Store, id string) (s session.Session) {
	t.Helper()
	check(t, json.Unmarshal([]byte(record(t, store, id)), &s))
	return s
}

// C2, C10: only the start of a request was activity; the number of users could leak.
func TestStartAndEndOfALeaseAreActivity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := session.New(new(persist.Memory), session.Config{})
		s, token := create(t, m)
		accessed := func() time.Duration {
			return time.Duration(get(t, m, s.ID).LastAccessedAt-s.CreatedAt) * time.Millisecond
		}
		time.Sleep(time.Minute)
		l := acquire(t, m, token)
		if got := accessed(); got != time.Minute {
			t.Errorf("after Acquire the last access is at %v", got)
		}
		time.Sleep(time.Hour)
		l.Release()
		if got := accessed(); got != time.Hour+time.Minute {
			t.Errorf("after Release the last access is at %v", got)
		}
		time.Sleep(time.Minute)
		l.Release() // further calls do nothing
		if got := accessed(); got != time.Hour+time.Minute {
			t.Errorf("after the second Release the last access is at %v", got)
		}
		if i, err := m.Info(t.Context(), s.ID); err != nil || i.InFlight != 0 || i.Requests != 1 {
			t.Errorf("Info = %+v, %v; want 1 request, none in flight", i, err)
		}
	})
}

func TestIdleSessionExpiresAfterThirtyMinutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := session.New(new(persist.Memory), session.Config{})
		swept, _ := create(t, m)
		used, token := create(t, m)
		time.Sleep(29*time.Minute + 59*time.Second)
		if n, err := m.Cleanup(t.Context()); n != 0 || err != nil {
			t.Errorf("at 29:59 Cleanup = %d, %v", n, err)
		}
		acquire(t, m, token).Release()
		time.Sleep(2 * time.Second)
		if n, err := m.Cleanup(t.Context()); n != 1 || err != nil || m.Has(t.Context(), swept.ID) {
			t.Errorf("at 30:01 Cleanup = %d, %v", n, err)
		}
		time.Sleep(29*time.Minute + 59*time.Second)
		if _, err := m.Acquire(t.Context(), token, ""); !errors.Is(err, session.ErrNotFound) || m.Has(t.Context(), used.ID) {
			t.Errorf("Acquire of an expired session that no sweep has found = %v; want ErrNotFound", err)
		}
	})
}

func TestSweepEndsExpiredSessionWithinAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFaulty()
		m, stop := running(t, store, session.Config{})
		defer stop()
		time.Sleep(10 * time.Second) // not synchronous with the sweep
		s, _ := create(t, m)
		time.Sleep(30*time.Minute - time.Millisecond)
		if !m.Has(t.Context(), s.ID) {
			t.Fatal("the session ended too early")
		}
		time.Sleep(time.Minute + time.Millisecond)
		if m.Has(t.Context(), s.ID) || record(t, store, s.ID) != "" {
			t.Error("the session is still there")
		}
	})
}

// B8, C1, C2: a second stream closed the first; streams and calls were not activity.
func TestLeasedSessionIsNeverIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, stop := running(t, newFaulty(), session.Config{})
		defer stop()
		s, token := create(t, m)
		stream, call := acquire(t, m, token), acquire(t, m, token)
		time.Sleep(45 * time.Minute)
		call.Release()
		time.Sleep(48 * time.Hour)
		if i, err := m.Info(t.Context(), s.ID); err != nil || i.InFlight != 1 || !i.ExpiresAt.IsZero() {
			t.Fatalf("Info = %+v, %v; want a session in use that does not expire", i, err)
		}
		released := time.Now()
		stream.Release()
		if i, err := m.Info(t.Context(), s.ID); err != nil || !i.ExpiresAt.Equal(released.Add(30*time.Minute)) {
			t.Errorf("after the release Info = %+v, %v; want 30 minutes more", i, err)
		}
		time.Sleep(29*time.Minute + 59*time.Second)
		if !m.Has(t.Context(), s.ID) {
			t.Error("the session ended less than 30 minutes after the release")
		}
		time.Sleep(61 * time.Second)
		if m.Has(t.Context(), s.ID) {
			t.Error("the session did not end within a minute of its time")
		}
	})
}

// Otherwise sessions in use would expire after a crash.
//
// A3: the stored last access was too old, so the session expired after a restart.
func TestStoredAccessOfLeasedSessionIsAtMostTwoSweepsOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFaulty()
		m, stop := running(t, store, session.Config{})
		time.Sleep(7 * time.Second)
		s, token := create(t, m)
		l := acquire(t, m, token)
		for range 90 * 60 {
			time.Sleep(time.Second)
			if age := time.Since(time.UnixMilli(stored(t, store, s.ID).LastAccessedAt)); age > 2*time.Minute+5*time.Second {
				t.Fatalf("the stored last access is %v old", age)
			}
		}
		stop()
		m = restored(t, store, session.Config{}) // the lease was not released
		acquire(t, m, token).Release()
		l.Release()
	})
}

func TestTouchAllocatesNothing(t *testing.T) {
	for name, throttle := range map[string]time.Duration{"dropped": time.Hour, "taken": time.Nanosecond} {
		m := session.New(new(persist.Memory), session.Config{TouchThrottle: throttle})
		s, _ := create(t, m)
		if got := testing.AllocsPerRun(1000, func() { m.Touch(s.ID) }); got != 0 {
			t.Errorf("a touch that is %s allocates %v times", name, got)
		}
	}
}
