package config

import (
	"fmt"
	"io"
	"log/slog"
)

// Secret is a text that does not print itself: whatever formats, logs or
// encodes it gets ***, and nothing when it is empty. Reveal is the only way
// to the text.
type Secret string

// Reveal returns the text itself, for the place that needs it.
func (s Secret) Reveal() string { return string(s) }

func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return "***"
}

// GoString is what %#v prints.
func (s Secret) GoString() string { return fmt.Sprintf("%q", s.String()) }

// Format keeps a wrong verb from printing the text: fmt would write
// %!d(config.Secret=...) with the value in it.
func (s Secret) Format(f fmt.State, verb rune) {
	switch {
	case verb == 'q', verb == 'v' && f.Flag('#'):
		_, _ = io.WriteString(f, s.GoString())
	default:
		_, _ = io.WriteString(f, s.String())
	}
}

// LogValue is what slog logs.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalJSON encodes *** in place of the text.
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(s.GoString()), nil }

// MarshalYAML encodes *** in place of the text.
func (s Secret) MarshalYAML() (any, error) { return s.String(), nil }
