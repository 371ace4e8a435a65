package upstream

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
)

func TestEraOfAnHTTPServerIsFoundOut(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		handler http.Handler
		modern  bool
		version string
	}{
		"go-sdk stateless":        {sdkHandler(t, newEnded(), true), true, protocol.ModernVersion},
		"go-sdk with sessions":    {sdkHandler(t, newEnded(), false), false, "2025-11-25"},
		"mcp-go, both eras":       {mcpGoHandler(newEnded()), true, protocol.ModernVersion},
		"legacy, unknown session": {newHTTPScript(t), false, "2025-11-25"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := newTap(t, test.handler)
			e := newEnv(t, x.spec())
			c := e.connect(t, nil)
			if isModern(c) != test.modern || c.Initialized().ProtocolVersion != test.version {
				t.Errorf("it is known as %+v", c.Initialized())
			}
			if m, err := c.Call(t.Context(), Request{Method: "tools/list"}); err != nil || m.Error != nil {
				t.Errorf("tools/list: %s, %v", m.Error, err)
			}
			if n := len(x.sent("server/discover")); n != 1 {
				t.Errorf("it was asked %d times", n)
			}
			if n := len(x.sent(`"initialize"`)); (n == 0) != test.modern {
				t.Errorf("it was initialized %d times", n)
			}
			if r := x.sent("initialize"); !test.modern && r[0].header.Get(protocol.HeaderSessionID) != "" {
				t.Error("initialize was sent in a session")
			}
		})
	}
}

