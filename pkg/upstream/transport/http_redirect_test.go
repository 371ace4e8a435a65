package transport

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// redirecting is a server at /mcp/ that answers other paths with a redirect.
type redirecting struct {
	*httptest.Server
	status int
	target func(r *http.Request) string

	mu       sync.Mutex
	received []*http.Request
	bodies   []string
}

func newRedirecting(t *testing.T, status int, target func(r *http.Request) string) *redirecting {
	t.Helper()
	s := &redirecting{status: status, target: target}
	s.Server = httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(s.Close)
	return s
}

func (s *redirecting) serve(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	s.received, s.bodies = append(s.received, r), append(s.bodies, string(body))
	s.mu.Unlock()
	if r.URL.Path != "/mcp/" {
		w.Header().Set("Location", s.target(r))
		w.WriteHeader(s.status)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":1,"result":{}}`)
}

func (s *redirecting) call(t *testing.T) error {
	t.Helper()
	clients := NewHTTPClients()
	t.Cleanup(clients.CloseIdle)
	c := newStreamableHTTP(Config{Handler: silentHandler{}, Log: slog.New(slog.DiscardHandler), Context: t.Context(), MaxMessage: 1 << 20,
		URL:     strings.Replace(s.URL, "http://", "http://me:s3cretpw@", 1) + "/mcp?key=s3cretkey",
		Headers: map[string]string{"X-Api-Key": "t0ken"}, SessionID: "s", Clients: clients, CheckSession: func(context.Context) {}})
	defer c.Close(false)
	_, err := c.Call(t.Context(), &Call{ID: "1"}, []byte(`{"jsonrpc":"2.0","id":1,"method":"ping"}`))
	return err
}

func TestRedirectWithinTheOriginIsFollowedWithMethodBodyAndHeaders(t *testing.T) {
	t.Parallel()
	for name, target := range map[string]func(r *http.Request) string{
		"relative":              func(*http.Request) string { return "/mcp/" },
		"without a slash":       func(*http.Request) string { return "mcp/" },
		"absolute":              func(r *http.Request) string { return "http://" + r.Host + "/mcp/" },
		"without a scheme":      func(r *http.Request) string { return "//" + r.Host + "/mcp/" },
		"with another password": func(r *http.Request) string { return "http://you:pw@" + r.Host + "/mcp/" },
		"with a query":          func(*http.Request) string { return "/mcp/?a=b" },
		"five times": func(r *http.Request) string {
			if len(r.URL.Path) == len("/mcp")+4 {
				return "/mcp/"
			}
			return r.URL.Path + "x"
		},
	} {
		for _, status := range []int{http.StatusTemporaryRedirect, http.StatusPermanentRedirect} {
			s := newRedirecting(t, status, target)
			if err := s.call(t); err != nil {
				t.Errorf("%s, %d: %v", name, status, err)
				continue
			}
			last := s.received[len(s.received)-1]
			user, password, _ := last.BasicAuth()
			if last.Method != http.MethodPost || s.bodies[len(s.bodies)-1] != s.bodies[0] || s.bodies[0] == "" ||
				last.Header.Get("X-Api-Key") != "t0ken" || last.Header.Get("Mcp-Session-Id") != "s" ||
				last.Header.Get("Content-Type") != "application/json" || user != "me" || password != "s3cretpw" {
				t.Errorf("%s, %d: the server got %s %q with %v", name, status, last.Method, s.bodies, last.Header)
			}
			if last.Header.Get("Referer") != "" {
				t.Errorf("%s, %d: the configured URL is told: %s", name, status, last.Header.Get("Referer"))
			}
		}
	}
}

func TestOtherRedirectsAreRefusedWithTheirTarget(t *testing.T) {
	t.Parallel()
	stranger := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("the stranger got %s %s with %v", r.Method, r.URL, r.Header)
	}))
	t.Cleanup(stranger.Close)
	port := stranger.URL[strings.LastIndex(stranger.URL, ":"):]
	within := func(*http.Request) string { return "/mcp/" }
	for name, test := range map[string]struct {
		status   int
		target   func(r *http.Request) string
		want     []string
		requests int
	}{
		"301": {http.StatusMovedPermanently, within,
			[]string{"it redirects with HTTP status 301 Moved Permanently to", `/mcp/"`, "307 and 308 only"}, 1},
		"302": {http.StatusFound, within, []string{"302 Found", `/mcp/"`, "307 and 308 only"}, 1},
		"303": {http.StatusSeeOther, within, []string{"303 See Other", `/mcp/"`, "307 and 308 only"}, 1},
		"another port": {http.StatusTemporaryRedirect, func(*http.Request) string { return stranger.URL + "/mcp/" },
			[]string{stranger.URL + `/mcp/"`, "another origin", "make that its url"}, 1},
		"another name of the host": {http.StatusTemporaryRedirect, func(r *http.Request) string {
			return "http://localhost" + r.Host[strings.LastIndex(r.Host, ":"):] + "/mcp/"
		}, []string{`"http://localhost`, "another origin"}, 1},
		"another scheme": {http.StatusPermanentRedirect, func(r *http.Request) string { return "https://" + r.Host + "/mcp/" },
			[]string{`"https://127.0.0.1`, "another origin"}, 1},
		"no HTTP": {http.StatusTemporaryRedirect, func(*http.Request) string { return "file:///mcp/" },
			[]string{`"file:///mcp/"`, "another origin"}, 1},
		"the stranger as userinfo": {http.StatusTemporaryRedirect, func(r *http.Request) string {
			return "http://" + r.Host + "@127.0.0.1" + port
		},
			[]string{`"http://127.0.0.1` + port + `"`, "another origin"}, 1},
		"secrets in the target": {http.StatusTemporaryRedirect, func(*http.Request) string { return "http://u:s3cret@h/a?b=s3cret#s3cret" },
			[]string{`to "http://h/a"`}, 1},
		"control characters": {http.StatusFound, func(*http.Request) string { return "/%0A\u202e" }, []string{`/%0A`}, 1},
		"a long target": {http.StatusFound, func(*http.Request) string { return "/" + strings.Repeat("a", 5000) },
			[]string{strings.Repeat("a", 100) + `a"`}, 1},
		"no target": {http.StatusTemporaryRedirect, func(*http.Request) string { return "" },
			[]string{"307 Temporary Redirect to no valid URL"}, 1},
		"for ever":   {http.StatusTemporaryRedirect, func(*http.Request) string { return "/loop" }, []string{"more than 5 times", `/loop"`}, 6},
		"and deeper": {http.StatusPermanentRedirect, func(r *http.Request) string { return r.URL.Path + "x" }, []string{"more than 5 times"}, 6},
		"then out of the origin": {http.StatusTemporaryRedirect, func(r *http.Request) string {
			if r.URL.Path == "/mcp" {
				return "/two"
			}
			return stranger.URL
		}, []string{"another origin"}, 2},
	} {
		s := newRedirecting(t, test.status, test.target)
		err := s.call(t)
		if !errors.Is(err, ErrProtocol) || strings.Contains(err.Error(), "s3cret") || len(err.Error()) > 500 {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, want := range test.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v; want %q in it", name, err, want)
			}
		}
		if len(s.received) != test.requests {
			t.Errorf("%s: %d requests, want %d", name, len(s.received), test.requests)
		}
	}
}

func TestStreamOfTheOldTransportFollowsRedirectsWithinTheOrigin(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/sse":
			w.Header().Set("Location", "/sse/")
			w.WriteHeader(http.StatusTemporaryRedirect)
		case "/sse/":
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, "event: endpoint\ndata: messages?session=1\n\n")
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		default:
			t.Errorf("%s %s", r.Method, r.URL)
		}
	}))
	t.Cleanup(server.Close)
	clients := NewHTTPClients()
	t.Cleanup(clients.CloseIdle)
	c := newHTTPSSE(Config{Handler: silentHandler{}, Log: slog.New(slog.DiscardHandler), MaxMessage: 1 << 20,
		URL: server.URL + "/sse", SSE: true, Clients: clients})
	defer c.Close(false)
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if want := server.URL + "/sse/messages?session=1"; c.endpoint != want {
		t.Errorf("the endpoint is %s, want %s", c.endpoint, want)
	}
}
