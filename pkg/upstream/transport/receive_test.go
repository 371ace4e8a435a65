package transport

import (
	"strings"
	"testing"
)

func TestAQuotedTextHasNoPartOfALongSecret(t *testing.T) {
	t.Parallel()
	secret := strings.Repeat("sesame", 200)
	c := Config{Mask: strings.NewReplacer(secret, "***").Replace}
	if got := c.quoted([]byte("no message: " + secret + strings.Repeat(" and more", 10_000))); len(got) > maxQuoted ||
		strings.Contains(got, "sesame") || !strings.HasPrefix(got, "no message: ***") {
		t.Errorf("%q", got)
	}
}
