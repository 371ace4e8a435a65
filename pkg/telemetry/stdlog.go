package telemetry

import (
	"context"
	"log/slog"
	"regexp"
	"strings"

	"github.com/go-logr/logr"
)

// newLibraryLogger is a logger for the OpenTelemetry SDK, whose own one prints to
// stderr past the log. Its levels are those of logr: V(1) are warnings of little
// weight, V(4) is what happens now and then, V(8) is everything.
func newLibraryLogger(out slog.Handler) logr.Logger { return logr.FromSlogHandler(out) }

// StdLog is where package log of the standard library is to write. Net/http
// quotes there what servers sent and nobody asked for; that is taken out.
type StdLog struct{ Logger *slog.Logger }

// quoted is a text in quotes, as fmt's verb q writes it.
var quoted = regexp.MustCompile(`"(?:[^"\\]|\\.)*"`) //nolint:gochecknoglobals // constant

// Write logs one message.
func (l StdLog) Write(p []byte) (int, error) {
	l.Logger.Log(context.Background(), slog.LevelInfo, quoted.ReplaceAllLiteralString(strings.TrimSpace(string(p)), `"..."`))
	return len(p), nil
}
