package instrument

import "testing"

func TestRedactedURIOmitsPossibleSecrets(t *testing.T) {
	t.Parallel()
	for uri, want := range map[string]string{
		"":                                      "",
		"file:///a/b@c":                         "file:///a/b@c",
		"https://user:secret@host:1/a?k=secret": "https://host:1/a",
		"https://a@b@host":                      "https://host",
		"https://host#secret?secret":            "https://host",
		"https://host?x=://secret@":             "https://host",
		"urn:a:b?=secret":                       "urn:a:b",
		"DATA:text/plain,secret":                "DATA:",
		"not a URI @ all":                       "not a URI @ all",
	} {
		if got := RedactedURI(uri); got != want {
			t.Errorf("%q becomes %q, want %q", uri, got, want)
		}
	}
}
