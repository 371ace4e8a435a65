package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
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

// answers makes the server answer calls of tools with answer.
func answers(fn func(w http.ResponseWriter, r *http.Request, m jsonrpc.Message)) func(*httpScript) {
	return func(h *httpScript) {
		h.onPost = func(w http.ResponseWriter, r *http.Request, m jsonrpc.Message) bool {
			if m.Method != "tools/call" {
				return false
			}
			fn(w, r, m)
			return true
		}
	}
}

// object answers with an HTTP status and a JSON body.
func object(status int, body string) func(http.ResponseWriter, *http.Request, jsonrpc.Message) {
	return func(w http.ResponseWriter, _ *http.Request, m jsonrpc.Message) {
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, strings.ReplaceAll(body, "$ID", string(m.ID)))
	}
}

func TestInvalidHTTPResponsesAreErrors(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		answer func(http.ResponseWriter, *http.Request, jsonrpc.Message)
		is     error
		want   string
	}{
		"401": {func(w http.ResponseWriter, _ *http.Request, _ jsonrpc.Message) {
			http.Error(w, "no such token", http.StatusUnauthorized)
		}, transport.ErrProtocol,
			`it refuses the hub with HTTP status 401 Unauthorized and says "no such token"; check the headers configured for it`},
		"401 without a reason": {func(w http.ResponseWriter, _ *http.Request, _ jsonrpc.Message) {
			w.WriteHeader(http.StatusUnauthorized)
		}, transport.ErrProtocol, "it refuses the hub with HTTP status 401 Unauthorized; check the headers configured for it"},
		"403 in JSON": {object(403, `{"error":"nope"}`), transport.ErrProtocol,
			`HTTP status 403 Forbidden and says "{\"error\":\"nope\"}"; check the headers`},
		"400 as a page": {func(w http.ResponseWriter, _ *http.Request, _ jsonrpc.Message) {
			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprint(w, "<html><head><title>Oh</title>\n<body class=x>no <b>way</b>\u202e</body>"+strings.Repeat(" on", 200))
		}, transport.ErrProtocol, `HTTP status 400 Bad Request, content type "text/html" and says "Oh no way \u202e on on`},
		"400 with a secret of the configuration": {func(w http.ResponseWriter, _ *http.Request, _ jsonrpc.Message) {
			http.Error(w, "who is secret-t0ken?", http.StatusBadRequest)
		}, transport.ErrProtocol, `and says "who is ***?"`},
		"500": {func(w http.ResponseWriter, _ *http.Request, _ jsonrpc.Message) {
			http.Error(w, "secret page", http.StatusInternalServerError)
		}, transport.ErrProtocol, `HTTP status 500 Internal Server Error, content type "text/plain"`},
		"202": {func(w http.ResponseWriter, _ *http.Request, _ jsonrpc.Message) {
			w.WriteHeader(http.StatusAccepted)
		}, transport.ErrProtocol, "HTTP status 202 Accepted"},
		"a page": {func(w http.ResponseWriter, _ *http.Request, _ jsonrpc.Message) { fmt.Fprint(w, "<html>") },
			transport.ErrProtocol, `content type "text/html"`},
		"another id": {object(200, `{"jsonrpc":"2.0","id":12345,"result":{}}`), transport.ErrProtocol,
			"its answer is not a response to the request"},
		"a request": {object(200, `{"jsonrpc":"2.0","id":$ID,"method":"ping"}`), transport.ErrProtocol,
			"its answer is not a response to the request"},
		"broken JSON": {object(200, `{"jsonrpc":"2.0","id":$ID,"result":`), transport.ErrProtocol,
			"its answer cannot be read: the message is not valid JSON: it ends too early"},
		"latin-1": {object(200, "{\"jsonrpc\":\"2.0\",\"id\":$ID,\"result\":{\"a\":\"\xe9\"}}"), transport.ErrProtocol,
			"its answer cannot be read: the message is not valid JSON: invalid UTF-8"},
		"NaN":          {object(200, `{"jsonrpc":"2.0","id":$ID,"result":{"a":NaN}}`), transport.ErrProtocol, "invalid character 'N'"},
		"an empty one": {object(200, ``), transport.ErrProtocol, "its answer cannot be read: the message is not valid JSON: unexpected EOF"},
		"a body that is too long": {object(200, `{"jsonrpc":"2.0","id":$ID,"result":"`+strings.Repeat("x", 64<<10)+`"}`),
			transport.ErrProtocol, "a message is too long: more than 65536 bytes"},
		"a broken connection": {func(http.ResponseWriter, *http.Request, jsonrpc.Message) { panic(http.ErrAbortHandler) }, ErrLost, "EOF"},
		"an answer cut off": {func(w http.ResponseWriter, _ *http.Request, _ jsonrpc.Message) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Content-Length", "100")
			fmt.Fprint(w, `{"jsonrpc":`)
		}, ErrLost, "unexpected EOF"},
		"a stream without the answer": {func(w http.ResponseWriter, _ *http.Request, _ jsonrpc.Message) {
			w.Header().Set("Content-Type", "text/event-stream")
			writeEvent(w, "", `{"jsonrpc":"2.0","id":12345,"result":{}}`)
			writeEvent(w, "", `no message`)
		}, ErrLost, "its stream ended early: EOF"},
		"an event that is too long": {func(w http.ResponseWriter, _ *http.Request, _ jsonrpc.Message) {
			w.Header().Set("Content-Type", "text/event-stream")
			writeEvent(w, "7", strings.Repeat("x", 70<<10))
		}, transport.ErrProtocol, "a message is too long"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHTTPScript(t, answers(test.answer))
			spec := h.spec()
			spec.MaxMessage = 64 << 10
			spec.Headers = map[string]string{"X-Key": "secret-t0ken"}
			e := newEnv(t, spec)
			c := e.connect(t, nil)
			m, err := c.Call(t.Context(), toolCall("echo", ""))
			if !errors.Is(err, test.is) || !strings.HasPrefix(err.Error(), `server "web" `) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%+v, error %v, want one with %q", m, err, test.want)
			}
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("the error tells too much: %v", err)
			}
			if n := instrumenttest.Value(t, e.reg, "mcphub_requests_in_flight"); n != 0 {
				t.Errorf("%v calls are in flight", n)
			}
		})
	}
}

