package transport

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

// silentHandler drops all messages.
type silentHandler struct{}

func (silentHandler) Receive(jsonrpc.ID, jsonrpc.Message) {}
func (silentHandler) Deliver(jsonrpc.Message)             {}
func (silentHandler) Fail(*jsonrpc.Unreadable) bool       { return false }
func (silentHandler) Lost(error)                          {}

func TestErrorsOfTheHTTPClientDoNotQuoteResponses(t *testing.T) {
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

func TestEndpointIsResolvedAgainstTheURLOfTheStream(t *testing.T) {
	t.Parallel()
	const other = "another origin"
	for _, test := range []struct{ base, reference, want string }{
		{"http://h:80/mcp/sse?k=1", "/messages?session=1", "http://h:80/messages?session=1"},
		{"http://h/mcp/sse?k=1", "messages/1", "http://h/mcp/messages/1"},
		{"http://h/sse", "?session=1", "http://h/sse?session=1"},
		{"http://h/sse", "http://h:80/m", "http://h:80/m"},
		{"https://h:443/sse", "HTTPS://H/m", "https://H/m"},
		{"https://h/sse", "//h/m", "https://h/m"},
		{"http://[::1]:9/sse", "http://[::1]:9/m", "http://[::1]:9/m"},
		{"http://me:pw@h/sse", "/m", "http://me:pw@h/m"},
		{"http://me:pw@h/sse", "http://you:pw@h/m", "http://me:pw@h/m"},
		{"http://h/sse", `/\stranger/m`, "http://h/%5Cstranger/m"},
		{"http://h/sse", "http://stranger/m", other},
		{"http://h/sse", "//stranger/m", other},
		{"http://h/sse", "http://h:81/m", other},
		{"http://h/sse", "https://h/m", other},
		{"http://h/sse", "http://h@stranger/m", other},
		{"http://h/sse", "http://h.stranger/m", other},
		{"http://h/sse", "file:///m", other},
		{"http://h/sse", "http:m", other},
		{"http://h/sse", "mailto:me@h", other},
		{"http://h/sse", "http://h:port/m", "is not a valid URL"},
		{"http://h/sse", "/a\x00b", "is not a valid URL"},
		{"http://h/sse", "/a\nb", "is not a valid URL"},
		{"http://h/sse", "", "is not a valid URL"},
	} {
		base, err := url.Parse(test.base)
		if err != nil {
			t.Fatal(err)
		}
		got, err := resolveEndpoint(base, []byte(test.reference))
		switch {
		case strings.Contains(test.want, "://"):
			if got != test.want || err != nil {
				t.Errorf("%q on %s is %q, %v, want %s", test.reference, test.base, got, err, test.want)
			}
		case !errors.Is(err, ErrProtocol) || !strings.Contains(err.Error(), test.want) || got != "":
			t.Errorf("%q on %s is %q, %v, want an error with %q", test.reference, test.base, got, err, test.want)
		}
	}
}

func TestServerWithoutListenStreamIsAskedOnce(t *testing.T) {
	t.Parallel()
	for _, status := range []int{http.StatusMethodNotAllowed, http.StatusNotFound, http.StatusBadRequest,
		http.StatusNotImplemented, http.StatusOK} {
		var requests, checks atomic.Int32
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			requests.Add(1)
			w.WriteHeader(status)
		}))
		clients := NewHTTPClients()
		c := newStreamableHTTP(Config{Handler: silentHandler{}, Log: slog.New(slog.DiscardHandler), Context: t.Context(), URL: server.URL,
			Clients: clients, MaxMessage: 1 << 20, CheckSession: func(context.Context) { checks.Add(1) }})
		c.session = "s"
		c.Listen(t.Context())
		c.refuse()
		c.wait() // until listenLoop has returned
		if n := requests.Load(); n != 1 {
			t.Errorf("%d: the server was asked %d times", status, n)
		}
		if c.isLost() {
			t.Errorf("%d: the connection was given up: %v", status, c.Err())
		}
		if n := checks.Load(); (n == 1) != (status == http.StatusNotFound) {
			t.Errorf("%d: the session was checked %d times", status, n)
		}
		c.Close(false)
		clients.CloseIdle()
		server.Close()
	}
}
