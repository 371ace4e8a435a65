package telemetry

import (
	"context"
	"log/slog"
	"regexp"
	"strings"

	"github.com/go-logr/logr"
)

// newLibraryLogger returns a logger for the OpenTelemetry SDK, whose default one prints to
// stderr directly. The SDK uses the levels of logr: V(1) for minor warnings, V(4) for
// occasional events, V(8) for everything.
func newLibraryLogger(out slog.Handler) logr.Logger { return logr.FromSlogHandler(out) }

// StdLog is an io.Writer for package log of the standard library. net/http logs unsolicited
// responses of servers there and quotes them; StdLog removes quoted texts.
type StdLog struct{ Logger *slog.Logger }

// quoted matches a text in quotes, as the verb %q of fmt writes it.
var quoted = regexp.MustCompile(`"(?:[^"\\]|\\.)*"`) //nolint:gochecknoglobals // constant

// Write logs one message.
func (l StdLog) Write(p []byte) (int, error) {
	text := quoted.ReplaceAllLiteralString(strings.TrimSpace(string(p)), `"..."`)
	l.Logger.Log(context.Background(), slog.LevelInfo, text)
	return len(p), nil
}