func TestErrorStatusWithAJSONRPCErrorIsAResponse(t *testing.T) {
	t.Parallel()
	for _, id := range []string{"$ID", "null"} {
		h := newHTTPScript(t, answers(object(400, `{"jsonrpc":"2.0","id":`+id+`,"error":{"code":-32602,"message":"bad"}}`)))
		c := newEnv(t, h.spec()).connect(t, nil)
		if m := tool(t, c, "echo", ""); string(m.Error) != `{"code":-32602,"message":"bad"}` {
			t.Errorf("the answer is %+v", m)
		}
	}
}

func TestEachRequestCarriesTheConfiguredHeadersTheSessionAndTheVersion(t *testing.T) {
	t.Parallel()
	h := newHTTPScript(t)
	spec := h.spec()
	spec.Headers = map[string]string{"Authorization": "Bearer t0ken", "X-Tenant": "a", "Accept": "nonsense"}
	c := newEnv(t, spec).connect(t, nil)
	tool(t, c, "echo", "")
	hubtest.Eventually(t, "the stream is asked for", func() bool { return len(h.sent("GET", "")) > 0 })
	c.close(true)
	for _, r := range append(append(h.sent("POST", ""), h.sent("GET", "")...), h.sent("DELETE", "")...) {
		if r.header.Get("Authorization") != "Bearer t0ken" || r.header.Get("X-Tenant") != "a" {
			t.Errorf("%s has headers %v", r.method, r.header)
		}
		first := strings.Contains(r.body, `"initialize"`)
		if got := r.header.Get("Mcp-Session-Id"); first != (got == "") {
			t.Errorf("%s %s has session %q", r.method, r.body, got)
		}
		if got := r.header.Get("Mcp-Protocol-Version"); first != (got == "") || !first && got != "2025-11-25" {
			t.Errorf("%s %s has version %q", r.method, r.body, got)
		}
		want := map[string]string{"POST": "application/json, text/event-stream", "GET": "text/event-stream", "DELETE": "nonsense"}[r.method]
		if got := r.header.Get("Accept"); got != want {
			t.Errorf("%s accepts %q, want %q", r.method, got, want)
		}
	}
	if len(h.sent("DELETE", "")) != 1 || len(h.live("hub")) != 0 {
		t.Error("the session was not ended")
	}
}

func TestCloseWithoutEndSessionKeepsTheSession(t *testing.T) {
	t.Parallel()
	h := newHTTPScript(t)
	c := newEnv(t, h.spec()).connect(t, nil)
	c.close(false)
	if len(h.sent("DELETE", "")) != 0 || len(h.live("hub")) != 1 {
		t.Error("the session was ended")
	}
}

