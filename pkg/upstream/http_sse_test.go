package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
	"github.com/mcphub-go/mcphub/pkg/instrument/instrumenttest"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/upstream/transport"
)

// underway starts a call and waits until the server has it.
func (s *sseScript) underway(t *testing.T, c caller, key string) <-chan error {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		_, err := c.Call(context.WithoutCancel(t.Context()), toolCall("hold", `{"key":"`+key+`"}`))
		done <- err
	}()
	hubtest.Eventually(t, "the call is under way", func() bool { return strings.Contains(strings.Join(s.seen(), "\n"), `"`+key+`"`) })
	return done
}

func TestLostStreamFailsTheCallsUnderWayAtOnce(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		end  func(*sseScript)
		want string
	}{
		"closed": {func(s *sseScript) { s.each((*sseStream).close) }, "it closed its stream"},
		"broken": {func(s *sseScript) { s.CloseClientConnections() }, "its stream ended: "},
		"too long": {func(s *sseScript) {
			s.each(func(stream *sseStream) { stream.send(strings.Repeat("x", 70<<10)) })
		}, "its stream ended: broke the protocol: a message is too long: more than 65536 bytes"},
		"too long without an end": {func(s *sseScript) {
			s.each(func(stream *sseStream) { stream.write(strings.Repeat("data: x\r", 70<<10)) })
		}, "a message is too long"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSSEScript(t)
			spec := s.spec()
			spec.MaxMessage = 64 << 10
			e := newEnv(t, spec)
			c := e.connect(t, nil)
			done := s.underway(t, c, "k")
			within(t, 5*time.Second, "the end", func() {
				test.end(s)
				if err := wait(t, "the call fails", done); !errors.Is(err, ErrLost) || !strings.Contains(err.Error(), test.want) {
					t.Errorf("error %v", err)
				}
			})
			wait(t, "the connection is lost", c.done())
			if _, err := c.Call(t.Context(), toolCall("echo", "")); !errors.Is(err, ErrDown) || errors.Is(err, ErrLost) {
				t.Errorf("a later call: %v", err)
			}
			if err := c.notify(t.Context(), "notifications/x", nil); !errors.Is(err, ErrDown) {
				t.Errorf("a later notification: %v", err)
			}
			if n := instrumenttest.Value(t, e.reg, "mcphub_backend_sessions"); n != 0 {
				t.Errorf("%v connections are counted", n)
			}
		})
	}
}

func TestServerWithoutHTTPSSEIsRefusedWithTheReason(t *testing.T) {
	t.Parallel()
	events := func(text string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			startStream(w)
			_, _ = io.WriteString(w, text)
			_ = http.NewResponseController(w).Flush()
			if !strings.HasSuffix(text, "!") {
				<-r.Context().Done()
			}
			return true
		}
	}
	code := func(status int) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, _ *http.Request) bool {
			http.Error(w, "secret page", status)
			return true
		}
	}
	for name, test := range map[string]struct {
		get  func(http.ResponseWriter, *http.Request) bool
		want string
	}{
		"405": {code(405), `HTTP status 405 Method Not Allowed, content type "text/plain" where a stream of events is due; ` +
			`check whether it speaks Streamable HTTP`},
		"401": {code(401), "it refuses the hub with HTTP status 401 Unauthorized; check the headers"},
		"a page": {func(w http.ResponseWriter, _ *http.Request) bool {
			fmt.Fprint(w, "<html>secret")
			return true
		}, `content type "text/html"`},
		"a message first": {events(`data: {"jsonrpc":"2.0","method":"x","params":"secret"}` + "\n\n"),
			"the first event on its stream names no endpoint; check whether it speaks Streamable HTTP"},
		"no endpoint": {events(": secret!"), "it named no endpoint: it closed its stream"},
		"an endless event": {events("event: endpoint\ndata: /" + strings.Repeat("secret", 20<<10)),
			"it named no endpoint: its stream ended: broke the protocol: a message is too long"},
		"an empty endpoint": {events("event: endpoint\n\nevent: endpoint\ndata:\n\n"), "the endpoint that it names is not a valid URL"},
		"a long endpoint": {events("event: endpoint\ndata: /" + strings.Repeat("secret", 2<<10) + "\n\n"),
			"the endpoint that it names is not a valid URL"},
		"no URL": {events("event: endpoint\ndata: http://[secret\n\n"), "the endpoint that it names is not a valid URL"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSSEScript(t, func(s *sseScript) { s.onGet = test.get })
			spec := s.spec()
			spec.MaxMessage = 64 << 10
			e := newEnv(t, spec)
			_, err := e.openFor(t.Context(), &recorder{}, hub, ServerSession{})
			if !errors.Is(err, transport.ErrProtocol) || !strings.HasPrefix(err.Error(), `server "web" `) ||
				!strings.Contains(err.Error(), test.want) ||
				strings.Contains(err.Error(), "secret") {
				t.Errorf("error %v, want one with %q", err, test.want)
			}
			if n := len(s.sent("POST", "")); n != 0 {
				t.Errorf("%d messages were sent", n)
			}
			if n := instrumenttest.Value(t, e.reg, "mcphub_backend_sessions"); n != 0 {
				t.Errorf("%v connections are counted", n)
			}
		})
	}
}

