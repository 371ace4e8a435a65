package session

import "fmt"

// Kind says what made a session.
type Kind string

// The kinds.
const (
	Protocol Kind = ""        // initialize did: it has a token, steers the hub and is stored
	Derived  Kind = "derived" // requests without a session did: it is only seen, see Manager.Derive
)

// Kinds lists every Kind.
func Kinds() []Kind { return []Kind{Protocol, Derived} }

// String is how listings and metrics name the kind: protocol or derived.
func (k Kind) String() string {
	if k == Protocol {
		return "protocol"
	}
	return string(k)
}

// MarshalText returns what String does.
func (k Kind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText sets k to the kind that String names so.
func (k *Kind) UnmarshalText(text []byte) error {
	for _, known := range Kinds() {
		if known.String() == string(text) {
			*k = known
			return nil
		}
	}
	return fmt.Errorf("%q is no kind of session: say %s or %s", clip(string(text), 32), Protocol, Derived)
}
