package telemetry

import (
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/lmittmann/tint"
)

// levelTrace is the level TRACE, below DEBUG.
const levelTrace = slog.Level(-8)

const levelNotice = slog.Level(2) // between INFO and WARN

// levels are the named levels, lowest first.
var levels = [...]struct {
	level slog.Level
	name  string
}{
	{levelTrace, "trace"},
	{slog.LevelDebug, "debug"},
	{slog.LevelInfo, "info"},
	{levelNotice, "notice"},
	{slog.LevelWarn, "warn"},
	{slog.LevelError, "error"},
}

// ParseLevel returns the level called s, in upper or lower case.
func ParseLevel(s string) (slog.Level, error) {
	for _, l := range levels {
		if strings.EqualFold(s, l.name) {
			return l.level, nil
		}
	}
	return 0, fmt.Errorf("log level %q: want trace, debug, info, notice, warn or error", s)
}

// levelIndex returns the index in levels of the highest level that l reaches, and 0 if l is
// below all of them.
func levelIndex(l slog.Level) int {
	i := len(levels) - 1
	for i > 0 && levels[i].level > l {
		i--
	}
	return i
}

// levelName returns the name of the highest level that l reaches.
func levelName(l slog.Level) string { return levels[levelIndex(l)].name }

// newFormat returns the handler that writes records in the given format. It writes records
// of every level: the filters before it select them.
func newFormat(format string, w io.Writer, terminal bool, env environ) (slog.Handler, error) {
	if format == "" || format == "auto" {
		format = "json"
		if terminal {
			format = "tint"
		}
	}
	switch format {
	case "tint":
		return newTint(w, !terminal || env.get("NO_COLOR") != ""), nil
	case "json":
		return newJSON(w), nil
	}
	return nil, fmt.Errorf("log format %q: want auto, tint or json", format)
}

func newJSON(w io.Writer) slog.Handler {
	return slog.NewJSONHandler(visibleJSON{w}, &slog.HandlerOptions{
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			switch {
			case len(groups) > 0:
			case a.Key == slog.TimeKey && a.Value.Kind() == slog.KindTime:
				return slog.String(a.Key, a.Value.Time().Format("2006-01-02T15:04:05.000Z07:00"))
			case isLevel(a, levelTrace):
				return slog.String(a.Key, "TRACE")
			case isLevel(a, levelNotice):
				return slog.String(a.Key, "NOTICE")
			}
			return a
		},
	})
}

func newTint(w io.Writer, noColor bool) slog.Handler {
	const gray, cyan = 8, 14
	return tint.NewTextHandler(w, &tint.Options{
		NoColor: noColor,
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			switch {
			case len(groups) > 0:
			case isLevel(a, levelTrace):
				return tint.Attr(gray, slog.String(a.Key, "TRACE"))
			case isLevel(a, levelNotice):
				return tint.Attr(cyan, slog.String(a.Key, "NOTICE"))
			}
			return a
		},
	})
}

func isLevel(a slog.Attr, l slog.Level) bool {
	if a.Key != slog.LevelKey || a.Value.Kind() != slog.KindAny {
		return false
	}
	got, ok := a.Value.Any().(slog.Level)
	return ok && got == l
}
