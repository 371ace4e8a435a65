package telemetry

import (
	"errors"
	"log/slog"
	"math"
	"strings"
)

// The value is not repeated: it may hold a session's whole token.
var errSessionDebug = errors.New("SESSION_DEBUG: want nothing, 0, off or false; 1, true, debug or on; " +
	"2 or trace; or id:<sessionId>[,<sessionId>...]")

const neverLevel = slog.Level(math.MaxInt)

// sessionDebug says what the session code logs beyond the normal level: all
// records from level on, and all records of some sessions.
type sessionDebug struct {
	level slog.Level
	ids   prefixes
}

// prefixes are the beginnings of the ids of some sessions.
type prefixes []string

func (p prefixes) has(id string) bool {
	for _, prefix := range p {
		if strings.HasPrefix(id, prefix) {
			return true
		}
	}
	return false
}

func parseSessionDebug(s string) (sessionDebug, error) {
	s = strings.TrimSpace(s)
	switch strings.ToLower(s) {
	case "", "0", "off", "false":
		return sessionDebug{level: neverLevel}, nil
	case "1", "true", "debug", "on":
		return sessionDebug{level: slog.LevelDebug}, nil
	case "2", "trace":
		return sessionDebug{level: LevelTrace}, nil
	}
	list, ok := strings.CutPrefix(s, "id:")
	if !ok {
		return sessionDebug{}, errSessionDebug
	}
	var ids prefixes
	for id := range strings.SplitSeq(list, ",") {
		// Who pastes a Mcp-Session-Id header brings the verifier along, after a dot.
		id, _, _ = strings.Cut(strings.TrimSpace(id), ".")
		if id == "" {
			return sessionDebug{}, errSessionDebug
		}
		ids = append(ids, id)
	}
	return sessionDebug{level: neverLevel, ids: ids}, nil
}