func TestServerThatHangsAtTheEndDelaysNothing(t *testing.T) {
	t.Parallel()
	h := newHTTPScript(t, func(h *httpScript) {
		h.onGet = func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	})
	c := newEnv(t, h.spec()).connect(t, nil)
	done := make(chan error, 1)
	go func() {
		_, err := c.Call(context.WithoutCancel(t.Context()), toolCall("hold", `{"key":"k"}`))
		done <- err
	}()
	hubtest.Eventually(t, "the call is under way", func() bool { return h.dispatched(`"hold"`) == 1 })
	within(t, 3*time.Second, "closing", func() { c.close(false) })
	if err := wait(t, "the call fails", done); !errors.Is(err, ErrLost) || !strings.HasSuffix(err.Error(), "the connection was closed") {
		t.Errorf("error %v", err)
	}
	if n := len(h.sent("POST", "notifications/cancelled")); n != 0 {
		t.Errorf("%d calls were cancelled", n)
	}
}

// Redirects could take the configured headers to another host.
func TestRedirectsToAnotherOriginAreNotFollowed(t *testing.T) {
	t.Parallel()
	var visits atomic.Int32
	stranger := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { visits.Add(1) }))
	t.Cleanup(stranger.Close)
	for _, status := range []int{http.StatusMovedPermanently, http.StatusFound, http.StatusTemporaryRedirect, http.StatusPermanentRedirect} {
		h := newHTTPScript(t, answers(func(w http.ResponseWriter, r *http.Request, _ jsonrpc.Message) {
			http.Redirect(w, r, stranger.URL+"/mcp/?key=s3cret", status)
		}))
		spec := h.spec()
		spec.Headers = map[string]string{"Authorization": "Bearer t0ken"}
		_, err := newEnv(t, spec).connect(t, nil).Call(t.Context(), toolCall("echo", ""))
		want := fmt.Sprintf("it redirects with HTTP status %d %s to %q; the hub does not follow it to another origin",
			status, http.StatusText(status), stranger.URL+"/mcp/")
		if !errors.Is(err, transport.ErrProtocol) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("error %v", err)
		}
	}
	if n := visits.Load(); n != 0 {
		t.Errorf("the stranger was visited %d times", n)
	}
}

func TestEndlessBodyIsGivenUpInTime(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"application/json", "text/event-stream"} {
		h := newHTTPScript(t, answers(func(w http.ResponseWriter, r *http.Request, _ jsonrpc.Message) {
			w.Header().Set("Content-Type", kind)
			for tick := time.NewTicker(10 * time.Millisecond); ; {
				fmt.Fprint(w, ": \n")
				_ = http.NewResponseController(w).Flush()
				select {
				case <-r.Context().Done():
					return
				case <-tick.C:
				}
			}
		}))
		spec := h.spec()
		spec.CallTimeout = time.Second
		c := newEnv(t, spec).connect(t, nil)
		within(t, 3*time.Second, "the call", func() {
			if _, err := c.Call(t.Context(), toolCall("echo", "")); !errors.Is(err, ErrTimeout) {
				t.Errorf("%s: error %v", kind, err)
			}
		})
	}
}

// The response counts as soon as it arrives, even if its stream continues.
func TestStreamThatContinuesAfterTheResponseDelaysNothing(t *testing.T) {
	t.Parallel()
	h := newHTTPScript(t, answers(func(w http.ResponseWriter, r *http.Request, m jsonrpc.Message) {
		w.Header().Set("Content-Type", "text/event-stream")
		writeEvent(w, "", `{"jsonrpc":"2.0","id":`+string(m.ID)+`,"result":{"n":1}}`)
		<-r.Context().Done()
	}))
	c := newEnv(t, h.spec()).connect(t, nil)
	within(t, 900*time.Millisecond, "the call", func() { tool(t, c, "echo", "") })
	within(t, 3*time.Second, "closing", func() { c.close(true) })
}