// Every answer that is not that of a modern server means that the server is a legacy one.
func TestAnswerToTheProbeDecidesTheEra(t *testing.T) {
	t.Parallel()
	const modern, legacy, failure = "modern", "legacy", "failure"
	plain := func(status int) func(http.ResponseWriter, *http.Request, jsonrpc.Message) {
		return func(w http.ResponseWriter, _ *http.Request, _ jsonrpc.Message) { http.Error(w, "Bad Request", status) }
	}
	refusal := func(status int, e string) func(http.ResponseWriter, *http.Request, jsonrpc.Message) {
		return object(status, `{"jsonrpc":"2.0","id":$ID,"error":`+e+`}`)
	}
	for name, test := range map[string]struct {
		answer func(http.ResponseWriter, *http.Request, jsonrpc.Message)
		era    string
	}{
		"modern": {object(200, `{"jsonrpc":"2.0","id":$ID,`+discovery(`{}`, protocol.ModernVersion)+`}`), modern},
		"both": {object(200, `{"jsonrpc":"2.0","id":$ID,`+discovery(`{}`, "2025-11-25",
			protocol.ModernVersion)+`}`), modern},
		"without capabilities":       {object(200, `{"jsonrpc":"2.0","id":$ID,"result":{"supportedVersions":["2026-07-28"]}}`), modern},
		"legacy versions only":       {object(200, `{"jsonrpc":"2.0","id":$ID,`+discovery(`{}`, "2025-11-25")+`}`), legacy},
		"a result of something else": {object(200, `{"jsonrpc":"2.0","id":$ID,"result":{}}`), legacy},
		"versions that are none":     {object(200, `{"jsonrpc":"2.0","id":$ID,"result":{"supportedVersions":"2026-07-28"}}`), legacy},
		"-32022, legacy versions": {refusal(400,
			`{"code":-32022,"message":"no","data":{"supported":["2025-11-25"],"requested":"2026-07-28"}}`), legacy},
		"-32022 without data":     {refusal(400, `{"code":-32022,"message":"no"}`), legacy},
		"-32022, our own version": {refusal(400, `{"code":-32022,"message":"no","data":{"supported":["2026-07-28"]}}`), failure},
		"-32020":                  {refusal(400, `{"code":-32020,"message":"a proxy has eaten a header"}`), failure},
		"-32021":                  {refusal(400, `{"code":-32021,"message":"sampling, please"}`), failure},
		"-32601":                  {refusal(200, `{"code":-32601,"message":"no such method"}`), legacy},
		"-32000 to no request": {object(400,
			`{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"Server not initialized"}}`), legacy},
		"-32602 with 400":   {refusal(400, `{"code":-32602,"message":"what?"}`), legacy},
		"400 in plain text": {plain(400), legacy},
		"404":               {plain(404), legacy},
		"405":               {plain(405), legacy},
		"500":               {plain(500), legacy},
		"200 in HTML":       {func(w http.ResponseWriter, _ *http.Request, _ jsonrpc.Message) { _, _ = w.Write([]byte("<html>")) }, legacy},
		"nothing":           {func(http.ResponseWriter, *http.Request, jsonrpc.Message) { panic(http.ErrAbortHandler) }, legacy},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newModernScript(t)
			s.on["server/discover"] = test.answer
			s.on["initialize"] = func(w http.ResponseWriter, _ *http.Request, m jsonrpc.Message) {
				reply(w, m, `"result":`+scriptInitialize)
			}
			e := newEnv(t, s.spec())
			c, err := e.openFor(t.Context(), nil, hub, ServerSession{})
			if err == nil {
				defer c.close(true)
			}
			switch {
			case (err != nil) != (test.era == failure):
				t.Fatalf("error %v", err)
			case err == nil && isModern(c) != (test.era == modern):
				t.Errorf("modern: %v", isModern(c))
			case (len(s.calls("initialize")) > 0) != (test.era == legacy):
				t.Error("initialize was sent, or was not")
			}
			if err != nil && !strings.Contains(err.Error(), `server "web"`) {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestServerThatHangsOnTheProbeIsLegacy(t *testing.T) {
	t.Parallel()
	h := newHTTPScript(t, hangs(`"method":"server/discover"`))
	spec := h.spec()
	spec.Era, spec.probeWait = protocol.AnyEra, 200*time.Millisecond
	within(t, 5*time.Second, "connecting", func() {
		if c := newEnv(t, spec).connect(t, nil); isModern(c) {
			t.Error("it counts as modern")
		}
	})
	if n := len(h.sent("POST", "notifications/cancelled")); n != 0 {
		t.Errorf("a server that is not initialized was sent %d cancellations", n)
	}
}

func TestCommandThatIgnoresTheProbeIsLegacy(t *testing.T) {
	t.Parallel()
	log := t.TempDir() + "/log"
	spec := anyChild(t, "ignores probes", "CHILD_LOG="+log)
	spec.probeWait = 200 * time.Millisecond
	sink := &recorder{}
	spec.Isolation = Shared
	var c *Conn
	within(t, 10*time.Second, "connecting", func() { c = newEnv(t, spec).connect(t, nil) })
	if isModern(c) {
		t.Error("it counts as modern")
	}
	if s := readFile(log); strings.Contains(s, "cancelled") {
		t.Errorf("the child was sent %s", s)
	}
	// A probe that was given up does not count as a cancelled call: the server request belongs to the call.
	req := toolCall("ask", `{"text":"roots/list"}`)
	req.Sink = sink
	if _, err := c.Call(t.Context(), req); err != nil || len(sink.serverRequests()) != 1 {
		t.Errorf("the caller was asked %v, %v", sink.serverRequests(), err)
	}
}

func TestCommandThatExitsOnTheProbeIsStartedAgainAsLegacy(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"ends on probes", "answers probes and ends"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			log := t.TempDir() + "/log"
			r := run(t, []Spec{anyChild(t, mode, "CHILD_LOG="+log)}).settled(t)
			st := r.Server("child").Status()
			if st.State != Up || st.ProtocolVersion != "2025-11-25" || st.Connections != 1 {
				t.Fatalf("Status() = %+v", st)
			}
			// A legacy command is not probed again.
			if _, err := r.link(t, "child", LinkConfig{}).Call(t.Context(), toolCall("crash", "")); !errors.Is(err, ErrLost) {
				t.Fatalf("error %v", err)
			}
			hubtest.Eventually(t, "it is up again", func() bool {
				return strings.Count(readFile(log), `"initialize"`) == 2 && r.Server("child").Status().State == Up
			})
			if n := strings.Count(readFile(log), `"server/discover"`); n != 1 {
				t.Errorf("it was probed %d times", n)
			}
		})
	}
}

