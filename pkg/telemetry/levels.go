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

// subsystems are the parts of the hub with a log level of their own. Records of mcp-go and
// other libraries belong to mcp, what servers print to server.
var subsystems = [...]string{"admin", "catalog", "gateway", "mcp", "persist", "server", "session", "telemetry",
	"upstream"}

const (
	subsystemKey = "subsystem"
	// DefaultLevel is the name of the level that subsystems without an own level use. As
	// the level of a subsystem it means that the subsystem has no own level.
	DefaultLevel = "default"

	minLevelTime = time.Second
	maxLevelTime = 24 * time.Hour
)

// labelOf returns the value of the label subsystem.
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
	Level     string    // current level
	Own       bool      // false: Level is that of DefaultLevel
	Until     time.Time // end of a temporary level; zero: the level is not temporary
	Then      string    // level, or DefaultLevel, after Until; "" without Until
}

// Levels are the log levels of the subsystems. They are safe for concurrent use.
type Levels struct {
	log *slog.Logger // logs every change, regardless of the levels

	mu     sync.Mutex
	states map[string]*levelState // by subsystem or DefaultLevel
	closed bool
}

// levelState is the level of one subsystem, or the default.
type levelState struct {
	level    slog.LevelVar // current level: loggers read only this
	base     setting
	override *override // temporary; nil: none
}

// setting is a level that somebody has set. The zero value means: use the default.
type setting struct {
	own   bool
	level slog.Level
}

// override is a setting with a limited duration.
type override struct {
	setting
	until time.Time
	timer *timer
}

// newLevels returns the configured levels. SESSION_DEBUG can only lower the level of the
// session code.
func newLevels(normal slog.Level, own map[string]string, debug sessionDebug) (*Levels, error) {
	l := &Levels{states: map[string]*levelState{DefaultLevel: {base: setting{true, normal}}}}
	for _, name := range subsystems {
		l.states[name] = new(levelState)
	}
	if _, ok := own[DefaultLevel]; ok {
		return nil, fmt.Errorf("log levels: %w", l.unknown(DefaultLevel, subsystems[:]))
	}
	settings, err := l.parse(own)
	if err != nil {
		return nil, fmt.Errorf("log levels: %w", err)
	}
	for name, s := range settings {
		l.states[name].base = s
	}
	l.apply()
	if session := l.states["session"]; debug.level < session.level.Level() {
		session.base = setting{true, debug.level}
		l.apply()
	}
	return l, nil
}

// parse reads levels by subsystem. Its error describes all invalid entries.
func (l *Levels) parse(levels map[string]string) (map[string]setting, error) {
	var errs []error
	settings := make(map[string]setting, len(levels))
	for _, name := range slices.Sorted(maps.Keys(levels)) {
		if l.states[name] == nil {
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

// unknown returns the error for a subsystem that does not exist.
func (l *Levels) unknown(name string, known []string) error {
	return fmt.Errorf("subsystem %q: want one of %s", short(name), strings.Join(known, ", "))
}

// Set changes the levels of subsystems; the key [DefaultLevel] changes that of all
// subsystems without an own level. If d is not 0, the change is temporary: after d the
// last level that was set without a duration returns. d is between 1 s and 24 h. If Set
// returns an error, nothing was changed.
func (l *Levels) Set(ctx context.Context, levels map[string]string, d time.Duration) error {
	if len(levels) == 0 {
		return fmt.Errorf("no log level to set: want one of %s, %s with a level",
			DefaultLevel, strings.Join(subsystems[:], ", "))
	}
	if d != 0 && (d < minLevelTime || d > maxLevelTime) {
		return fmt.Errorf("log levels for %s: want a duration between %s and %s", d, minLevelTime, maxLevelTime)
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
	state := l.states[name]
	if state.override != nil {
		state.override.timer.Stop() // if expire is running already, it does nothing: the override has changed
		state.override = nil
	}
	if d == 0 {
		state.base = s
		return
	}
	o := &override{setting: s, until: time.Now().Add(d)}
	o.timer = afterFunc(d, func() { l.expire(name, o) })
	state.override = o
}

// expire removes the override o.
func (l *Levels) expire(name string, o *override) {
	l.mu.Lock()
	s := l.states[name]
	if s.override != o || l.closed {
		l.mu.Unlock()
		return
	}
	s.override = nil
	l.apply()
	back := s.base
	l.mu.Unlock()
	l.log.Info("log level is back after its time", slog.Group("levels", slog.String(name, back.String())))
}

// apply sets the current levels from the settings. The caller holds mu.
func (l *Levels) apply() {
	normal := l.states[DefaultLevel].setting().level
	for _, s := range l.states {
		if current := s.setting(); current.own {
			s.level.Set(current.level)
		} else {
			s.level.Set(normal)
		}
	}
}

// of returns the Leveler for the loggers of a subsystem. It is the same one each time.
func (l *Levels) of(subsystem string) slog.Leveler {
	if subsystem == "" {
		subsystem = DefaultLevel
	}
	return &l.states[subsystem].level
}

// setting returns the current setting.
func (s *levelState) setting() setting {
	if s.override != nil {
		return s.override.setting
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
		s := l.states[name]
		state := LevelState{Subsystem: name, Level: levelName(s.level.Level()), Own: s.setting().own}
		if s.override != nil {
			state.Until, state.Then = s.override.until, s.base.String()
		}
		list = append(list, state)
	}
	return list
}

// close stops the timers of temporary levels and waits for them.
func (l *Levels) close() {
	var timers []*timer
	l.mu.Lock()
	if !l.closed {
		l.closed = true
		for _, s := range l.states {
			if s.override != nil {
				timers = append(timers, s.override.timer)
			}
		}
	}
	l.mu.Unlock()
	for _, t := range timers {
		t.stopAndWait()
	}
}
