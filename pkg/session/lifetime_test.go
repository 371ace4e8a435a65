package session_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mcphub-go/mcphub/pkg/persist"
	"github.com/mcphub-go/mcphub/pkg/session"
)

// busy waits for d and touches the session every minute.
func busy(m *session.Manager, id string, d time.Duration) {
	for ; d > time.Minute; d -= time.Minute {
		m.Touch(id)
		time.Sleep(time.Minute)
	}
	m.Touch(id)
	time.Sleep(d)
}

func cleanup(t *testing.T, m *session.Manager, want int) {
	t.Helper()
	if n, err := m.Cleanup(t.Context()); n != want || err != nil {
		t.Errorf("Cleanup = %d, %v; want %d", n, err, want)
	}
}

func TestSessionBetweenRequestsEndsAtItsLifetime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg, store := prometheus.NewPedanticRegistry(), newFaulty()
		m := session.New(store, session.Config{Registerer: reg, MaxLifetime: 24 * time.Hour})
		s, _ := create(t, m)
		busy(m, s.ID, 23*time.Hour+59*time.Minute+59*time.Second)
		cleanup(t, m, 0)
		time.Sleep(2 * time.Second)
		cleanup(t, m, 1)
		if m.Has(t.Context(), s.ID) || record(t, store, s.ID) != "" {
			t.Error("the session is still there")
		}
		if got := metric(t, reg, "mcphub_sessions_closed_total", "protocol", "max_lifetime"); got != 1 {
			t.Errorf("%v sessions ended by their lifetime", got)
		}
		if got := metric(t, reg, "mcphub_session_cleanup_lag_seconds", "max_lifetime"); got != 1 {
			t.Errorf("the lag was observed %v times", got)
		}
	})
}

func TestAgeNeverEndsASessionInUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg, o := prometheus.NewPedanticRegistry(), new(opener)
		m := session.New(newFaulty(), session.Config{Registerer: reg, Open: o.open, MaxLifetime: 24 * time.Hour})
		s, token := create(t, m)
		overdue := func() float64 { return metric(t, reg, "mcphub_sessions_overdue", "protocol") }
		stream := acquire(t, m, token)
		_, err := stream.Live(t.Context())
		check(t, err)
		time.Sleep(25 * time.Hour)
		cleanup(t, m, 0)
		o.expect(t, 1)
		acquire(t, m, token).Release() // a request beside the open stream is served, too
		if i, err := m.Info(t.Context(), s.ID); err != nil || !i.ExpiresAt.IsZero() || overdue() != 0 {
			t.Errorf("Info = %+v, %v, %v are overdue; want a session in use that does not expire", i, err, overdue())
		}
		stream.Release() // now only its age counts
		if got := overdue(); got != 0 {
			t.Errorf("%v sessions are overdue as soon as the last use ends", got)
		}
		time.Sleep(2*time.Minute + time.Second)
		if got := overdue(); got != 1 {
			t.Errorf("%v sessions are overdue; want the one that two sweeps have missed", got)
		}
		cleanup(t, m, 1)
		o.expect(t, 1, session.MaxLifetime)
		if _, err := stream.Live(t.Context()); !errors.Is(err, session.ErrNotFound) {
			t.Errorf("Live of the ended session = %v", err)
		}
	})
}

func TestRequestAfterMaxLifetimeIsRefusedBeforeTheSweep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg, o := prometheus.NewPedanticRegistry(), new(opener)
		m := session.New(newFaulty(), session.Config{Registerer: reg, Open: o.open, MaxLifetime: 20 * time.Minute})
		_, token := create(t, m)
		l := acquire(t, m, token)
		_, err := l.Live(t.Context())
		check(t, err)
		l.Release()
		time.Sleep(20*time.Minute - time.Second)
		acquire(t, m, token).Release()
		time.Sleep(2 * time.Second)
		if _, err := m.Acquire(t.Context(), token, ""); !errors.Is(err, session.ErrNotFound) {
			t.Errorf("Acquire after the lifetime = %v; want ErrNotFound", err)
		}
		o.expect(t, 1, session.MaxLifetime)
		if got := metric(t, reg, "mcphub_sessions_refused_total", "expired"); got != 1 {
			t.Errorf("%v requests were refused as expired", got)
		}
		cleanup(t, m, 0)
	})
}

func TestSessionsHaveNoMaxLifetimeByDefault(t *testing.T) {
	for name, life := range map[string]time.Duration{"default": 0, "negative": -1} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				reg := prometheus.NewPedanticRegistry()
				m := session.New(newFaulty(), session.Config{Registerer: reg, MaxLifetime: life})
				s, _ := create(t, m)
				busy(m, s.ID, 1000*time.Hour)
				cleanup(t, m, 0)
				if got := metric(t, reg, "mcphub_session_max_lifetime_seconds"); got != 0 {
					t.Errorf("mcphub_session_max_lifetime_seconds = %v; want 0", got)
				}
				time.Sleep(30*time.Minute + time.Second)
				cleanup(t, m, 1) // it ends as idle
			})
		})
	}
}

func TestLifetimeOfRestoredSessionCountsFromItsCreation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFaulty()
		cfg := session.Config{MaxLifetime: 24 * time.Hour}
		m := session.New(store, cfg)
		s, token := create(t, m)
		busy(m, s.ID, 23*time.Hour+50*time.Minute)
		check(t, m.Close(t.Context()))

		m = restored(t, store, cfg)
		acquire(t, m, token).Release()
		busy(m, s.ID, 9*time.Minute+59*time.Second)
		cleanup(t, m, 0)
		time.Sleep(2 * time.Second)
		cleanup(t, m, 1)
		if e := m.Events(s.ID); e[len(e)-1].Detail != "max_lifetime" {
			t.Errorf("the session ended as %+v", e)
		}
	})
}

func TestEarlierOfIdleTimeoutAndMaxLifetimeEndsSession(t *testing.T) {
	for name, tt := range map[string]struct {
		life, busy, end time.Duration
		why             session.Reason
	}{
		"short life":            {20 * time.Minute, 0, 20 * time.Minute, session.MaxLifetime},
		"idle before its time":  {40 * time.Minute, 0, 30 * time.Minute, session.IdleTimeout},
		"used, so the lifetime": {40 * time.Minute, 25 * time.Minute, 40 * time.Minute, session.MaxLifetime},
		"used, so idle later":   {60 * time.Minute, 25 * time.Minute, 54 * time.Minute, session.IdleTimeout}, // last touch at 24
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := session.New(new(persist.Memory), session.Config{MaxLifetime: tt.life})
				s, _ := create(t, m)
				if tt.busy > 0 {
					busy(m, s.ID, tt.busy)
				}
				at := time.UnixMilli(s.CreatedAt).Add(tt.end)
				if i, err := m.Info(t.Context(), s.ID); err != nil || !i.ExpiresAt.Equal(at) {
					t.Errorf("it expires at %v, %v; want %v", i.ExpiresAt, err, at)
				}
				time.Sleep(time.Until(at) - time.Second)
				cleanup(t, m, 0)
				time.Sleep(time.Second)
				cleanup(t, m, 1)
				if e := m.Events(s.ID); e[len(e)-1].Detail != string(tt.why) {
					t.Errorf("it ended as %q; want %q", e[len(e)-1].Detail, tt.why)
				}
			})
		})
	}
}
