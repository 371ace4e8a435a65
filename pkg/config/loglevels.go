package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// subsystems are the parts of the hub that can have a log level of their own. pkg/telemetry has the same list; a
// test of cmd/mcphub compares them.
var subsystems = [...]string{"admin", "catalog", "gateway", "mcp", "persist", "server", "session", "telemetry",
	"upstream"}

// levels are the values of log.level.
var levels = []Choice{{"trace", ""}, {"debug", ""}, {"info", ""}, {"notice", ""}, {"warn", ""}, {"error", ""}}

var (
	aLevel     = alternatives(levels)
	checkLevel = oneOf(levels)
)

// levelVariable sets log.level. The error for a part of MCPHUB_LOG that is not valid names it.
const levelVariable = "MCPHUB_LOG_LEVEL"

// logLevelsType is the type of log.levels: subsystem to level.
var logLevelsType = valueType[map[string]string]{
	name:   "mapping of levels",
	empty:  "{}",
	isZero: func(v map[string]string) bool { return len(v) == 0 },
	read:   (*decoder).logLevels,
	parse:  parseLogLevels,
	check:  checkLogLevels,
}

func (d *decoder) logLevels(n *node, at string) (values map[string]string, ok bool) {
	s := schema{}
	for _, name := range subsystems {
		s[name] = schemaKey{read: func(d *decoder, n *node, at string) {
			if level, ok := d.text(n, at, aLevel); ok {
				if values == nil {
					values = map[string]string{}
				}
				values[name] = level
			}
		}}
	}
	s.read(d, n, at)
	return values, true
}

// parseLogLevels reads a text such as session=debug,upstream=info. Subsystems that are not in it keep their old level.
func parseLogLevels(text string, old map[string]string, source string, fs *findings) (map[string]string, bool) {
	values := map[string]string{}
	maps.Copy(values, old) // another Config may have the same map
	valid := true
	for i, part := range strings.Split(text, ",") {
		name, level, ok := strings.Cut(strings.TrimSpace(part), "=")
		wrong := checkSubsystem(name)
		switch {
		case !ok:
			wrong = "is not of the form SUBSYSTEM=LEVEL; expected such as session=debug,upstream=info; use " +
				levelVariable + " for all other subsystems"
		case wrong == "":
			wrong = checkLevel(level)
		}
		fs.value(fmt.Sprintf("%s, entry %d", source, i+1), wrong)
		valid = valid && wrong == ""
		values[name] = level
	}
	return values, valid
}

func checkLogLevels(v map[string]string, at string, fs *findings) {
	for _, name := range slices.Sorted(maps.Keys(v)) {
		fs.entry(at, name, true, checkSubsystem(name))
		fs.entry(at, name, false, checkLevel(v[name]))
	}
}

func checkSubsystem(name string) string {
	if slices.Contains(subsystems[:], name) {
		return ""
	}
	return "unknown subsystem; " + suggestion(name, subsystems[:])
}
