package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
	"github.com/mcphub-go/mcphub/pkg/instrument/instrumenttest"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/upstream/transport"
)

// tools makes the server handle calls of tools by test: the answer to the POST, and what goes to the stream.
func tools(fn func(w http.ResponseWriter, r *http.Request, s *sseStream, m jsonrpc.Message)) func(*sseScript) {
	return func(s *sseScript) {
		s.onPost = func(w http.ResponseWriter, r *http.Request, m jsonrpc.Message) bool {
			if m.Method != "tools/call" {
				return false
			}
			fn(w, r, s.of(r.URL.Query().Get("session")), m)
			return true
		}
	}
}

func respond(s *sseStream, m jsonrpc.Message) {
	s.send(`{"jsonrpc":"2.0","id":` + string(m.ID) + `,"result":{"n":1.0}}`)
}

// The response on the stream counts, whatever the answer to the POST is.
func TestResponseIsTakenFromTheStream(t *testing.T) {
	t.Parallel()
	for name, fn := range map[string]func(http.ResponseWriter, *http.Request, *sseStream, jsonrpc.Message){
		"before the POST is answered": func(_ http.ResponseWriter, r *http.Request, s *sseStream, m jsonrpc.Message) {
			respond(s, m)
			<-r.Context().Done()
		},
		"with 200 and another answer": func(w http.ResponseWriter, r *http.Request, s *sseStream, m jsonrpc.Message) {
			object(200, `{"jsonrpc":"2.0","id":$ID,"result":{"n":2}}`)(w, r, m)
			respond(s, m)
		},
		"with 204": func(w http.ResponseWriter, _ *http.Request, s *sseStream, m jsonrpc.Message) {
			w.WriteHeader(http.StatusNoContent)
			respond(s, m)
		},
		"before the POST fails": func(_ http.ResponseWriter, _ *http.Request, s *sseStream, m jsonrpc.Message) {
			respond(s, m)
			hubtest.Eventually(t, "the answer is read", func() bool { return s.answered.Load() })
			panic(http.ErrAbortHandler)
		},
		"among noise": func(w http.ResponseWriter, _ *http.Request, s *sseStream, m jsonrpc.Message) {
			w.WriteHeader(http.StatusAccepted)
			s.write("event: endpoint\ndata: http://stranger/\n\n")
			s.write("event: ping\ndata: now\n\nevent: x\ndata: {\"jsonrpc\":\"2.0\",\"id\":" + string(m.ID) +
				",\"result\":{}}\n\nid: 7\nretry: 1\n\n")
			s.send("no message")
			s.send(`{"jsonrpc":"2.0","id":12345,"result":{}}`)
			s.write("data: {\"jsonrpc\":\"2.0\",\rdata:  \"id\":" + string(m.ID) + ",\"result\":{\"n\":1.0}}\r\r") // without a name
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSSEScript(t, tools(fn))
			c := newEnv(t, s.spec()).connect(t, nil)
			within(t, 5*time.Second, "the call", func() {
				m, err := c.Call(t.Context(), toolCall("echo", ""))
				s.each(func(stream *sseStream) { stream.answered.Store(true) })
				if err != nil || string(m.Result) != `{"n":1.0}` {
					t.Errorf("%s, %v", m.Result, err)
				}
			})
			within(t, 3*time.Second, "closing", func() { c.close(true) })
		})
	}
}

