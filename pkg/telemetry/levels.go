package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// subsystems are the parts of the hub that have a level of their own. What mcp-go
// and other libraries log is mcp.
var subsystems = [...]string{"admin", "catalog", "gateway", "mcp", "persist", "session", "telemetry", "upstream"}

const (
	subsystemKey = "subsystem"
	// DefaultLevel names the level of what has none of its own; as a level it
	// means to have none of one's own.
	DefaultLevel = "default"

	minLevelTime = time.Second
	maxLevelTime = 24 * time.Hour
)

// labelOf is the value of the label subsystem.
func labelOf(subsystem string) string {
	if subsystem == "" {
		return "main"
	}
	return subsystem
}

// Subsystems returns the names of the subsystems, sorted.
func Subsystems() []string { return slices.Clone(subsystems[:]) }

// LevelState is the level of one subsystem.
type LevelState struct {
	Subsystem string    // or DefaultLevel
	Level     string    // that holds now
	Own       bool      // false: it is the default's
	Until     time.Time // when Then takes over; zero: never
	Then      string    // a level, or DefaultLevel; "" without Until
}

// Levels are the log levels of the subsystems. They can be read and changed at
// any time, by several goroutines.
type Levels struct {
	log *slog.Logger // says what was changed, whatever the levels are

	mu     sync.Mutex
	slots  map[string]*slot
	closed bool
}

// slot is one subsystem, or the default.
type slot struct {
	level slog.LevelVar // that holds now: the one thing a logger looks at
	base  setting
	brief *brief // instead of base; nil: nothing
}

// setting is a level that somebody chose; nobody has in its zero value.
type setting struct {
	own   bool
	level slog.Level
}

// brief is a setting with an end.
type brief struct {
	setting
	until time.Time
	alarm *alarm
}

// newLevels returns the levels that the configuration wants. The level of
// SESSION_DEBUG makes the session code say more, never less.
func newLevels(normal slog.Level, own map[string]string, debug sessionDebug) (*Levels, error) {
	l := &Levels{slots: map[string]*slot{DefaultLevel: {base: setting{true, normal}}}}
	for _, name := range subsystems {
		l.slots[name] = new(slot)
	}
	if _, ok := own[DefaultLevel]; ok {
		return nil, fmt.Errorf("log levels: %w", l.unknown(DefaultLevel, subsystems[:]))
	}
	settings, err := l.parse(own)
	if err != nil {
		return nil, fmt.Errorf("log levels: %w", err)
	}
	for name, s := range settings {
		l.slots[name].base = s
	}
	l.apply()
	if session := l.slots["session"]; debug.level < session.level.Level() {
		session.base = setting{true, debug.level}
		l.apply()
	}
	return l, nil
}

// parse reads levels by subsystem. It reports all that is wrong with them.
func (l *Levels) parse(levels map[string]string) (map[string]setting, error) {
	var errs []error
	settings := make(map[string]setting, len(levels))
	for _, name := range slices.Sorted(maps.Keys(levels)) {
		if l.slots[name] == nil {
			errs = append(errs, l.unknown(name, append([]string{DefaultLevel}, subsystems[:]...)))
			continue
		}
		if levels[name] == DefaultLevel && name != DefaultLevel {
			settings[name] = setting{}
			continue
		}
		level, err := ParseLevel(short(levels[name]))
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
			continue
		}
		settings[name] = setting{true, level}
	}
	return settings, errors.Join(errs...)
}

func (l *Levels) unknown(name string, known []string) error {
	return fmt.Errorf("subsystem %q: want one of %s", short(name), strings.Join(known, ", "))
}

// Set changes the levels of some subsystems, and under [DefaultLevel] that of all
// that have none of their own. If d is not 0, what was set without such a limit
// returns after it; it is between 1 s and 24 h. An error means that nothing
// was changed, and says what was wrong.
func (l *Levels) Set(ctx context.Context, levels map[string]string, d time.Duration) error {
	if len(levels) == 0 {
		return fmt.Errorf("no log level to set: want one of %s, %s with a level", DefaultLevel, strings.Join(subsystems[:], ", "))
	}
	if d != 0 && (d < minLevelTime || d > maxLevelTime) {
		return fmt.Errorf("log levels for %s: want a time between %s and %s", d, minLevelTime, maxLevelTime)
	}
	settings, err := l.parse(levels)
	if err != nil {
		return err
	}
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return errors.New("log levels: the hub is shutting down")
	}
	for name, s := range settings {
		l.set(name, s, d)
	}
	l.apply()
	l.mu.Unlock()
	attrs := make([]any, 0, len(settings)+1)
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		attrs = append(attrs, slog.String(name, settings[name].String()))
	}
	if d > 0 {
		attrs = append(attrs, slog.String("for", d.String()))
	}
	l.log.InfoContext(ctx, "log levels changed", slog.Group("levels", attrs...))
	return nil
}

// set changes one level. The caller holds mu.
func (l *Levels) set(name string, s setting, d time.Duration) {
	to := l.slots[name]
	if to.brief != nil {
		to.brief.alarm.timer.Stop() // if it rings already, it finds another brief, or none
		to.brief = nil
	}
	if d == 0 {
		to.base = s
		return
	}
	b := &brief{setting: s, until: time.Now().Add(d)}
	b.alarm = after(d, func() { l.expire(name, b) })
	to.brief = b
}

// expire brings back what held before b.
func (l *Levels) expire(name string, b *brief) {
	l.mu.Lock()
	s := l.slots[name]
	if s.brief != b || l.closed {
		l.mu.Unlock()
		return
	}
	s.brief = nil
	l.apply()
	back := s.base
	l.mu.Unlock()
	l.log.Info("log level is back after its time", slog.Group("levels", slog.String(name, back.String())))
}

// apply puts the settings into force. The caller holds mu.
func (l *Levels) apply() {
	normal := l.slots[DefaultLevel].setting().level
	for _, s := range l.slots {
		if now := s.setting(); now.own {
			s.level.Set(now.level)
		} else {
			s.level.Set(normal)
		}
	}
}

// of returns what a logger looks at; it never changes for a subsystem.
func (l *Levels) of(subsystem string) slog.Leveler {
	if subsystem == "" {
		subsystem = DefaultLevel
	}
	return &l.slots[subsystem].level
}

// setting is what holds now.
func (s *slot) setting() setting {
	if s.brief != nil {
		return s.brief.setting
	}
	return s.base
}

func (s setting) String() string {
	if !s.own {
		return DefaultLevel
	}
	return levelName(s.level)
}

// List returns the default and all subsystems, sorted.
func (l *Levels) List() []LevelState {
	l.mu.Lock()
	defer l.mu.Unlock()
	var list []LevelState
	for _, name := range append([]string{DefaultLevel}, subsystems[:]...) {
		s := l.slots[name]
		state := LevelState{Subsystem: name, Level: levelName(s.level.Level()), Own: s.setting().own}
		if s.brief != nil {
			state.Until, state.Then = s.brief.until, s.base.String()
		}
		list = append(list, state)
	}
	return list
}

// close ends the timers.
func (l *Levels) close() {
	var alarms []*alarm
	l.mu.Lock()
	if !l.closed {
		l.closed = true
		for _, s := range l.slots {
			if s.brief != nil {
				alarms = append(alarms, s.brief.alarm)
			}
		}
	}
	l.mu.Unlock()
	for _, a := range alarms {
		a.end()
	}
}
