package instrument

import (
	"strings"
	"testing"
)

func TestAttributeTextIsBoundedAndValidUTF8(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"":                             "",
		"é":                            "é",
		"a\xffb":                       "ab",
		strings.Repeat("x", 300):       strings.Repeat("x", maxAttribute),
		strings.Repeat("x", 255) + "é": strings.Repeat("x", 255), // the limit is inside of é
	} {
		if got := AttributeText(in); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
}
