package session_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mcphub-go/mcphub/pkg/persist"
	"github.com/mcphub-go/mcphub/pkg/session"
)

// machine has clocks that a test can set. Make it inside the bubble of the test.
type machine struct {
	started time.Time
	boot    string
	wall    time.Duration // by which the wall clock was set
	uptime  time.Duration // by which the other clock was set, as in a time namespace
}

func newMachine() *machine { return &machine{started: time.Now(), boot: "first"} }

func (x *machine) now() time.Time { return time.Now().Add(x.wall) }

func (x *machine) clock() session.Clock {
	return session.Clock{Now: x.now, Boot: x.boot, Uptime: func() time.Duration { return time.Since(x.started) + x.uptime }}
}

// startAnew is what a new start of the machine does to its clocks.
func (x *machine) startAnew() { x.started, x.boot = time.Now(), x.boot+"+" }

func TestJumpOfTheWallClockEndsNothing(t *testing.T) {
	for name, jump := range map[string]time.Duration{
		"45 minutes ahead": 45 * time.Minute, "a year ahead": 365 * 24 * time.Hour,
		"45 minutes back": -45 * time.Minute, "a year back": -365 * 24 * time.Hour,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x, reg := newMachine(), prometheus.NewPedanticRegistry()
				m := session.New(newFaulty(), session.Config{Clock: x.clock(), Registerer: reg, MaxLifetime: 12 * time.Hour})
				idle, _ := create(t, m)
				used, token := create(t, m)
				derived := m.AcquireDerived(t.Context(), named("probe"))
				derived.Release()
				time.Sleep(20 * time.Minute)
				acquire(t, m, token).Release()
				x.wall = jump
				cleanup(t, m, 0)
				acquire(t, m, token).Release()
				if got := metric(t, reg, "mcphub_sessions_overdue", "protocol"); got != 0 {
					t.Errorf("%v sessions are overdue", got)
				}
				for series, want := range map[string]time.Duration{
					"mcphub_session_oldest_age_seconds": 20 * time.Minute, "mcphub_session_oldest_idle_seconds": 20 * time.Minute,
				} {
					if got := metric(t, reg, series, "protocol"); got != want.Seconds() {
						t.Errorf("%s is %v; want %v", series, got, want.Seconds())
					}
				}
				time.Sleep(10 * time.Minute) // now 30 minutes have passed for two of them
				cleanup(t, m, 2)
				if m.Has(t.Context(), idle.ID) || m.Has(t.Context(), derived.ID()) || !m.Has(t.Context(), used.ID) {
					t.Error("other sessions ended than those that were idle")
				}
				time.Sleep(20 * time.Minute)
				cleanup(t, m, 1)
			})
		})
	}
}

func TestListingsDateInTermsOfTheNewTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newMachine()
		m := session.New(newFaulty(), session.Config{Clock: x.clock()})
		s, _ := create(t, m)
		time.Sleep(7 * time.Minute)
		m.Touch(s.ID)
		time.Sleep(3 * time.Minute)
		for _, jump := range []time.Duration{0, 45 * time.Minute, -45 * time.Minute} {
			x.wall = jump
			i, err := m.Info(t.Context(), s.ID)
			check(t, err)
			age, idle := x.now().UnixMilli()-i.CreatedAt, x.now().UnixMilli()-i.LastAccessedAt
			if age != (10*time.Minute).Milliseconds() || idle != (3*time.Minute).Milliseconds() ||
				i.ExpiresAt.Sub(x.now()) != 27*time.Minute {
				t.Errorf("after a jump by %v the session is %d ms old, idle for %d ms and expires in %v", jump,
					age, idle, i.ExpiresAt.Sub(x.now()))
			}
		}
	})
}

// over stops the hub after a session was idle for 10 minutes, does what happens
// meanwhile, and starts the hub again.
func over(t *testing.T, x *machine, crash bool, meanwhile func()) (m *session.Manager, token string) {
	t.Helper()
	store := newFaulty()
	m = session.New(store, session.Config{Clock: x.clock()})
	_, token = create(t, m)
	time.Sleep(10 * time.Minute)
	if !crash {
		check(t, m.Close(t.Context()))
	}
	meanwhile()
	return restored(t, store, session.Config{Clock: x.clock()}), token
}

