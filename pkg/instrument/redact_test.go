package instrument

import (
	"errors"
	"fmt"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

type quoting struct{}

func (quoting) Error() string    { return "refused: private words" }
func (quoting) Redacted() string { return "refused" }

func TestRedactedErrorRepeatsNothingThatClientsOrServersSaid(t *testing.T) {
	t.Parallel()
	for want, err := range map[string]error{
		"":                               nil,
		"plain":                          errors.New("plain"),
		"a call: refused":                fmt.Errorf("a call: %w", quoting{}),
		"a call: error -32602":           fmt.Errorf("a call: %w", jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "private words")),
		"it is down: refused (next: 1s)": fmt.Errorf("it is down: %w (next: 1s)", NewPastError("refused: private words", "refused")),
	} {
		if got := Redacted(err); got != want {
			t.Errorf("%v becomes %q, want %q", err, got, want)
		}
	}
}

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
