package session

import "fmt"

// Kind says how a session came into being.
type Kind string

// The kinds.
const (
	Protocol Kind = ""        // by initialize: it has a token and is stored
	Derived  Kind = "derived" // from requests without a session id: for display and metrics only, see Manager.AcquireDerived
)

// Kinds returns every Kind.
func Kinds() []Kind { return []Kind{Protocol, Derived} }

// String returns the name of k in listings and metrics: protocol or derived.
func (k Kind) String() string {
	if k == Protocol {
		return "protocol"
	}
	return string(k)
}

// MarshalText returns the result of String.
func (k Kind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText sets k to the kind whose String is text.
func (k *Kind) UnmarshalText(text []byte) error {
	for _, known := range Kinds() {
		if known.String() == string(text) {
			*k = known
			return nil
		}
	}
	return fmt.Errorf("session kind %q is unknown: use %s or %s", clip(string(text), 32), Protocol, Derived)
}
