package telemetry

import (
	"errors"
	"log/slog"
	"math"
	"strings"
)

// errSessionDebug does not quote the value, which may contain the whole token of a session.
var errSessionDebug = errors.New("SESSION_DEBUG: want nothing, 0, off or false; 1, true, debug or on; " +
	"2 or trace; or id:<sessionId>[,<sessionId>...]")

// neverLevel is above every level of a record.
const neverLevel = slog.Level(math.MaxInt)

// sessionDebug selects records of the session code to log in addition to those of the normal
// level.
type sessionDebug struct {
	level slog.Level // all records from this level on
	ids   prefixes   // all records of these sessions
}

// prefixes are the prefixes of the ids of the chosen sessions.
type prefixes []string

// has reports whether id has one of the prefixes.
func (p prefixes) has(id string) bool {
	for _, prefix := range p {
		if strings.HasPrefix(id, prefix) {
			return true
		}
	}
	return false
}

// parseSessionDebug reads the value of SESSION_DEBUG.
func parseSessionDebug(s string) (sessionDebug, error) {
	s = strings.TrimSpace(s)
	switch strings.ToLower(s) {
	case "", "0", "off", "false":
		return sessionDebug{level: neverLevel}, nil
	case "1", "true", "debug", "on":
		return sessionDebug{level: slog.LevelDebug}, nil
	case "2", "trace":
		return sessionDebug{level: levelTrace}, nil
	}
	list, ok := strings.CutPrefix(s, "id:")
	if !ok {
		return sessionDebug{}, errSessionDebug
	}
	var ids prefixes
	for id := range strings.SplitSeq(list, ",") {
		// An Mcp-Session-Id header also contains the verifier, after a dot.
		id, _, _ = strings.Cut(strings.TrimSpace(id), ".")
		if id == "" {
			return sessionDebug{}, errSessionDebug
		}
		ids = append(ids, id)
	}
	return sessionDebug{level: neverLevel, ids: ids}, nil
}
