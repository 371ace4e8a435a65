package upstream

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
	"github.com/mcphub-go/mcphub/pkg/instrument/instrumenttest"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/upstream/transport"
)

type answer = func(http.ResponseWriter, *http.Request, jsonrpc.Message)

// text answers with an HTTP status and a text.
func text(status int, mediaType, body string) answer {
	return func(w http.ResponseWriter, _ *http.Request, _ jsonrpc.Message) {
		w.Header().Set("Content-Type", mediaType)
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}
}

// event answers with a stream of one event.
func event(status int, data string) answer {
	return func(w http.ResponseWriter, _ *http.Request, m jsonrpc.Message) {
		w.Header().Set("Content-Type", "text/event-stream")
		w.WriteHeader(status)
		writeEvent(w, "", strings.ReplaceAll(data, "$ID", string(m.ID)))
	}
}

// noteThen answers with a stream of a notification and data.
func noteThen(data string) answer {
	return func(w http.ResponseWriter, _ *http.Request, m jsonrpc.Message) {
		startStream(w)
		writeEvent(w, "", `{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"error","data":"no session"}}`)
		writeEvent(w, "", strings.ReplaceAll(data, "$ID", string(m.ID)))
	}
}

// redirect answers with a redirect.
func redirect(status int, target string) answer {
	return func(w http.ResponseWriter, _ *http.Request, _ jsonrpc.Message) {
		w.Header().Set("Location", target)
		w.WriteHeader(status)
	}
}

// denials are how servers answer a request in a session that they do not know, and whether the request that is answered
// so may be repeated. Most are those of SDKs and of their examples.
func denials() map[string]struct {
	deny     answer
	repeated bool
} {
	rpc := func(id, message string) string {
		return `{"jsonrpc":"2.0","id":` + id + `,"error":{"code":-32000,"message":"` + message + `"}}`
	}
	return map[string]struct {
		deny     answer
		repeated bool
	}{
		"404":                         {text(404, "text/plain", "session not found"), true},
		"400, null, TypeScript":       {object(400, rpc("null", "Bad Request: No valid session ID provided")), true},
		"400, null, no word for it":   {object(400, rpc("null", "Bad Request: Server not initialized")), true},
		"400, the id":                 {object(400, rpc("$ID", "Bad Request: No valid session ID provided")), true},
		"400, the id, internal":       {object(400, `{"jsonrpc":"2.0","id":$ID,"error":{"code":-32603,"message":"x"}}`), true},
		"400, text, Go":               {text(400, "text/plain", "Invalid session ID"), true},
		"400, page":                   {text(400, "text/html", "<h1>Bad Request</h1>"), true},
		"400, nothing":                {text(400, "", ""), true},
		"400, JSON of its own":        {object(400, `{"error":"Invalid or missing session ID"}`), true},
		"400, problem":                {text(400, "application/problem+json", `{"title":"no"}`), true},
		"400, stream":                 {event(400, rpc("$ID", "gone")), true},
		"401, text, Rust":             {text(401, "text/plain", "Unauthorized: Session not found"), true},
		"403, JSON":                   {object(403, rpc("null", "no")), true},
		"405":                         {text(405, "text/plain", "no"), true},
		"409":                         {text(409, "text/plain", "no"), true},
		"410":                         {text(410, "", ""), true},
		"422, text, Rust":             {text(422, "text/plain", "Unexpected message, expect initialize request"), true},
		"200, the id":                 {object(200, rpc("$ID", "Session not found")), true},
		"200, null":                   {object(200, rpc("null", "Session not found")), true},
		"200, without an id":          {object(200, `{"jsonrpc":"2.0","error":{"code":-32001,"message":"Session not found"}}`), true},
		"200, without anything":       {object(200, `{"error":{"code":-32001,"message":"Session not found"}}`), true},
		"200, stream":                 {event(200, rpc("$ID", "Session not found")), true},
		"200, stream, null":           {event(200, rpc("null", "Session not found")), true},
		"200, invalid params, Python": {object(200, `{"jsonrpc":"2.0","id":$ID,"error":{"code":-32602,"message":"x"}}`), true},
		"200, code 0":                 {object(200, `{"jsonrpc":"2.0","id":$ID,"error":{"code":0,"message":"x"}}`), false},
		"200, internal":               {object(200, `{"jsonrpc":"2.0","id":$ID,"error":{"code":-32603,"message":"x"}}`), false},
		"200, text":                   {text(200, "text/plain", "Session not found"), false},
		"200, JSON of its own":        {object(200, `{"error":"Session not found"}`), false},
		"200, NaN":                    {object(200, `{"jsonrpc":"2.0","id":$ID,"error":{"code":-32000,"message":"x","data":NaN}}`), false},
		"200, stream, another id":     {event(200, rpc("987654", "Session not found")), false},
		"200, stream, text":           {event(200, "Session not found"), false},
		"200, stream, NaN":            {event(200, `{"jsonrpc":"2.0","id":$ID,"error":{"code":-32000,"message":"x","data":NaN}}`), false},
		"200, stream, no event":       {text(200, "text/event-stream", ""), false},
		"200, stream, after a note":   {noteThen(rpc("$ID", "Session not found")), false},
		"302, to a page":              {redirect(302, "/login"), false},
		"307, for ever":               {redirect(307, "/mcp"), false},
		"202":                         {text(202, "", ""), false},
		"500, text":                   {text(500, "text/plain", "no session"), false},
		"500, JSON":                   {object(500, rpc("null", "no session")), false},
		"503":                         {text(503, "", ""), false},
	}
}

