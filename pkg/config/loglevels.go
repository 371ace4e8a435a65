package config

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// subsystems are the parts of the hub that can have a log level of their own.
var subsystems = [...]string{"admin", "catalog", "gateway", "mcp", "persist", "session", "telemetry", "upstream"}

const logVariable = "MCPHUB_LOG"

// logLevels reads log.levels.
func logLevels(to *map[string]string) reader {
	fields := schema{}
	for _, name := range subsystems {
		fields[name] = func(d *decoder, n *node, at string) {
			if s, ok := d.text(n, at, aLevel); ok {
				if *to == nil {
					*to = map[string]string{}
				}
				(*to)[name] = s
			}
		}
	}
	return object(fields)
}

func (l Log) check(fs *findings) {
	fs.value("log.level", checkLevel(l.Level))
	fs.value("log.format", checkFormat(l.Format))
	for _, name := range slices.Sorted(maps.Keys(l.Levels)) {
		fs.entry("log.levels", name, true, checkSubsystem(name))
		fs.entry("log.levels", name, false, checkLevel(l.Levels[name]))
	}
}

func checkSubsystem(name string) string {
	if slices.Contains(subsystems[:], name) {
		return ""
	}
	expected := "expected one of " + strings.Join(subsystems[:], ", ")
	if hint := closest(name, subsystems[:]); hint != "" {
		expected = "did you mean " + hint + "?"
	}
	return "unknown subsystem; " + expected
}

// applyLog lets MCPHUB_LOG, such as session=debug,upstream=info, override the
// levels of the subsystems it names.
func (l *Log) applyLog(text string) error {
	levels := map[string]string{}
	maps.Copy(levels, l.Levels) // another Config may have the same map
	var errs []error
	for i, entry := range strings.Split(text, ",") {
		name, level, ok := strings.Cut(strings.TrimSpace(entry), "=")
		wrong := checkSubsystem(name)
		switch {
		case !ok:
			wrong = "is not of the form SUBSYSTEM=LEVEL; expected such as session=debug,upstream=info; MCPHUB_LOG_LEVEL is for all others"
		case wrong == "":
			wrong = checkLevel(level)
		}
		if wrong != "" {
			errs = append(errs, errors.New(sentence(fmt.Sprintf("%s, entry %d", logVariable, i+1), wrong)))
			continue
		}
		levels[name] = level
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	l.Levels = levels
	return nil
}
