package config

import (
	"fmt"
	"io"
	"log/slog"
)

// Secret is a string that does not print itself. It is formatted, logged and encoded as ***, or as nothing if it is
// empty. Only Reveal returns the string.
type Secret string

// Reveal returns the string itself.
func (s Secret) Reveal() string { return string(s) }

func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return "***"
}

// GoString implements fmt.GoStringer, for %#v.
func (s Secret) GoString() string { return fmt.Sprintf("%q", s.String()) }

// Format implements fmt.Formatter. Without it, a verb for another type would print the string: for %d, fmt writes
// %!d(config.Secret=...) with the value in it.
func (s Secret) Format(f fmt.State, verb rune) {
	switch {
	case verb == 'q', verb == 'v' && f.Flag('#'):
		_, _ = io.WriteString(f, s.GoString())
	default:
		_, _ = io.WriteString(f, s.String())
	}
}

// LogValue implements slog.LogValuer.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalJSON encodes *** instead of the string.
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(s.GoString()), nil }

// MarshalYAML encodes *** instead of the string.
func (s Secret) MarshalYAML() (any, error) { return s.String(), nil }
