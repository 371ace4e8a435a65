package protocol

import "slices"

// logLevels are the levels that logging/setLevel accepts, in the order of RFC 5424 from the
// most verbose to the least.
var logLevels = [...]string{"debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"}

// LogSeverity returns the severity of a level: 0 for debug, the most verbose, to 7 for
// emergency, and -1 for a text that is no level.
func LogSeverity(level string) int { return slices.Index(logLevels[:], level) }

// IsLogLevel reports whether logging/setLevel accepts level.
func IsLogLevel(level string) bool { return LogSeverity(level) >= 0 }

// MoreVerbose returns the more verbose of two levels. A text that is no level, the empty one
// among them, counts as the least verbose.
func MoreVerbose(a, b string) string {
	switch {
	case !IsLogLevel(a):
		return b
	case IsLogLevel(b) && LogSeverity(b) < LogSeverity(a):
		return b
	}
	return a
}