func TestJumpOfAClockOverARestartIsNoIdleness(t *testing.T) {
	for name, jump := range map[string]func(x *machine){
		"wall clock ahead":    func(x *machine) { x.wall = 45 * time.Minute },
		"wall clock back":     func(x *machine) { x.wall = -45 * time.Minute },
		"new time namespace":  func(x *machine) { x.uptime = 45 * time.Minute },
		"old time namespace":  func(x *machine) { x.uptime = -45 * time.Minute },
		"a year ahead":        func(x *machine) { x.wall = 365 * 24 * time.Hour },
		"new start and ahead": func(x *machine) { x.startAnew(); x.wall = 45 * time.Minute },
	} {
		for _, crash := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					x := newMachine()
					m, token := over(t, x, crash, func() { time.Sleep(time.Minute); jump(x) })
					acquire(t, m, token).Release()
					time.Sleep(30 * time.Minute)
					cleanup(t, m, 1) // what it has been since then is idleness
				})
			})
		}
	}
}

// The jump happens while the hub runs, and the records on disk are from before it.
func TestJumpBeforeTheRestartIsNoIdleness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, jump := range []time.Duration{45 * time.Minute, -45 * time.Minute} {
			x, store := newMachine(), newFaulty()
			m := session.New(store, session.Config{Clock: x.clock()})
			_, token := create(t, m)
			time.Sleep(10 * time.Minute)
			x.wall = jump
			time.Sleep(10 * time.Minute)
			check(t, m.Close(t.Context()))
			m = restored(t, store, session.Config{Clock: x.clock()})
			time.Sleep(9 * time.Minute)
			acquire(t, m, token).Release()
		}
	})
}

func TestLongStopIsIdleness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newMachine()
		m, token := over(t, x, false, func() { time.Sleep(20 * time.Minute) })
		if _, err := m.Acquire(t.Context(), token, ""); !errors.Is(err, session.ErrNotFound) {
			t.Errorf("Acquire after 30 minutes = %v; want ErrNotFound", err)
		}
		m, token = over(t, x, false, func() { time.Sleep(20*time.Minute - time.Second) })
		acquire(t, m, token).Release()
	})
}

// Nobody can tell a long stop from a clock that was set, so the doubt is the client's.
func TestAfterANewStartOfTheMachineTheWholeIdleTimeoutIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newMachine()
		m, token := over(t, x, false, func() { time.Sleep(24 * time.Hour); x.startAnew() })
		time.Sleep(29 * time.Minute)
		acquire(t, m, token).Release()
	})
}

func TestAgeIsMeasuredOverARestart(t *testing.T) {
	for name, tt := range map[string]struct {
		meanwhile func(x *machine)
		left      time.Duration // of one hour, of which 10 minutes are used
	}{
		"jump ahead": {func(x *machine) { x.wall = 24 * time.Hour }, 50 * time.Minute},
		"jump back":  {func(x *machine) { x.wall = -24 * time.Hour }, 50 * time.Minute},
		"a stop":     {func(*machine) { time.Sleep(20 * time.Minute) }, 30 * time.Minute},
		"new start":  {func(x *machine) { time.Sleep(time.Hour); x.startAnew() }, 50 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x, store := newMachine(), newFaulty()
				cfg := session.Config{Clock: x.clock(), MaxLifetime: time.Hour}
				m := session.New(store, cfg)
				s, token := create(t, m)
				time.Sleep(10 * time.Minute)
				m.Touch(s.ID)
				check(t, m.Close(t.Context()))
				tt.meanwhile(x)
				cfg.Clock = x.clock()
				m = restored(t, store, cfg)
				acquire(t, m, token).Release()
				busy(m, s.ID, tt.left-time.Second)
				cleanup(t, m, 0)
				time.Sleep(time.Second)
				cleanup(t, m, 1)
				if e := m.Events(s.ID); e[len(e)-1].Detail != string(session.MaxLifetime) {
					t.Errorf("it ended as %q", e[len(e)-1].Detail)
				}
			})
		})
	}
}