func TestUnusableSessionIDsAreRefusedAndNotRepeated(t *testing.T) {
	t.Parallel()
	for _, id := range []string{"with a space", "with-é", strings.Repeat("secret", 1000)} {
		h := newHTTPScript(t, func(h *httpScript) {
			h.onPost = func(w http.ResponseWriter, r *http.Request, m jsonrpc.Message) bool {
				if m.Method != "initialize" {
					return false
				}
				w.Header().Set("Mcp-Session-Id", id)
				object(200, `{"jsonrpc":"2.0","id":$ID,"result":`+scriptInitialize+`}`)(w, r, m)
				return true
			}
		})
		_, err := newEnv(t, h.spec()).openFor(t.Context(), &recorder{}, hub, ServerSession{})
		if !errors.Is(err, transport.ErrProtocol) || !strings.HasSuffix(err.Error(), "it gave an unusable session id") {
			t.Errorf("error %v", err)
		}
	}
}

func TestSessionIsTakenFromInitializeOnly(t *testing.T) {
	t.Parallel()
	h := newHTTPScript(t, func(h *httpScript) {
		h.stateful = false
		answers(func(w http.ResponseWriter, r *http.Request, m jsonrpc.Message) {
			w.Header().Set("Mcp-Session-Id", "a-surprise")
			object(200, `{"jsonrpc":"2.0","id":$ID,"result":{}}`)(w, r, m)
		})(h)
	})
	c := newEnv(t, h.spec()).connect(t, nil)
	tool(t, c, "echo", "")
	if got := c.serverSession(); got.SessionID != "" || got.ProtocolVersion != "2025-11-25" {
		t.Errorf("ServerSession() = %v", got)
	}
}

// The URL of a server may contain a secret, as its headers do.
func TestSecretsAreInNoErrorAndNoLog(t *testing.T) {
	t.Parallel()
	h := newHTTPScript(t, answers(func(http.ResponseWriter, *http.Request, jsonrpc.Message) { panic(http.ErrAbortHandler) }))
	spec := h.spec()
	spec.URL = strings.Replace(spec.URL, "http://", "http://user:s3cret@", 1) + "/mcp?key=s3cret"
	spec.Headers = map[string]string{"Authorization": "Bearer s3cret"}
	e := newEnv(t, spec)
	c := e.connect(t, nil)
	_, broken := c.Call(t.Context(), toolCall("echo", ""))
	h.forgetAll("hub")
	notified := c.notify(t.Context(), "notifications/x", nil)
	h.Server.CloseClientConnections()
	h.Server.Close()
	_, refused := e.openFor(t.Context(), &recorder{}, hub, ServerSession{})
	c.close(true)
	spec.URL = "http://127.0.0.1:99999/?key=s3cret"
	_, invalid := newEnv(t, spec).openFor(t.Context(), &recorder{}, hub, ServerSession{})
	for _, err := range []error{broken, notified, refused, invalid} {
		if err == nil || strings.Contains(err.Error(), "s3cret") || strings.Contains(err.Error(), "secret-session") {
			t.Errorf("error %v", err)
		}
	}
	if log := e.log.text(); strings.Contains(log, "s3cret") || strings.Contains(log, "secret-session") {
		t.Errorf("the log tells too much:\n%s", log)
	}
}

// refused returns an address that refuses connections.
func refused(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestUnsentRequestsAreDistinguishedFromLostOnes(t *testing.T) {
	t.Parallel()
	plain := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(plain.Close)
	untrusted := httptest.NewTLSServer(http.NotFoundHandler())
	untrusted.Config.ErrorLog = nil
	t.Cleanup(untrusted.Close)
	for name, url := range map[string]string{
		"nobody listens":           "http://" + refused(t),
		"not TLS":                  strings.Replace(plain.URL, "http:", "https:", 1),
		"an untrusted certificate": untrusted.URL,
	} {
		_, err := newEnv(t, Spec{Name: "web", URL: url}).openFor(t.Context(), &recorder{}, hub, ServerSession{})
		if !errors.Is(err, ErrDown) || errors.Is(err, ErrLost) || ErrorType(jsonrpc.Message{}, err) != "unavailable" {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

func TestTCPConnectionsAreReused(t *testing.T) {
	t.Parallel()
	var opened atomic.Int32
	h := newHTTPScript(t, func(h *httpScript) {
		h.events = true
		h.onConn = func(_ net.Conn, s http.ConnState) {
			if s == http.StateNew {
				opened.Add(1)
			}
		}
	})
	c := newEnv(t, h.spec()).connect(t, nil)
	for range 50 {
		tool(t, c, "echo", "")
	}
	if n := opened.Load(); n > 5 {
		t.Errorf("%d connections were opened for 50 calls", n)
	}
}