func TestForgottenSessionIsReplacedWhateverTheServerSays(t *testing.T) {
	t.Parallel()
	for name, test := range denials() {
		for _, isolation := range []Isolation{PerSession, Shared} {
			t.Run(name+", "+string(isolation), func(t *testing.T) {
				t.Parallel()
				h := newHTTPScript(t, func(h *httpScript) { h.deny = test.deny })
				spec := h.spec()
				spec.Isolation = isolation
				r := run(t, []Spec{spec}).settled(t)
				l := r.link(t, "web", LinkConfig{})
				tool(t, l, "echo", `{"key":"before"}`)
				for _, key := range []string{"once", "twice"} {
					h.forgetAll("client")
					h.forgetAll("hub")
					call := toolCall("echo", `{"key":"`+key+`"}`)
					response, err := l.Call(t.Context(), call)
					if ok := err == nil && response.Error == nil; ok != test.repeated {
						t.Errorf("the first call: %s, %v", response.Error, err)
					}
					if !test.repeated {
						tool(t, l, "echo", `{"key":"`+key+`"}`)
					}
					if n := h.dispatched(`"key":"` + key + `"`); n != 1 {
						t.Errorf("the call was carried out %d times", n)
					}
					if strings.HasPrefix(name, "50") {
						continue // the hub's own session is given up when three pings have failed
					}
					hubtest.Eventually(t, "the hub has a new session, too", func() bool {
						c, err := r.Server("web").state.ready(t.Context())
						return err == nil && h.knows(c.transport.SessionID())
					})
				}
				if test.deny != nil && name != "404" {
					if n := checked(t, r, checkGone); n < 2 {
						t.Errorf("%v sessions were found to be gone", n)
					}
				}
				if got := r.log.text(); strings.Contains(got, "secret-session") {
					t.Errorf("the log tells too much:\n%s", got)
				}
			})
		}
	}
}

// checked returns the number of checks of sessions with that outcome.
func checked(t *testing.T, r running, outcome string) float64 {
	t.Helper()
	return instrumenttest.Value(t, r.reg, "mcphub_backend_session_checks_total", "outcome", outcome)
}

func TestManyCallersShareOneCheckOfTheirSession(t *testing.T) {
	t.Parallel()
	h := newHTTPScript(t, func(h *httpScript) { h.deny = text(401, "text/plain", "Session not found") })
	r := run(t, []Spec{h.spec()}).settled(t)
	l := r.link(t, "web", LinkConfig{})
	tool(t, l, "echo", "")
	h.forgetAll("client")
	const callers = 16
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			if m, err := l.Call(t.Context(), toolCall("echo", `{"key":"again"}`)); err != nil || m.Error != nil {
				t.Errorf("%s, %v", m.Error, err)
			}
		})
	}
	wg.Wait()
	if n := h.dispatched(`"key":"again"`); n != callers || initialized(h) != 2 {
		t.Errorf("%d calls were carried out, the server initialized %d times", n, initialized(h))
	}
	if n := len(h.sent("POST", `"initialize"`)); n != 3 {
		t.Errorf("there were %d sessions: the hub's own answers, so that no other is needed", n)
	}
	if n := instrumenttest.Value(t, r.reg, "mcphub_backend_restarts_total", "reason", "session_gone"); n != 1 {
		t.Errorf("%v restarts are counted", n)
	}
}