// The configured headers must go to the configured server only.
func TestEndpointOfAnotherOriginIsNotUsed(t *testing.T) {
	t.Parallel()
	var visits atomic.Int32
	stranger := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { visits.Add(1) }))
	t.Cleanup(stranger.Close)
	s := newSSEScript(t, func(s *sseScript) { s.endpoint = stranger.URL + "/messages?key=s3cret&session=" })
	spec := s.spec()
	spec.Headers = map[string]string{"Authorization": "Bearer t0ken"}
	_, err := newEnv(t, spec).openFor(t.Context(), &recorder{}, hub, ServerSession{})
	want := fmt.Sprintf("it names an endpoint of another origin, %q instead of %q; the configured headers must not go there",
		stranger.URL, s.URL)
	if !errors.Is(err, transport.ErrProtocol) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("error %v", err)
	}
	if n := visits.Load(); n != 0 {
		t.Errorf("the stranger was visited %d times", n)
	}
}

func TestRedirectsOfTheStreamAndTheEndpointToAnotherOriginAreNotFollowed(t *testing.T) {
	t.Parallel()
	var visits atomic.Int32
	stranger := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { visits.Add(1) }))
	t.Cleanup(stranger.Close)
	redirect := func(w http.ResponseWriter, r *http.Request) bool {
		http.Redirect(w, r, stranger.URL, http.StatusTemporaryRedirect)
		return true
	}
	for _, s := range []*sseScript{
		newSSEScript(t, func(s *sseScript) { s.onGet = redirect }),
		newSSEScript(t, func(s *sseScript) {
			s.onPost = func(w http.ResponseWriter, r *http.Request, _ jsonrpc.Message) bool { return redirect(w, r) }
		}),
	} {
		_, err := newEnv(t, s.spec()).openFor(t.Context(), &recorder{}, hub, ServerSession{})
		if !errors.Is(err, transport.ErrProtocol) || !strings.Contains(err.Error(), "HTTP status 307 Temporary Redirect") {
			t.Errorf("error %v", err)
		}
	}
	if n := visits.Load(); n != 0 {
		t.Errorf("the stranger was visited %d times", n)
	}
}

func TestMissingEndpointIsWaitedForUntilTheConnectTimeout(t *testing.T) {
	t.Parallel()
	gone := make(chan struct{}, 2)
	for name, get := range map[string]func(http.ResponseWriter, *http.Request) bool{
		"no answer": func(_ http.ResponseWriter, r *http.Request) bool {
			<-r.Context().Done()
			gone <- struct{}{}
			return true
		},
		"heartbeats": func(w http.ResponseWriter, r *http.Request) bool {
			startStream(w)
			for tick := time.NewTicker(10 * time.Millisecond); r.Context().Err() == nil; <-tick.C {
				fmt.Fprint(w, ": \r\r")
				_ = http.NewResponseController(w).Flush()
			}
			gone <- struct{}{}
			return true
		},
	} {
		s := newSSEScript(t, func(s *sseScript) { s.onGet = get })
		spec := s.spec()
		spec.ConnectTimeout = time.Second
		e := newEnv(t, spec)
		within(t, 3*time.Second, name, func() {
			_, err := e.openFor(t.Context(), &recorder{}, hub, ServerSession{})
			if !errors.Is(err, transport.ErrConnectTimeout) || ErrorType(jsonrpc.Message{}, err) != "timeout" {
				t.Errorf("%s: error %v", name, err)
			}
		})
		wait(t, name+": the stream is given up", gone)
	}
}