func TestRefusedPOSTFailsItsCallOnly(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		post func(http.ResponseWriter, *http.Request, jsonrpc.Message)
		is   error
		want string
	}{
		"401": {object(401, "no"), transport.ErrProtocol,
			`it refuses the hub with HTTP status 401 Unauthorized and says "no"; check the headers`},
		"403": {object(403, ""), transport.ErrProtocol, "it refuses the hub with HTTP status 403 Forbidden; check the headers"},
		"400": {object(400, "no"), transport.ErrProtocol, "HTTP status 400 Bad Request"},
		"400 that repeats the client's words": {func(w http.ResponseWriter, _ *http.Request, m jsonrpc.Message) {
			var params map[string]string
			_ = json.Unmarshal(m.Params, &params)
			http.Error(w, "no method "+m.Method+" of "+params["of"], http.StatusBadRequest)
		}, transport.ErrProtocol, "HTTP status 400 Bad Request"},
		"404 about the method": {object(404, `{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"no such session"}}`),
			transport.ErrProtocol, "HTTP status 404 Not Found"},
		"500":                 {object(500, "secret"), transport.ErrProtocol, "HTTP status 500 Internal Server Error"},
		"a broken connection": {func(http.ResponseWriter, *http.Request, jsonrpc.Message) { panic(http.ErrAbortHandler) }, ErrLost, "EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSSEScript(t, func(s *sseScript) {
				s.onPost = func(w http.ResponseWriter, r *http.Request, m jsonrpc.Message) bool {
					if m.Method == "x/session" || m.Method == "notifications/x" {
						test.post(w, r, m)
					}
					return m.Method == "x/session" || m.Method == "notifications/x"
				}
			})
			e := newEnv(t, s.spec())
			c := e.connect(t, nil)
			_, called := c.Call(t.Context(), Request{Method: "x/session"})
			notified := c.notify(t.Context(), "notifications/x", []byte(`{"of":"\u0073ession"}`))
			for _, err := range []error{called, notified} {
				if !errors.Is(err, test.is) || errors.Is(err, transport.ErrSessionGone) || !strings.Contains(err.Error(), test.want) ||
					strings.Contains(err.Error(), "secret") {
					t.Errorf("error %v, want one with %q", err, test.want)
				}
			}
			tool(t, c, "echo", "")
			if n := instrumenttest.Value(t, e.reg, "mcphub_requests_in_flight"); n != 0 {
				t.Errorf("%v calls are in flight", n)
			}
		})
	}
}

func TestForgottenSSESessionIsInitializedAgainAndTheCallRepeatedOnce(t *testing.T) {
	t.Parallel()
	for name, deny := range map[string]func(http.ResponseWriter){
		"404":             func(w http.ResponseWriter) { http.Error(w, "session not found", http.StatusNotFound) },
		"410":             func(w http.ResponseWriter) { w.WriteHeader(http.StatusGone) },
		"400, go-sdk":     func(w http.ResponseWriter) { http.Error(w, "session closed", http.StatusBadRequest) },
		"400, TypeScript": func(w http.ResponseWriter) { http.Error(w, "No transport found for sessionId", http.StatusBadRequest) },
		"400, JSON of mcp-go": func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprint(w, `{"jsonrpc":"2.0","id":null,"error":{"code":-32602,"message":"Invalid session ID"}}`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSSEScript(t, func(s *sseScript) {
				s.onPost = func(w http.ResponseWriter, r *http.Request, _ jsonrpc.Message) bool {
					if s.of(r.URL.Query().Get("session")) != nil {
						return false
					}
					deny(w)
					return true
				}
			})
			r := run(t, []Spec{s.spec()}).settled(t)
			l := r.link(t, "web", LinkConfig{})
			tool(t, l, "echo", "")
			done := s.underway(t, l, "k")
			s.forgetAll()
			tool(t, l, "echo", `{"key":"again"}`)
			if err := wait(t, "the call under way fails", done); !errors.Is(err, ErrLost) || !errors.Is(err, transport.ErrSessionGone) {
				t.Errorf("the call under way: %v", err)
			}
			if n := len(s.sent("POST", `"again"`)); n != 2 {
				t.Errorf("the call was sent %d times", n)
			}
			if n := instrumenttest.Value(t, r.reg, "mcphub_backend_restarts_total", "reason", "session_gone"); n < 1 {
				t.Errorf("%v restarts are counted", n)
			}
		})
	}
}

