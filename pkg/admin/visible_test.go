package admin

import (
	"encoding/json"
	"testing"
	"unicode"

	"pgregory.net/rapid"
)

func TestCharactersWithoutAMarkAreShownEscaped(t *testing.T) {
	for text, want := range map[string]string{
		"claude-code 2.1":                       "claude-code 2.1",
		"Schlüssel 日本　語 \u00a0😀é":               "Schlüssel 日本　語 \u00a0😀é",
		"a\x1b[2Jb\r\n\tc\x7f":                  `a\u001b[2Jb\r\n\tc\u007f`,
		"a\u009b31mb\u0085":                     `a\u009b31mb\u0085`,
		"\u202efdp.exe\u2066\u200b\ufeff\u00ad": `\u202efdp.exe\u2066\u200b\ufeff\u00ad`,
		"a\u2028b\u2029":                        `a\u2028b\u2029`,
		"tag\U000e0041":                         `tag\udb40\udc41`,
		"\xff":                                  `\ufffd`,
	} {
		if got := Visible(text); got != want {
			t.Errorf("%q is shown as %s; want %s", text, got, want)
		}
	}
	if got := VisibleLines("a\u202e\nb\x1b\n"); got != "a\\u202e\nb\\u001b\n" {
		t.Errorf("lines are shown as %q", got)
	}
}

func TestVisibleJSONHasTheSameValueAndNothingHidden(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.String().Draw(t, "s") + string(rapid.RuneFrom(nil, unicode.Cf, unicode.Cc, unicode.Zl, unicode.Zp).Draw(t, "r"))
		text, err := json.Marshal(map[string]string{s: s})
		if err != nil {
			t.Fatal(err)
		}
		shown := VisibleJSON(text)
		var was, is map[string]string
		if json.Unmarshal(text, &was) != nil || json.Unmarshal(shown, &is) != nil || is[s] != was[s] {
			t.Fatalf("%s became %s", text, shown)
		}
		for _, r := range string(shown) {
			if !unicode.IsGraphic(r) {
				t.Fatalf("%q is in %q", r, shown)
			}
		}
	})
}