func TestLateEndpointIsWaitedFor(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	s := newSSEScript(t, func(s *sseScript) {
		s.onGet = func(w http.ResponseWriter, _ *http.Request) bool {
			startStream(w)
			fmt.Fprint(w, ": wait\n\nretry: 10\n\n")
			_ = http.NewResponseController(w).Flush()
			<-release
			return false
		}
	})
	e := newEnv(t, s.spec())
	opened := make(chan error, 1)
	go func() {
		c, err := e.openFor(context.WithoutCancel(t.Context()), &recorder{}, hub, ServerSession{})
		if err == nil {
			c.close(true)
		}
		opened <- err
	}()
	hubtest.Eventually(t, "the stream is asked for", func() bool { return len(s.sent("GET", "")) == 1 })
	close(release)
	if err := wait(t, "it is open", opened); err != nil {
		t.Error(err)
	}
}

func TestCancellationWhileTheEndpointIsAwaitedIsReported(t *testing.T) {
	t.Parallel()
	s := newSSEScript(t, func(s *sseScript) {
		s.onGet = func(_ http.ResponseWriter, r *http.Request) bool { <-r.Context().Done(); return true }
	})
	ctx, cancel := context.WithCancelCause(t.Context())
	e := newEnv(t, s.spec())
	opened := make(chan error, 1)
	go func() {
		_, err := e.openFor(ctx, &recorder{}, hub, ServerSession{})
		opened <- err
	}()
	hubtest.Eventually(t, "the stream is asked for", func() bool { return len(s.sent("GET", "")) == 1 })
	why := errors.New("changed my mind")
	cancel(why)
	if err := wait(t, "it is given up", opened); !errors.Is(err, ErrCancelled) || !errors.Is(err, why) {
		t.Errorf("error %v", err)
	}
}

func TestEachSSERequestCarriesTheConfiguredHeaders(t *testing.T) {
	t.Parallel()
	s := newSSEScript(t)
	spec := s.spec()
	spec.Headers = map[string]string{"Authorization": "Bearer t0ken", "X-Tenant": "a", "Content-Type": "nonsense"}
	e, _ := traced(t, spec)
	ctx, span := e.tel.tracer.Start(t.Context(), "client")
	defer span.End()
	c, err := e.openFor(ctx, &recorder{}, hub, ServerSession{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.close(true)
	if _, err := c.Call(ctx, toolCall("echo", "")); err != nil {
		t.Fatal(err)
	}
	trace := span.SpanContext().TraceID().String()
	for _, r := range append(s.sent("POST", ""), s.sent("GET", "")...) {
		if r.header.Get("Authorization") != "Bearer t0ken" || r.header.Get("X-Tenant") != "a" {
			t.Errorf("%s has headers %v", r.method, r.header)
		}
		if post := r.method == "POST"; post != strings.Contains(r.header.Get("Traceparent"), trace) ||
			post != (r.header.Get("Content-Type") == "application/json") || post == (r.header.Get("Accept") == "text/event-stream") {
			t.Errorf("%s has headers %v", r.method, r.header)
		}
		first := r.method == "GET" || strings.Contains(r.body, `"initialize"`)
		if got := r.header.Get("Mcp-Protocol-Version"); first != (got == "") || !first && got != "2025-11-25" {
			t.Errorf("%s %s has version %q", r.method, r.body, got)
		}
	}
	if got := c.serverSession(); got != (ServerSession{ProtocolVersion: "2025-11-25"}) {
		t.Errorf("ServerSession() = %v", got)
	}
	if n := len(s.sent("GET", "")); n != 1 {
		t.Errorf("%d streams were asked for", n)
	}
}

func TestCloseEndsTheStream(t *testing.T) {
	t.Parallel()
	s := newSSEScript(t, func(s *sseScript) {
		s.onPost = func(_ http.ResponseWriter, r *http.Request, m jsonrpc.Message) bool {
			if !strings.Contains(string(m.Params), "hang") {
				return false
			}
			s.note(m.Encode())
			<-r.Context().Done()
			return true
		}
	})
	c := newEnv(t, s.spec()).connect(t, nil)
	accepted, hanging := s.underway(t, c, "k"), s.underway(t, c, "hang")
	within(t, 3*time.Second, "closing", func() { c.close(true) })
	for _, done := range []<-chan error{accepted, hanging} {
		if err := wait(t, "the call fails", done); !errors.Is(err, ErrLost) || !strings.HasSuffix(err.Error(), "the connection was closed") {
			t.Errorf("error %v", err)
		}
	}
	hubtest.Eventually(t, "the server's session is over", func() bool { return s.open() == 0 })
	if _, err := c.Call(t.Context(), toolCall("echo", "")); !errors.Is(err, ErrDown) {
		t.Errorf("a later call: %v", err)
	}
}
