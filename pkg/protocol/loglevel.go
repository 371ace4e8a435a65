package protocol

import "slices"

// logLevels are the levels that logging/setLevel accepts, the severities of RFC 5424, from the most verbose
// to the least.
var logLevels = [...]string{"debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"}

// LogSeverity returns the severity of a level, from 0 for debug, the most verbose, to 7 for emergency.
// It returns -1 if level is not a log level. (RFC 5424 numbers the severities in the opposite order.)
func LogSeverity(level string) int { return slices.Index(logLevels[:], level) }

// IsLogLevel reports whether logging/setLevel accepts level.
func IsLogLevel(level string) bool { return LogSeverity(level) >= 0 }

// MoreVerbose returns the more verbose of two levels. A string that is not a log level, such as "", counts
// as the least verbose.
func MoreVerbose(a, b string) string {
	switch {
	case !IsLogLevel(a):
		return b
	case IsLogLevel(b) && LogSeverity(b) < LogSeverity(a):
		return b
	}
	return a
}

// LogLevel returns the level of a severity from 0 to 7.
func LogLevel(severity int) string { return logLevels[severity] }
