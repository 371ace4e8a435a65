package session_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mcphub-go/mcphub/pkg/persist"
	"github.com/mcphub-go/mcphub/pkg/session"
)

// TestNoSessionIsLostOrCountedTwice runs random operations in 64 goroutines over a store
// that fails sometimes, and checks the invariant at each scrape.
func TestNoSessionIsLostOrCountedTwice(t *testing.T) {
	for _, failing := range []int{0, 3} { // batches in ten
		for name, cfg := range map[string]session.Config{
			"idle":     {IdleTimeout: 3 * time.Millisecond},
			"old":      {IdleTimeout: time.Hour, MaxLifetime: 3 * time.Millisecond},
			"refused":  {IdleTimeout: 3 * time.Millisecond, MaxSessions: 60, MaxSessionsPerClient: 8},
			"evicted":  {IdleTimeout: time.Hour, MaxSessions: 60, MaxSessionsPerClient: 8, AtLimit: session.Evict},
			"all this": {IdleTimeout: 5 * time.Millisecond, MaxLifetime: 10 * time.Millisecond, MaxSessions: 60, AtLimit: session.Evict},
			"few":      {IdleTimeout: 3 * time.Millisecond, MaxDerived: 5},
		} {
			t.Run(fmt.Sprintf("%s, %d of 10 batches fail", name, failing), func(t *testing.T) { runRandomSteps(t, cfg, failing) })
		}
	}
}

func runRandomSteps(t *testing.T, cfg session.Config, failing int) {
	const workers, steps, stale = 64, 40, 40
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	reg, store := prometheus.NewPedanticRegistry(), newFaulty()
	for i := range stale {
		id := fmt.Sprintf("s%d", i)
		put(t, store, id, fresh(id))
	}
	store.during(func(n int, _ []persist.Change) error {
		if n*7%10 < failing {
			return errDisk
		}
		return nil
	})
	cfg.Registerer, cfg.Open, cfg.TouchThrottle = reg, new(opener).open, time.Nanosecond
	cfg.CleanupInterval, cfg.FlushInterval = time.Millisecond, time.Millisecond
	m := session.New(store, cfg)
	w := m.WatchEvents(8) // too small: most events are lost
	defer w.Close()
	ctx, cancel := context.WithCancel(t.Context())
	var working, background sync.WaitGroup
	background.Go(func() {
		for ctx.Err() == nil {
			checkInvariant(t, reg)
		}
	})
	var known sync.Map // some tokens, shared by all goroutines
	for i := range workers {
		working.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(i)))
			for range steps {
				step(t, m, r, &known)
			}
		})
	}
	background.Go(func() { _ = m.Run(ctx) })
	working.Wait()
	cancel()
	background.Wait()
	checkInvariant(t, reg)
	expireAll(t, m, store, reg)
	if cfg.MaxSessions > 0 { // after all sessions have ended, the limit must be exact
		for i := range cfg.MaxSessions {
			createFor(t, m, session.Session{ClientName: fmt.Sprint("probe", i/8)})
		}
		if got := len(ids(m)); got != cfg.MaxSessions {
			t.Errorf("there is room for %d sessions; want %d", got, cfg.MaxSessions)
		}
		if cfg.AtLimit != session.Evict {
			refused(t, m, session.Session{}, "global", cfg.MaxSessions)
		}
	}
}

// step calls one random method for one of the known sessions, which may have ended.
func step(t *testing.T, m *session.Manager, r *rand.Rand, known *sync.Map) {
	ctx := t.Context()
	slot := r.IntN(16)
	token := fmt.Sprintf("s%d", r.IntN(40))
	if v, ok := known.Load(slot); ok && r.IntN(3) > 0 {
		token = v.(string) //nolint:forcetypeassert // nothing else is stored
	}
	id := token
	if len(token) > 20 {
		id = token[:20]
	}
	switch r.IntN(12) {
	case 10, 11:
		w := m.AcquireDerived(ctx, session.Session{ClientName: fmt.Sprint("probe", r.IntN(16))})
		switch r.IntN(8) {
		case 0:
			_, _ = m.End(ctx, w.ID(), session.Admin)
		case 1:
			m.Touch(w.ID())
			m.AddEvent(w.ID(), session.EventStreamOpened, "")
		}
		w.Release()
		w.Release()
	case 0, 1, 2:
		if _, token, err := m.Create(ctx, session.Session{ClientName: fmt.Sprint("probe", r.IntN(8))}); err == nil {
			known.Store(slot, token)
		}
	case 3:
		m.Touch(id)
	case 4:
		_ = m.UpdateMetadata(ctx, id, nil)
	case 5:
		_ = m.UpdateDurably(ctx, id, func(s *session.Session) { s.LogLevel = "debug" })
	case 6:
		_, _ = m.End(ctx, id, session.Reasons()[r.IntN(len(session.Reasons()))])
	case 7:
		_, _ = m.Cleanup(ctx)
	case 8:
		_ = m.Restore(ctx)
	case 9:
		if l, err := m.Acquire(ctx, token, ""); err == nil {
			_, _ = l.Live(ctx)
			m.AddEvent(id, session.EventStreamOpened, "")
			l.Release()
			l.Release()
		}
	}
}

// checkInvariant fails the test unless created + restored - closed - active is 0 for each
// kind of session.
func checkInvariant(t *testing.T, reg prometheus.Gatherer) {
	families, err := reg.Gather()
	if err != nil {
		t.Error(err)
		return
	}
	for _, kind := range session.Kinds() {
		sum := map[string]float64{}
		for _, f := range families {
			for _, m := range f.GetMetric() {
				if slices.Contains(labelValues(m), kind.String()) {
					sum[f.GetName()] += value(m)
				}
			}
		}
		drift := sum["mcphub_sessions_created_total"] + sum["mcphub_sessions_restored_total"] -
			sum["mcphub_sessions_closed_total"] - sum["mcphub_sessions_active"]
		if drift != 0 {
			t.Errorf("%v %s sessions are unaccounted for", drift, kind)
		}
		if active := sum["mcphub_sessions_active"]; sum["mcphub_sessions_overdue"] > active || sum["mcphub_sessions_idle"] > active {
			t.Errorf("more %s sessions are overdue or idle than there are: %v", kind, sum)
		}
		if kind == session.Derived && sum["mcphub_sessions_dirty"]+sum["mcphub_sessions_restored_total"] > 0 {
			t.Errorf("derived sessions are stored: %v", sum)
		}
	}
}

// expireAll lets every session expire and checks that nothing is left.
func expireAll(t *testing.T, m *session.Manager, store *faulty, reg prometheus.Gatherer) {
	t.Helper()
	store.during(nil)
	check(t, m.Restore(t.Context()))
	for _, id := range keys(t, store) {
		_ = m.Has(t.Context(), id) // load what Run has not loaded
	}
	for _, id := range ids(m) {
		if _, err := m.End(t.Context(), id, session.Admin); err != nil {
			t.Error(err)
		}
	}
	check(t, m.Flush(t.Context()))
	checkInvariant(t, reg)
	if left := keys(t, store); len(left) != 0 || len(ids(m)) != 0 {
		t.Errorf("after all have ended %v are live and %v stored", ids(m), left)
	}
	for name, labels := range map[string][]string{
		"mcphub_sessions_active": {"protocol", "streamable_http"}, "mcphub_sessions_dirty": {"protocol"},
		"mcphub_sessions_restoring": {"protocol"},
	} {
		if got := metric(t, reg, name, labels...); got != 0 {
			t.Errorf("after all have ended %s = %v", name, got)
		}
	}
}
