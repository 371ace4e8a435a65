package session

import "time"

// Clock is what a Manager knows of the time besides the clock of its process, which
// nobody can set and which measures idleness and age while the process runs. The zero
// value works: over a restart only the wall clock is left to measure with.
type Clock struct {
	// Now is the wall clock. It dates what is shown and stored; it can be set, so
	// nothing ends because of it while the process runs. Default: time.Now.
	Now func() time.Time

	// Uptime is the time since the start of the machine, on a clock that nobody can
	// set, and Boot names that start. Over a restart they tell time that has passed
	// from a wall clock that was set. Default: not known. See MachineClock.
	Uptime func() time.Duration
	Boot   string
}

// Reading is what the clock of the machine said at the last activity of a session.
type Reading struct {
	Boot   string `json:"boot"`   // see Clock
	Uptime int64  `json:"uptime"` // ms
	Age    int64  `json:"age"`    // of the session, ms
	At     int64  `json:"at"`     // lastAccessedAt: a record in which that was changed has no reading
}

// wall returns what the wall clock says at the moment now, in ms since 1970. now is
// from time.Now, just taken.
func (c Clock) wall(now time.Time) int64 {
	if c.Now != nil {
		now = c.Now()
	}
	return now.UnixMilli()
}

func (c Clock) known() bool { return c.Uptime != nil && c.Boot != "" }

// reader returns a function that makes the Reading to store for a session, from the
// moments of its creation and of its last activity and the date of the latter. It
// makes none if the clock of the machine is not known.
func (c Clock) reader() func(born, seen time.Time, at int64) *Reading {
	if !c.known() {
		return func(time.Time, time.Time, int64) *Reading { return nil }
	}
	now, up := time.Now(), c.Uptime()
	return func(born, seen time.Time, at int64) *Reading {
		return &Reading{
			Boot: c.Boot, Uptime: (up - now.Sub(seen)).Milliseconds(), Age: seen.Sub(born).Milliseconds(), At: at,
		}
	}
}

// measure returns for how long a stored session has been idle, and its age at its last
// activity. wall is the time of the wall clock now, in ms.
//
// While the machine has not been started anew, time counts only as far as both clocks
// agree that it has passed. After a new start nothing tells a long stop from a wall
// clock that was set, so the time between the two hubs does not count.
func (c Clock) measure(s Session, wall int64) (idle, age time.Duration) {
	last := min(s.LastAccessedAt, wall) // no date is in the future
	idle = time.Duration(wall-last) * time.Millisecond
	age = max(0, time.Duration(last-s.CreatedAt)*time.Millisecond)
	r := s.Clock
	if r == nil || r.At != s.LastAccessedAt || !c.known() {
		return idle, age
	}
	age = max(0, time.Duration(r.Age)*time.Millisecond)
	if r.Boot != c.Boot {
		return 0, age
	}
	return min(idle, max(0, c.Uptime()-time.Duration(r.Uptime)*time.Millisecond)), age
}

// jumpShown is the difference from which a date counts as overtaken by a jump of the
// wall clock. Less is rounding.
const jumpShown = time.Second

// shown returns the date of a past moment for people: stored, in ms, unless the wall
// clock was set since. Then it is so long before now as the moment is.
func (c Clock) shown(moment time.Time, stored int64) int64 {
	now := time.Now()
	date := c.wall(now) - now.Sub(moment).Milliseconds()
	if d := date - stored; -jumpShown.Milliseconds() < d && d < jumpShown.Milliseconds() {
		return stored
	}
	return date
}

// jumpMin is the least jump of the wall clock that is reported. Time services correct
// small differences all the time.
const jumpMin = 5 * time.Second

// clockWatch notices that the wall clock was set.
type clockWatch struct {
	last time.Time
	wall int64 // what the wall clock said at last, ms
}

func watchClock(c Clock) clockWatch {
	now := time.Now()
	return clockWatch{now, c.wall(now)}
}

// jumped returns how far the wall clock was set forward (or back, if below 0) since
// the last call; 0: by less than jumpMin.
func (w *clockWatch) jumped(c Clock, now time.Time) time.Duration {
	wall := c.wall(now)
	by := time.Duration(wall-w.wall)*time.Millisecond - now.Sub(w.last)
	w.last, w.wall = now, wall
	if by.Abs() < jumpMin {
		return 0
	}
	return by.Round(time.Second)
}