func TestForgottenSessionThatWasToBeResumedIsReplacedInTheStore(t *testing.T) {
	t.Parallel()
	h := newHTTPScript(t, func(h *httpScript) {
		h.deny = object(400, `{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"no"}}`)
	})
	var rec record
	l := run(t, []Spec{h.spec()}).settled(t).link(t, "web", rec.config(h, ServerSession{SessionID: "of-yesterday",
		ProtocolVersion: "2025-11-25"}))
	tool(t, l, "echo", "")
	if want := "bound web secret-session-2 2025-11-25 after 0 calls, ready web after 0 calls"; rec.String() != want {
		t.Errorf("the steps are %q, want %q", rec.String(), want)
	}
	if n := h.dispatched(`"echo"`); n != 1 {
		t.Errorf("%d calls were carried out", n)
	}
}

// What refuses a call in a session that is there is about the call.
func TestRefusedCallInALiveSessionIsNotRepeatedAndTheSessionStays(t *testing.T) {
	t.Parallel()
	for name, refuse := range map[string]answer{
		"401":              text(401, "text/plain", "Session not found"),
		"400":              object(400, `{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"No valid session ID"}}`),
		"a text":           event(200, "oops"),
		"no event":         text(200, "text/event-stream", ""),
		"a redirect":       redirect(302, "/elsewhere"),
		"a note, an error": noteThen(`{"jsonrpc":"2.0","id":$ID,"error":{"code":-32000,"message":"bad"}}`),
		"404 with method":  object(404, `{"jsonrpc":"2.0","id":$ID,"error":{"code":-32601,"message":"no such method"}}`),
		"413":              text(413, "", ""),
		"429":              text(429, "", ""),
		"500":              text(500, "", ""),
		"invalid params":   object(200, `{"jsonrpc":"2.0","id":$ID,"error":{"code":-32602,"message":"bad"}}`),
		"internal error":   object(200, `{"jsonrpc":"2.0","id":$ID,"error":{"code":-32603,"message":"bad"}}`),
		"a tool's error":   object(200, `{"jsonrpc":"2.0","id":$ID,"result":{"isError":true,"content":[]}}`),
		"a malformed line": object(200, `{"jsonrpc":"2.0","id":$ID,"result":`),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHTTPScript(t, answers(refuse))
			r := run(t, []Spec{h.spec()}).settled(t)
			l := r.link(t, "web", LinkConfig{})
			for range 2 {
				_, _ = l.Call(t.Context(), toolCall("echo", ""))
			}
			if n := len(h.sent("POST", "tools/call")); n != 2 || len(h.sent("POST", `"initialize"`)) != 2 {
				t.Errorf("%d calls were sent, %d sessions made", n, len(h.sent("POST", `"initialize"`)))
			}
			if gone := checked(t, r, checkGone); gone != 0 {
				t.Errorf("%v sessions were found to be gone", gone)
			}
			lists := 0
			for _, r := range h.sent("POST", "tools/list") {
				if r.header.Get("Mcp-Session-Id") == h.live("client")[0] {
					lists++
				}
			}
			if lists > 1 {
				t.Errorf("the list was read %d times: once in so short a time is enough", lists)
			}
		})
	}
}

// A server at work may forget the session and still have done what it was asked.
func TestCallThatWasBegunIsNotRepeatedInANewSession(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]answer{
		"an event, then an error": func(w http.ResponseWriter, _ *http.Request, m jsonrpc.Message) {
			startStream(w)
			writeEvent(w, "", message(1))
			writeEvent(w, "", `{"jsonrpc":"2.0","id":`+string(m.ID)+`,"error":{"code":-32000,"message":"x"}}`)
		},
		"a tool's error":      object(200, `{"jsonrpc":"2.0","id":$ID,"result":{"isError":true,"content":[]}}`),
		"502":                 text(502, "text/html", "<p>Bad Gateway"),
		"a broken connection": func(http.ResponseWriter, *http.Request, jsonrpc.Message) { panic(http.ErrAbortHandler) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var h *httpScript
			h = newHTTPScript(t, answers(func(w http.ResponseWriter, r *http.Request, m jsonrpc.Message) {
				h.forgetAll("client")
				fail(w, r, m)
			}), func(h *httpScript) { h.deny = text(401, "", "") })
			l := run(t, []Spec{h.spec()}).settled(t).link(t, "web", LinkConfig{})
			_, _ = l.Call(t.Context(), toolCall("echo", ""))
			if n := len(h.sent("POST", "tools/call")); n != 1 {
				t.Errorf("the call was sent %d times", n)
			}
		})
	}
}