// A connection that is made again has a new session, which needs a handshake.
func TestSSESessionIsNeverResumed(t *testing.T) {
	t.Parallel()
	s := newSSEScript(t)
	r := run(t, []Spec{s.spec()}).settled(t)
	l := r.link(t, "web", LinkConfig{Resume: ServerSession{SessionID: "old", ProtocolVersion: "2025-11-25"}})
	tool(t, l, "echo", "")
	if n := len(s.sent("POST", `"initialize"`)); n != 2 {
		t.Errorf("%d were initialized", n)
	}
	if st := r.Server("web").Status(); st.Transport != "sse" || st.Isolation != PerSession {
		t.Errorf("Status() = %+v", st)
	}
}

func TestCancelledCallEndsItsPOST(t *testing.T) {
	t.Parallel()
	over := make(chan struct{})
	s := newSSEScript(t, tools(func(_ http.ResponseWriter, r *http.Request, _ *sseStream, _ jsonrpc.Message) {
		<-r.Context().Done()
		close(over)
	}))
	c := newEnv(t, s.spec()).connect(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := c.Call(ctx, toolCall("echo", ""))
		done <- err
	}()
	hubtest.Eventually(t, "the call is under way", func() bool { return len(s.sent("POST", "tools/call")) == 1 })
	cancel()
	if err := wait(t, "the call returns", done); !errors.Is(err, ErrCancelled) {
		t.Errorf("error %v", err)
	}
	wait(t, "the POST is over", over)
	hubtest.Eventually(t, "the server gets the cancellation", func() bool { return len(s.sent("POST", "notifications/cancelled")) == 1 })
}

// The URL and the endpoint may contain secrets, as headers do.
func TestSecretsOfSSEAreInNoErrorAndNoLog(t *testing.T) {
	t.Parallel()
	s := newSSEScript(t, tools(func(http.ResponseWriter, *http.Request, *sseStream, jsonrpc.Message) { panic(http.ErrAbortHandler) }))
	spec := s.spec()
	spec.URL = strings.Replace(spec.URL, "http://", "http://user:s3cret@", 1) + "?key=s3cret"
	spec.Headers = map[string]string{"X-Key": "s3cret"}
	e := newEnv(t, spec)
	c := e.connect(t, nil)
	if user, password, ok := (&http.Request{Header: s.sent("POST", "")[0].header}).BasicAuth(); !ok || user != "user" || password != "s3cret" {
		t.Error("the endpoint does not get the credentials of the URL")
	}
	_, broken := c.Call(t.Context(), toolCall("echo", ""))
	s.forgetAll()
	notified := c.notify(t.Context(), "notifications/x", nil)
	s.CloseClientConnections()
	s.Server.Close()
	_, refused := e.openFor(t.Context(), &recorder{}, hub, ServerSession{})
	spec.URL = "http://h:port/?key=s3cret"
	_, invalid := newEnv(t, spec).openFor(t.Context(), &recorder{}, hub, ServerSession{})
	for _, err := range []error{broken, notified, refused, invalid, c.err()} {
		if err == nil || strings.Contains(err.Error(), "s3cret") || strings.Contains(err.Error(), "secret-session") {
			t.Errorf("error %v", err)
		}
	}
	if !errors.Is(refused, ErrDown) || ErrorType(jsonrpc.Message{}, refused) != "unavailable" {
		t.Errorf("nobody listens: %v", refused)
	}
	if log := e.log.text(); strings.Contains(log, "s3cret") || strings.Contains(log, "secret-session") {
		t.Errorf("the log tells too much:\n%s", log)
	}
}

func TestTCPConnectionsOfPOSTsAreReused(t *testing.T) {
	t.Parallel()
	s := newSSEScript(t)
	seen := map[string]bool{}
	s.onPost = func(_ http.ResponseWriter, r *http.Request, _ jsonrpc.Message) bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		seen[r.RemoteAddr] = true
		return false
	}
	c := newEnv(t, s.spec()).connect(t, nil)
	for range 50 {
		tool(t, c, "echo", "")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(seen) > 5 {
		t.Errorf("%d connections were opened for 50 calls", len(seen))
	}
}
