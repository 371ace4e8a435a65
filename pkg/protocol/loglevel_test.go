package protocol

import "testing"

func TestLogSeverityRisesFromDebugToEmergency(t *testing.T) {
	t.Parallel()
	for want, level := range []string{"debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"} {
		if got := LogSeverity(level); got != want || !IsLogLevel(level) {
			t.Errorf("%s: severity %d, want %d", level, got, want)
		}
	}
	for _, level := range []string{"", "warn", "Debug", "trace"} {
		if got := LogSeverity(level); got != -1 || IsLogLevel(level) {
			t.Errorf("%q: severity %d, want -1", level, got)
		}
	}
}

func TestMoreVerboseIgnoresUnknownLevels(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ a, b, want string }{
		{"debug", "info", "debug"}, {"info", "debug", "debug"}, {"error", "error", "error"},
		{"", "emergency", "emergency"}, {"emergency", "", "emergency"}, {"loud", "info", "info"}, {"info", "loud", "info"},
		{"", "", ""},
	} {
		if got := MoreVerbose(tt.a, tt.b); got != tt.want {
			t.Errorf("MoreVerbose(%q, %q) = %q, want %q", tt.a, tt.b, got, tt.want)
		}
	}
}