func TestConfiguredEraIsNotProbed(t *testing.T) {
	t.Parallel()
	t.Run("legacy", func(t *testing.T) {
		t.Parallel()
		x := newTap(t, mcpGoHandler(newEnded()))
		spec := x.spec()
		spec.Era = protocol.Legacy
		if c := newEnv(t, spec).connect(t, nil); isModern(c) || len(x.sent("server/discover")) != 0 {
			t.Error("it was asked for its era")
		}
	})
	for name, spec := range map[string]func(t *testing.T) Spec{
		"modern, http":  func(t *testing.T) Spec { return newHTTPScript(t).spec() },
		"modern, stdio": func(t *testing.T) Spec { return childSpec(t, "script") },
		"modern, ends":  func(t *testing.T) Spec { return childSpec(t, "ends on probes") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			spec := spec(t)
			spec.Era = protocol.Modern
			_, err := newEnv(t, spec).openFor(t.Context(), nil, hub, ServerSession{})
			if err == nil || !(strings.Contains(err.Error(),
				"does not speak protocol version 2026-07-28, which is what era: modern asks for: ") || errors.Is(err, errProbed)) {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestRefusedConfiguredModernEraStatesTheReason(t *testing.T) {
	t.Parallel()
	s := newModernScript(t)
	s.on["server/discover"] = func(w http.ResponseWriter, _ *http.Request, _ jsonrpc.Message) {
		http.Error(w, "", http.StatusUnauthorized)
	}
	spec := s.spec()
	spec.Era = protocol.Modern
	_, err := newEnv(t, spec).openFor(t.Context(), nil, hub, ServerSession{})
	if err == nil || !strings.Contains(err.Error(), "check the headers configured for it") {
		t.Errorf("error %v", err)
	}
}

// A session id in the answer to a probe is not used. The session is given back.
func TestProbeGivesNoSession(t *testing.T) {
	t.Parallel()
	s := newModernScript(t)
	s.on["server/discover"] = func(w http.ResponseWriter, _ *http.Request, m jsonrpc.Message) {
		w.Header().Set(protocol.HeaderSessionID, "stray")
		reply(w, m, s.discovery)
	}
	c := newEnv(t, s.spec()).connect(t, nil)
	tool(t, c, "echo", "")
	c.close(true)
	s.mu.Lock()
	defer s.mu.Unlock()
	ended := 0
	for _, r := range s.requests {
		switch session, version := r.header.Get(protocol.HeaderSessionID), r.header.Get(protocol.HeaderProtocolVersion); {
		case r.method == http.MethodDelete && session == "stray" && version == "":
			ended++
		case session != "" || r.method != http.MethodPost:
			t.Errorf("%s %v %s", r.method, r.header, r.body)
		}
	}
	if ended != 1 {
		t.Errorf("it was given back %d times", ended)
	}
}

// After each change calls fail with an error that names the reason, and then they work again.
func TestServerThatChangesItsEraIsProbedAgain(t *testing.T) {
	t.Parallel()
	modern := newModernScript(t)
	modern.on["initialize"] = func(w http.ResponseWriter, _ *http.Request, m jsonrpc.Message) {
		w.WriteHeader(http.StatusBadRequest)
		reply(w, m, `"error":{"code":-32022,"message":"modern only","data":{"supported":["2026-07-28"]}}`)
	}
	strict := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { // as the specification asks
		if r.Header.Get(protocol.HeaderProtocolVersion) != protocol.ModernVersion {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusBadRequest)
			_, _ = w.Write([]byte(`{"jsonrpc":"2.0","id":null,"error":{"code":-32022,"message":"modern only","data":{"supported":["2026-07-28"]}}}`))
			return
		}
		modern.ServeHTTP(w, r)
	})
	for name, legacy := range map[string]http.Handler{"go-sdk": sdkHandler(t, newEnded(), false), "script": newHTTPScript(t)} {
		for _, isolation := range []Isolation{Shared, PerSession} {
			t.Run(name+" "+string(isolation), func(t *testing.T) {
				t.Parallel()
				x := newTap(t, strict)
				spec := x.spec()
				spec.Isolation = isolation
				r := run(t, []Spec{spec}).settled(t)
				l := r.link(t, "web", LinkConfig{})
				for _, next := range []struct {
					handler http.Handler
					modern  bool
				}{{legacy, false}, {strict, true}, {legacy, false}} {
					tools := func() bool {
						m, err := l.Call(t.Context(), Request{Method: "tools/list"})
						if err != nil && !strings.Contains(err.Error(), `server "web" `) {
							t.Errorf("error %v", err)
						}
						return err == nil && m.Error == nil
					}
					hubtest.Eventually(t, "calls work", tools)
					x.replace(next.handler)
					hubtest.Eventually(t, "the new era is found out", func() bool {
						return tools() && r.Server("web").Modern() == next.modern && r.Server("web").Status().State == Up
					})
				}
			})
		}
	}
}

// A legacy server may check the method before the session: then it refuses the hub's pings with their id, and all
// other requests because of the session.
func TestLegacyServerThatRefusesPingsByTheirIDIsProbedAgain(t *testing.T) {
	t.Parallel()
	for name, refusal := range map[string]string{
		"unknown method": `"error":{"code":-32601,"message":"Method not found"}`,
		"no session":     `"error":{"code":-32000,"message":"Bad Request: no session"}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			legacy := newHTTPScript(t)
			handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, err := io.ReadAll(r.Body)
				if err != nil {
					return
				}
				m, err := jsonrpc.Parse(body)
				switch {
				case err == nil && m.Method == "server/discover":
					reply(w, m, refusal)
				case err == nil && m.Method != "initialize" && r.Header.Get(protocol.HeaderSessionID) == "":
					http.Error(w, "no session", http.StatusNotFound)
				default:
					r.Body = io.NopCloser(bytes.NewReader(body))
					legacy.ServeHTTP(w, r)
				}
			})
			x := newTap(t, newModernScript(t))
			r := run(t, []Spec{x.spec()}).settled(t)
			l := r.link(t, "web", LinkConfig{})
			tools := func() bool {
				m, err := l.Call(t.Context(), Request{Method: "tools/list"})
				return err == nil && m.Error == nil
			}
			hubtest.Eventually(t, "calls work", tools)
			x.replace(handler)
			hubtest.Eventually(t, "the new era is found out", func() bool { return tools() && !r.Server("web").Modern() })
		})
	}
}

func TestCancellationDuringTheProbeDoesNotMakeTheServerLegacy(t *testing.T) {
	t.Parallel()
	h := newHTTPScript(t, hangs(`"method":"server/discover"`))
	spec := h.spec()
	spec.Era = protocol.AnyEra
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := newEnv(t, spec).openFor(ctx, nil, hub, ServerSession{}); err == nil || len(h.sent("POST", "initialize")) != 0 {
		t.Errorf("error %v", err)
	}
}

// odd makes the child handle a probe as some real servers do.
func (c *child) odd(mode string, m jsonrpc.Message) bool {
	if m.Method != "server/discover" {
		return false
	}
	c.probed.Store(true) // before the next message is read
	switch mode {
	case "ignores probes":
		return true
	case "ends on probes":
		os.Exit(1)
	case "answers probes and ends":
		c.write(`{"jsonrpc":"2.0","id":` + string(m.ID) + `,"error":{"code":-32600,"message":"expected initialize"}}`)
		os.Exit(1)
	}
	return false
}
