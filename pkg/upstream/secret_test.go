package upstream

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

func TestAServerCannotRepeatItsConfiguredSecrets(t *testing.T) {
	t.Parallel()
	s := Spec{URL: "http://host/mcp?token=query-secret&n=1", Headers: map[string]string{"Authorization": "Bearer header-secret", "X-Mode": "debug"},
		Secrets: []string{"env-secret", "env-secret-that-is-longer", "true", ""}}
	s.mask = s.masker()
	got := s.masked("Bearer header-secret, header-secret, query-secret, env-secret-that-is-longer, env-secret, debug, true, 1")
	if want := "***, ***, ***, ***, ***, debug, true, 1"; got != want {
		t.Errorf("%q", got)
	}
	if e := s.refusal([]byte(`{"code":-1,"message":"no env-secret"}`)); e.Message != "no ***" {
		t.Errorf("%v", e)
	}
	s = Spec{URL: "http://user:url-p%40ssword@host/mcp?key=YWJjZGVmZ2g%3D&n=1"} // as a server may log what it was asked
	s.mask = s.masker()
	got = s.masked("GET /mcp?key=YWJjZGVmZ2g%3D&n=1 (YWJjZGVmZ2g=) by user, url-p@ssword, url-p%40ssword")
	if want := "GET /mcp?key=***&n=1 (***) by user, ***, ***"; got != want {
		t.Errorf("%q", got)
	}
	if got := (Spec{}).masked("nothing to mask"); got != "nothing to mask" {
		t.Errorf("%q", got)
	}
}

func TestErrorsOfTheHTTPClientDoNotQuoteAnswers(t *testing.T) {
	t.Parallel()
	refused := &net.OpError{Op: "dial", Err: errors.New("refused")}
	for _, test := range []struct{ err, want error }{
		{fmt.Errorf("net/http: HTTP/1.x transport connection broken: %w", errors.New(`malformed HTTP response "secret"`)), errNoHTTP},
		{fmt.Errorf("net/http: HTTP/1.x transport connection broken: %w", refused), refused},
		{fmt.Errorf("invalid proxy address %q: no", "http://user:secret@"), errBadProxy},
		{http.ErrSchemeMismatch, http.ErrSchemeMismatch},
	} {
		err := withoutURL(&url.Error{Op: "Post", URL: "http://host/?secret", Err: test.err})
		if !errors.Is(err, test.want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%v becomes %v", test.err, err)
		}
	}
}

// What net/http makes of an answer that it does not understand may quote it.
func TestAnswersThatAreNoHTTPAreNotQuoted(t *testing.T) {
	t.Parallel()
	for _, head := range []string{
		"HTTP/1.1 leaked OK", "HTTP/1.1 200 OK\r\nContent-Length: leaked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: leaked",
		"HTTP/1.1 200 OK\r\nleaked", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: leaked",
		"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: http://[leaked", "HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: leaked%zz",
	} {
		h := newHTTPScript(t, func(h *httpScript) {
			h.onPost = func(w http.ResponseWriter, _ *http.Request, _ jsonrpc.Message) bool {
				conn, _, err := http.NewResponseController(w).Hijack()
				if err == nil {
					_, _ = io.WriteString(conn, head+"\r\n\r\n")
					_ = conn.Close()
				}
				return true
			}
		})
		_, err := newEnv(t, h.spec()).openFor(t.Context(), nil, hub, Bound{})
		if err == nil || strings.Contains(err.Error(), "leaked") {
			t.Errorf("%q becomes %v", head, err)
		}
	}
}
