package session_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcphub-go/mcphub/pkg/persist"
	"github.com/mcphub-go/mcphub/pkg/session"
)

// opener opens Lives and records the reasons of their Close.
type opener struct {
	during func() error // called by open; nil: no call

	mu     sync.Mutex
	opened int
	closed []session.Reason
}

type half struct{ o *opener }

func (o *opener) open(context.Context, session.Session) (session.Live, error) {
	o.mu.Lock()
	o.opened++
	o.mu.Unlock()
	if o.during != nil {
		if err := o.during(); err != nil {
			return nil, err
		}
	}
	return &half{o}, nil
}

func (h *half) Close(why session.Reason) {
	h.o.mu.Lock()
	defer h.o.mu.Unlock()
	h.o.closed = append(h.o.closed, why)
}

func (o *opener) expect(t *testing.T, opened int, closed ...session.Reason) {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.opened != opened || !slices.Equal(o.closed, closed) {
		t.Errorf("opened %d times, closed %v; want %d, %v", o.opened, o.closed, opened, closed)
	}
}

// C6: two first requests could open two.
func TestConcurrentCallersOpenOneLive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &opener{during: func() error {
			time.Sleep(time.Second)
			return nil
		}}
		m := session.New(new(persist.Memory), session.Config{Open: o.open})
		s, token := create(t, m)
		lives := make(chan session.Live, 64)
		var wg sync.WaitGroup
		for range 64 {
			l := acquire(t, m, token)
			wg.Go(func() {
				defer l.Release()
				live, err := l.Live(t.Context())
				if err != nil {
					t.Error(err)
				}
				lives <- live
			})
		}
		wg.Wait()
		close(lives)
		first := <-lives
		for live := range lives {
			if live != first {
				t.Error("two callers got different Lives")
			}
		}
		o.expect(t, 1)
		end(t, m, s.ID)
		_, _ = m.End(t.Context(), s.ID, session.Admin)
		check(t, m.Close(t.Context()))
		o.expect(t, 1, session.ClientDelete)
	})
}

func TestFailedOpenIsReturnedAndTriedAgainByTheNext(t *testing.T) {
	o := &opener{during: func() error { return errDisk }}
	m := session.New(new(persist.Memory), session.Config{Open: o.open})
	_, token := create(t, m)
	l := acquire(t, m, token)
	defer l.Release()
	if _, err := l.Live(t.Context()); !errors.Is(err, errDisk) {
		t.Errorf("Live = %v; want the cause", err)
	}
	o.during = nil
	if live, err := l.Live(t.Context()); live == nil || err != nil {
		t.Errorf("the next Live = %v, %v", live, err)
	}
	o.expect(t, 2)
}

func TestSessionHasNoLiveWithoutOpen(t *testing.T) {
	m := session.New(new(persist.Memory), session.Config{})
	_, token := create(t, m)
	l := acquire(t, m, token)
	defer l.Release()
	if live, err := l.Live(t.Context()); live != nil || err != nil {
		t.Errorf("Live = %v, %v; want nothing", live, err)
	}
}

func TestSessionThatEndsDuringOpenClosesItsLive(t *testing.T) {
	for name, tt := range map[string]struct {
		stop func(*testing.T, *session.Manager, string)
		why  session.Reason
		want error
	}{
		"End": {func(t *testing.T, m *session.Manager, id string) { end(t, m, id) }, session.ClientDelete, session.ErrNotFound},
		"Close": {func(t *testing.T, m *session.Manager, _ string) { check(t, m.Close(t.Context())) },
			session.Shutdown, session.ErrUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				gate := make(chan struct{})
				o := &opener{during: func() error {
					<-gate
					return nil
				}}
				m := session.New(new(persist.Memory), session.Config{Open: o.open})
				s, token := create(t, m)
				l := acquire(t, m, token)
				defer l.Release()
				var wg sync.WaitGroup
				for range 8 {
					wg.Go(func() {
						if live, err := l.Live(t.Context()); live != nil || !errors.Is(err, tt.want) {
							t.Errorf("Live = %v, %v; want %v", live, err, tt.want)
						}
					})
				}
				synctest.Wait()
				tt.stop(t, m, s.ID)
				o.expect(t, 1)
				close(gate)
				wg.Wait()
				o.expect(t, 1, tt.why)
				if _, err := l.Live(t.Context()); !errors.Is(err, tt.want) {
					t.Errorf("Live afterwards = %v; want %v", err, tt.want)
				}
				o.expect(t, 1, tt.why)
			})
		})
	}
}

func TestCloseClosesEveryLiveAndKeepsTheRecords(t *testing.T) {
	store, o := newFaulty(), new(opener)
	m := session.New(store, session.Config{Open: o.open})
	for range 3 {
		_, token := create(t, m)
		l := acquire(t, m, token)
		_, err := l.Live(t.Context())
		check(t, err)
		l.Release()
	}
	create(t, m) // never used, nothing to close
	check(t, m.Close(t.Context()))
	check(t, m.Close(t.Context())) // further calls do nothing
	o.expect(t, 3, session.Shutdown, session.Shutdown, session.Shutdown)
	if got := keys(t, store); len(got) != 4 {
		t.Errorf("the store holds %v; want all 4 sessions", got)
	}
}

func TestExpiredSessionClosesItsLiveAsIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := new(opener)
		m := session.New(new(persist.Memory), session.Config{Open: o.open})
		_, swept := create(t, m)
		_, asked := create(t, m)
		for _, token := range []string{swept, asked} {
			l := acquire(t, m, token)
			_, err := l.Live(t.Context())
			check(t, err)
			l.Release()
		}
		time.Sleep(31 * time.Minute)
		_, err := m.Acquire(t.Context(), asked, "")
		if !errors.Is(err, session.ErrNotFound) {
			t.Errorf("Acquire = %v", err)
		}
		o.expect(t, 2, session.IdleTimeout)
		if n, err := m.Cleanup(t.Context()); n != 1 || err != nil {
			t.Errorf("Cleanup = %d, %v", n, err)
		}
		o.expect(t, 2, session.IdleTimeout, session.IdleTimeout)
	})
}

// caller is a Live that calls the Manager in Close.
type caller struct{ done func() }

func (c caller) Close(session.Reason) { c.done() }

func TestManagerHoldsNoLockDuringOpenAndClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m *session.Manager
		use := func() {
			_, _ = m.All()
			create(t, m)
			check(t, m.Flush(t.Context()))
		}
		m = session.New(new(persist.Memory), session.Config{
			Open: func(context.Context, session.Session) (session.Live, error) {
				use()
				return caller{use}, nil
			},
		})
		open := func() string {
			s, token := create(t, m)
			l := acquire(t, m, token)
			defer l.Release()
			_, err := l.Live(t.Context())
			check(t, err)
			return s.ID
		}
		end(t, m, open())
		open()
		time.Sleep(31 * time.Minute)
		if n, err := m.Cleanup(t.Context()); n == 0 || err != nil {
			t.Errorf("Cleanup = %d, %v", n, err)
		}
		open()
		check(t, m.Close(t.Context()))
	})
}

func TestCallerWhoseContextEndsDuringOpenFailsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &opener{during: func() error {
			time.Sleep(time.Minute)
			return nil
		}}
		m := session.New(new(persist.Memory), session.Config{Open: o.open})
		_, token := create(t, m)
		l := acquire(t, m, token)
		defer l.Release()
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := l.Live(t.Context()); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := l.Live(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Live = %v; want the end of its context", err)
		}
		wg.Wait()
		o.expect(t, 1)
	})
}