// A record of mcp-hub-lite has dates and nothing else.
func TestRecordWithoutReadingIsMeasuredByItsDates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFaulty()
		put(t, store, "s1", fresh("s1"))
		time.Sleep(30 * time.Minute)
		m := restored(t, store, session.Config{Clock: newMachine().clock()})
		if _, err := m.Acquire(t.Context(), "s1", ""); !errors.Is(err, session.ErrNotFound) {
			t.Errorf("Acquire = %v; want ErrNotFound", err)
		}
	})
}

func TestRecordThatWasEditedIsMeasuredByItsDates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x, store := newMachine(), newFaulty()
		m := session.New(store, session.Config{Clock: x.clock()})
		s, token := create(t, m)
		check(t, m.Close(t.Context()))
		old := strings.ReplaceAll(record(t, store, s.ID), fmt.Sprintf(`"lastAccessedAt":%d`, s.LastAccessedAt),
			fmt.Sprintf(`"lastAccessedAt":%d`, s.LastAccessedAt-(30*time.Minute).Milliseconds()))
		put(t, store, s.ID, old)
		m = restored(t, store, session.Config{Clock: x.clock()})
		if _, err := m.Acquire(t.Context(), token, ""); !errors.Is(err, session.ErrNotFound) {
			t.Errorf("Acquire = %v; want ErrNotFound", err)
		}
	})
}

func TestReadingIsStoredAndNotShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x, store := newMachine(), newFaulty()
		m := session.New(store, session.Config{Clock: x.clock()})
		time.Sleep(time.Second)
		s, _ := create(t, m)
		time.Sleep(2 * time.Second)
		m.Touch(s.ID)
		time.Sleep(3 * time.Second)
		rename(t, m, s.ID, "other") // an update is activity, 6 s after the start of the machine
		time.Sleep(time.Second)
		check(t, m.Flush(t.Context()))
		want := session.Reading{Boot: "first", Uptime: 6000, Age: 5000, At: get(t, m, s.ID).LastAccessedAt}
		if got := stored(t, store, s.ID).Clock; got == nil || *got != want {
			t.Errorf("stored is %+v; want %+v", got, want)
		}
		m = restored(t, store, session.Config{Clock: x.clock()})
		i, err := m.Info(t.Context(), s.ID)
		check(t, err)
		if b, err := json.Marshal(i.Session); err != nil || strings.Contains(string(b), "clock") {
			t.Errorf("shown is %s, %v", b, err)
		}
	})
}

func TestAJumpOfTheWallClockIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		x, reg := newMachine(), prometheus.NewPedanticRegistry()
		m := session.New(new(persist.Memory), session.Config{Clock: x.clock(), Registerer: reg,
			Logger: slog.New(slog.NewTextHandler(&log, nil))})
		for _, wall := range []time.Duration{4 * time.Second, 46 * time.Minute, 46 * time.Minute, time.Second} {
			time.Sleep(time.Minute)
			x.wall = wall
			cleanup(t, m, 0)
		}
		for _, direction := range []string{"forward", "backward"} {
			if got := metric(t, reg, "mcphub_clock_jumps_total", direction); got != 1 {
				t.Errorf("%v jumps %s were counted", got, direction)
			}
		}
		if got := strings.Count(log.String(), "the wall clock of the machine was set"); got != 2 ||
			!strings.Contains(log.String(), "by=45m56s") || !strings.Contains(log.String(), "by=-45m59s") {
			t.Errorf("the log has\n%s", &log)
		}
	})
}

func TestMachineClockIsReadable(t *testing.T) {
	c := session.MachineClock()
	if c.Boot == "" {
		t.Skip("this machine has no boot id")
	}
	if first := c.Uptime(); first <= 0 || c.Uptime() < first || session.MachineClock().Boot != c.Boot {
		t.Errorf("up for %v since %q", first, c.Boot)
	}
}
