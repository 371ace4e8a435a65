package upstream

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

func TestServerCannotRepeatItsConfiguredSecrets(t *testing.T) {
	t.Parallel()
	s := Spec{URL: "http://host/mcp?token=query-secret&n=1",
		Headers: map[string]string{"Authorization": "Bearer header-secret", "X-Mode": "debug"},
		Secrets: []string{"env-secret", "env-secret-that-is-longer", "true", ""}}
	s.mask = newMask(s)
	got := s.masked("Bearer header-secret, header-secret, query-secret, env-secret-that-is-longer, env-secret, debug, true, 1")
	if want := "***, ***, ***, ***, ***, debug, true, 1"; got != want {
		t.Errorf("%q", got)
	}
	if e := s.refusal([]byte(`{"code":-1,"message":"no env-secret"}`)); e.Message != "no ***" {
		t.Errorf("%v", e)
	}
	s = Spec{URL: "http://user:url-p%40ssword@host/mcp?key=YWJjZGVmZ2g%3D&n=1"} // as a server may log what it was asked
	s.mask = newMask(s)
	got = s.masked("GET /mcp?key=YWJjZGVmZ2g%3D&n=1 (YWJjZGVmZ2g=) by user, url-p@ssword, url-p%40ssword")
	if want := "GET /mcp?key=***&n=1 (***) by user, ***, ***"; got != want {
		t.Errorf("%q", got)
	}
	if got := (Spec{}).masked("nothing to mask"); got != "nothing to mask" {
		t.Errorf("%q", got)
	}
}

func TestSecretsAreMaskedAsProgramsWriteThem(t *testing.T) {
	t.Parallel()
	s := Spec{Secrets: []string{`se"cret\one/+`}}
	s.mask = newMask(s)
	for _, text := range []string{`se"cret\one/+`, `{"key":"se\"cret\\one/+"}`, `/x?key=se%22cret%5Cone%2F%2B&n=1`, `/se%22cret%5Cone%2F+`} {
		if got := s.masked(text); strings.Contains(got, "cret") {
			t.Errorf("%s becomes %s", text, got)
		}
	}
}

// The errors of net/http for invalid responses may quote them.
func TestInvalidHTTPIsNotQuoted(t *testing.T) {
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
		_, err := newEnv(t, h.spec()).openFor(t.Context(), nil, hub, ServerSession{})
		if err == nil || strings.Contains(err.Error(), "leaked") {
			t.Errorf("%q becomes %v", head, err)
		}
	}
}
