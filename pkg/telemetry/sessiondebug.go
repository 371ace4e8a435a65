package telemetry

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// The value is not repeated: it may hold a session's whole token.
var errSessionDebug = errors.New("SESSION_DEBUG: want nothing, 0, off or false; 1, true, debug or on; " +
	"2 or trace; or id:<sessionId>[,<sessionId>...]")

const neverLevel = slog.Level(math.MaxInt)

// sessionDebug says what the session code logs beyond the normal level: all
// records from level on, and all records of some sessions.
type sessionDebug struct {
	level slog.Level
	ids   map[string]bool
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
	ids := make(map[string]bool)
	for id := range strings.SplitSeq(list, ",") {
		// Who pastes a Mcp-Session-Id header brings the verifier along, after a dot.
		id, _, _ = strings.Cut(strings.TrimSpace(id), ".")
		if id == "" {
			return sessionDebug{}, errSessionDebug
		}
		ids[id] = true
	}
	return sessionDebug{level: neverLevel, ids: ids}, nil
}

// handler returns the handler of the session code. It says at least what the
// normal level says.
func (d sessionDebug) handler(format slog.Handler, normal slog.Level, records []prometheus.Counter) slog.Handler {
	normal = min(normal, d.level)
	if len(d.ids) == 0 {
		return newHandler(format, normal, records)
	}
	all := newHandler(format, min(normal, LevelTrace), records)
	return &sessionHandler{Handler: all, normal: normal, ids: d.ids}
}

// sessionHandler lets through all records that name one of some sessions, and
// of the others those that reach the normal level.
type sessionHandler struct {
	slog.Handler
	normal  slog.Level
	ids     map[string]bool
	matched bool // an attribute of the handler names one of ids
}

func (h *sessionHandler) Handle(ctx context.Context, r slog.Record) error {
	if r.Level < h.normal && !h.matched && !h.named(r) {
		return nil
	}
	return h.Handler.Handle(ctx, r)
}

func (h *sessionHandler) named(r slog.Record) (found bool) {
	r.Attrs(func(a slog.Attr) bool {
		found = h.names(a)
		return !found
	})
	return found
}

func (h *sessionHandler) names(a slog.Attr) bool {
	return a.Key == "session" && h.ids[a.Value.Resolve().String()]
}

func (h *sessionHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	h2 := *h
	h2.Handler = h.Handler.WithAttrs(attrs)
	for _, a := range attrs {
		h2.matched = h2.matched || h.names(a)
	}
	return &h2
}

func (h *sessionHandler) WithGroup(name string) slog.Handler {
	h2 := *h
	h2.Handler = h.Handler.WithGroup(name)
	return &h2
}