// Some servers answer ping to everybody, or take any session id and begin a session that is not initialized.
func TestForgottenSessionThatAnswersPingIsFound(t *testing.T) {
	t.Parallel()
	h := newHTTPScript(t, func(h *httpScript) {
		h.deny = func(w http.ResponseWriter, r *http.Request, m jsonrpc.Message) {
			if m.Method == "ping" {
				object(200, `{"jsonrpc":"2.0","id":$ID,"result":{}}`)(w, r, m)
				return
			}
			object(200, `{"jsonrpc":"2.0","id":$ID,"error":{"code":-32602,"message":"Invalid request parameters"}}`)(w, r, m)
		}
	})
	r := run(t, []Spec{h.spec()}).settled(t)
	l := r.link(t, "web", LinkConfig{})
	tool(t, l, "echo", "")
	h.forgetAll("client")
	h.forgetAll("hub")
	tool(t, l, "echo", `{"key":"again"}`)
	if n := h.dispatched(`"key":"again"`); n != 1 || initialized(h) != 2 {
		t.Errorf("%d calls were carried out, the server initialized %d times", n, initialized(h))
	}
}

// withoutPing makes a server refuse every ping, and calls while no returns true.
func withoutPing(no func() bool) func(*httpScript) {
	return func(h *httpScript) {
		h.onPost = func(w http.ResponseWriter, r *http.Request, m jsonrpc.Message) bool {
			if m.Method != "ping" && !(m.Method == "tools/call" && no()) {
				return false
			}
			object(200, `{"jsonrpc":"2.0","id":$ID,"error":{"code":-32600,"message":"invalid"}}`)(w, r, m)
			return true
		}
	}
}

func TestServerThatRefusesEveryPingKeepsItsSessions(t *testing.T) {
	t.Parallel()
	for _, isolation := range []Isolation{PerSession, Shared} {
		h := newHTTPScript(t, withoutPing(func() bool { return true }))
		spec := h.spec()
		spec.Isolation = isolation
		r := run(t, []Spec{spec}).settled(t)
		l := r.link(t, "web", LinkConfig{})
		for range 3 {
			if m, err := l.Call(t.Context(), toolCall("echo", "")); err != nil || m.Error == nil {
				t.Errorf("%s, %v", m.Error, err)
			}
		}
		if n := len(h.sent("POST", "tools/call")); n != 3 {
			t.Errorf("%s: 3 calls were sent %d times", isolation, n)
		}
		if gone := checked(t, r, checkGone); gone != 0 {
			t.Errorf("%s: %v sessions were found to be gone", isolation, gone)
		}
		if n := len(h.live("hub")) + len(h.live("client")); isolation == Shared && n != 1 || isolation == PerSession && n != 2 {
			t.Errorf("%s: %d sessions are open", isolation, n)
		}
	}
}

func TestForgottenSessionOfAServerThatRefusesEveryPingIsFound(t *testing.T) {
	t.Parallel()
	h := newHTTPScript(t, withoutPing(func() bool { return false }), func(h *httpScript) { h.deny = text(400, "", "") })
	l := run(t, []Spec{h.spec()}).settled(t).link(t, "web", LinkConfig{})
	tool(t, l, "echo", "")
	h.forgetAll("client")
	tool(t, l, "echo", `{"key":"again"}`)
	if n := h.dispatched(`"key":"again"`); n != 1 || initialized(h) != 2 {
		t.Errorf("%d calls were carried out, the server initialized %d times", n, initialized(h))
	}
}

// A server that refuses the credentials refuses everything, also a new session. The old one may be there yet.
func TestRefusedCredentialsAreNamedAndTheSessionStays(t *testing.T) {
	t.Parallel()
	for _, isolation := range []Isolation{PerSession, Shared} {
		var expired atomic.Bool
		h := newHTTPScript(t, func(h *httpScript) {
			h.onPost = func(w http.ResponseWriter, r *http.Request, m jsonrpc.Message) bool {
				if expired.Load() {
					text(401, "text/plain", "token expired")(w, r, m)
				}
				return expired.Load()
			}
		})
		spec := h.spec()
		spec.Isolation = isolation
		l := run(t, []Spec{spec}).settled(t).link(t, "web", LinkConfig{})
		tool(t, l, "echo", "")
		before := append(h.live("client"), h.live("hub")...)
		expired.Store(true)
		_, err := l.Call(t.Context(), toolCall("echo", ""))
		if err == nil || !strings.HasSuffix(err.Error(),
			`it refuses the hub with HTTP status 401 Unauthorized and says "token expired"; check the headers configured for it`) {
			t.Errorf("%s: error %v", isolation, err)
		}
		expired.Store(false)
		tool(t, l, "echo", "")
		if after := append(h.live("client"), h.live("hub")...); strings.Join(after, " ") != strings.Join(before, " ") {
			t.Errorf("%s: the sessions were %q and are %q", isolation, before, after)
		}
	}
}

// The hub's own session serves no call if the server is isolated, but its lists are read over it.
func TestForgottenSessionOfTheHubIsFoundByItsPing(t *testing.T) {
	t.Parallel()
	h := newHTTPScript(t, func(h *httpScript) { h.deny = text(422, "text/plain", "expect initialize") })
	r := run(t, []Spec{h.spec()}).settled(t)
	h.forgetAll("hub")
	r.Server("web").supervisor.checkSoon()
	hubtest.Eventually(t, "the hub has a new session", func() bool {
		return instrumenttest.Value(t, r.reg, "mcphub_backend_restarts_total", "reason", "session_gone") == 1 &&
			len(h.live("hub")) == 1 && r.Server("web").Status().State == Up
	})
}

// The stream of a session ends with a restart of the server, and is refused afterwards.
func TestForgottenSessionOfHTTPSSEIsReplacedWhateverTheServerSays(t *testing.T) {
	t.Parallel()
	for name, test := range denials() {
		if strings.HasPrefix(name, "2") || !test.repeated {
			continue // the answer comes on the stream, which is that of the session
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSSEScript(t, func(s *sseScript) {
				s.onPost = func(w http.ResponseWriter, r *http.Request, m jsonrpc.Message) bool {
					if s.of(r.URL.Query().Get("session")) != nil {
						return false
					}
					test.deny(w, r, m)
					return true
				}
			})
			l := run(t, []Spec{s.spec()}).settled(t).link(t, "web", LinkConfig{})
			tool(t, l, "echo", "")
			s.forgetAll()
			tool(t, l, "echo", `{"key":"again"}`)
			if n := len(s.sent("POST", `"again"`)); n != 2 {
				t.Errorf("the call was sent %d times", n)
			}
		})
	}
}

func TestReasonOfTheServerIsLoggedWithoutSecretsAndArguments(t *testing.T) {
	t.Parallel()
	h := newHTTPScript(t, func(h *httpScript) {
		h.deny = func(w http.ResponseWriter, r *http.Request, _ jsonrpc.Message) {
			http.Error(w, "expect initialize, not private words with s3cret-t0ken in "+r.Header.Get("Mcp-Session-Id"),
				http.StatusUnprocessableEntity)
		}
	})
	spec := h.spec()
	spec.Headers = map[string]string{"Authorization": "Bearer s3cret-t0ken"}
	r := run(t, []Spec{spec}).settled(t)
	l := r.link(t, "web", LinkConfig{})
	tool(t, l, "echo", "")
	h.forgetAll("client")
	tool(t, l, "echo", `{"key":"private words"}`)
	log := r.log.text()
	if !strings.Contains(log, "initializing again") || !strings.Contains(log, "expect initialize, not *** with *** in ***") {
		t.Errorf("the log is\n%s", log)
	}
	for _, secret := range []string{"private words", "s3cret", "secret-session"} {
		if strings.Contains(log, secret) {
			t.Errorf("the log has %q:\n%s", secret, log)
		}
	}
}

func TestCheckOfASessionEndsWithItsCaller(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{})
	var once sync.Once
	h := newHTTPScript(t, func(h *httpScript) {
		h.onPost = func(w http.ResponseWriter, r *http.Request, m jsonrpc.Message) bool {
			switch m.Method {
			case "tools/call":
				text(400, "", "")(w, r, m)
			case "ping":
				once.Do(func() { close(asked) })
				<-r.Context().Done()
			default:
				return false
			}
			return true
		}
	})
	l := run(t, []Spec{h.spec()}).settled(t).link(t, "web", LinkConfig{})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := l.Call(ctx, toolCall("echo", ""))
		done <- err
	}()
	wait(t, "the session is checked", asked)
	cancel()
	if err := wait(t, "the call returns", done); err == nil || errors.Is(err, transport.ErrSessionGone) {
		t.Errorf("error %v", err)
	}
}
