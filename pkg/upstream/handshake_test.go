package upstream

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mark3labs/mcp-go/server"

	"github.com/mcphub-go/mcphub/pkg/instrument/instrumenttest"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
	"github.com/mcphub-go/mcphub/pkg/upstream/transport"
)

// both runs a test over each transport, against the same script.
func both(t *testing.T, test func(t *testing.T, spec Spec)) {
	t.Helper()
	t.Run("stdio", func(t *testing.T) {
		t.Parallel()
		test(t, childSpec(t, "script"))
	})
	t.Run("http", func(t *testing.T) {
		t.Parallel()
		test(t, newHTTPScript(t).spec())
	})
	t.Run("http stream", func(t *testing.T) {
		t.Parallel()
		test(t, newHTTPScript(t, func(h *httpScript) { h.events = true }).spec())
	})
	t.Run("sse", func(t *testing.T) {
		t.Parallel()
		test(t, newSSEScript(t).spec())
	})
}

func TestHandshakeIntroducesTheClientAndKeepsTheAnswer(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, spec Spec) {
		c := newEnv(t, spec).connect(t, nil)
		init := c.Initialized()
		if init.ProtocolVersion != "2025-11-25" || init.Instructions != "be nice" ||
			string(init.ServerInfo) != `{"name":"script","version":"1.0"}` {
			t.Errorf("Initialized() = %+v", init)
		}
		lines := fieldStrings(t, tool(t, c, "seen", "").Result, "lines")
		if len(lines) < 3 {
			t.Fatalf("the server was sent %q", lines)
		}
		first, err := jsonrpc.Parse([]byte(lines[0]))
		if err != nil || first.Method != "initialize" {
			t.Fatalf("the first message is %s", lines[0])
		}
		want := `{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"hub","version":"1"}}`
		if string(first.Params) != want {
			t.Errorf("initialize has params %s, want %s", first.Params, want)
		}
		if want := `{"jsonrpc":"2.0","method":"notifications/initialized"}`; strings.TrimSpace(lines[1]) != want {
			t.Errorf("the second message is %s, want %s", lines[1], want)
		}
	})
}

func TestRealServersAreUnderstood(t *testing.T) {
	t.Parallel()
	check := func(t *testing.T, spec Spec) {
		e := newEnv(t, spec)
		c := e.connect(t, nil)
		inv, err := readInventory(t.Context(), c)
		if err != nil || len(inv.Tools) != 1 || len(inv.Prompts) != 1 {
			t.Fatalf("list: %d tools, %d prompts, %v", len(inv.Tools), len(inv.Prompts), err)
		}
		sink := &recorder{}
		m, err := c.Call(t.Context(), Request{Method: "tools/call", Target: "greet", Sink: sink,
			Params: json.RawMessage(`{"name":"greet","arguments":{"name":"Ada"},"_meta":{"progressToken":"mine"}}`)})
		if err != nil || !strings.Contains(string(m.Result), "hello Ada") {
			t.Errorf("greet: %s, %v", m.Result, err)
		}
		for _, n := range sink.notifications() { // it may come after the answer, when nobody wants it
			if got := string(field(t, n.Params, "progressToken")); got != `"mine"` {
				t.Errorf("progress has token %s", got)
			}
		}
		m, err = c.Call(t.Context(), Request{Method: "tools/call", Params: json.RawMessage(`{"name":"absent"}`)})
		if err != nil || m.Error == nil {
			t.Errorf("an absent tool: %+v, %v", m, err)
		}
	}
	t.Run("stdio", func(t *testing.T) {
		t.Parallel()
		spec := childSpec(t, "mcp-go")
		check(t, spec)
		spec.Era = protocol.AnyEra
		check(t, spec)
	})
	t.Run("http", func(t *testing.T) {
		t.Parallel()
		handler := server.NewStreamableHTTPServer(newMCPServer(), server.WithStateful(true))
		deleted := make(chan struct{}, 1)
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			handler.ServeHTTP(w, r)
			if r.Method == http.MethodDelete {
				deleted <- struct{}{}
			}
		}))
		t.Cleanup(srv.Close)
		spec := Spec{Name: "real", URL: srv.URL, ConnectTimeout: patience}
		check(t, spec)
		spec.Era = protocol.Legacy
		check(t, spec)
		e := newEnv(t, spec)
		c := e.connect(t, nil)
		if c.serverSession().SessionID == "" {
			t.Error("there is no session")
		}
		c.close(true)
		wait(t, "the session is ended", deleted)
	})
}

func TestAnswersToInitializeThatAreRefused(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ result, want string }{
		"a version of tomorrow": {`{"protocolVersion":"2099-01-01","capabilities":{}}`,
			`speaks protocol version "2099-01-01", which the hub does not`},
		"a stateless version":    {`{"protocolVersion":"2026-07-28","capabilities":{}}`, `"2026-07-28", which the hub does not`},
		"no version":             {`{"capabilities":{}}`, "has no protocol version"},
		"a version of a kind":    {`{"protocolVersion":7}`, "has no protocol version"},
		"not even an object":     {`"hello"`, "has no protocol version"},
		"an endless version":     {`{"protocolVersion":"` + strings.Repeat("9", 5000) + `"}`, `"99999999999999999999", which`},
		"two answers":            {`{"x":1},"error":{}`, "not both"},
		"capabilities of a kind": {`{"protocolVersion":"2025-06-18","capabilities":[]}`, ""}, // connects; listing says what is wrong
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHTTPScript(t, func(h *httpScript) { h.initialize = test.result })
			e := newEnv(t, h.spec())
			c, err := e.openFor(t.Context(), &recorder{}, hub, ServerSession{})
			switch {
			case test.want == "" && err != nil:
				t.Error(err)
			case test.want == "":
				c.close(true)
			case err == nil:
				t.Error("it was accepted")
				c.close(true)
			case !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), `server "web"`) || len(err.Error()) > 500:
				t.Errorf("error %q, want one with %q", err, test.want)
			}
			if n := len(h.live("hub")); n != 0 {
				t.Errorf("%d sessions are left at the server", n)
			}
			if n := instrumenttest.Value(t, e.reg, "mcphub_backend_sessions"); n != 0 {
				t.Errorf("%v connections are counted", n)
			}
		})
	}
}

func TestErrorFromInitializeIsReportedShortened(t *testing.T) {
	t.Parallel()
	h := newHTTPScript(t, func(h *httpScript) {
		h.lists["initialize"] = func(json.RawMessage) string {
			return `"error":{"code":-32000,"message":"licence expired ` + strings.Repeat("!", 1<<20) + `"}`
		}
	})
	_, err := newEnv(t, h.spec()).openFor(t.Context(), &recorder{}, hub, ServerSession{})
	if err == nil || !strings.Contains(err.Error(), `server "web" refused initialize: licence expired !!!`) || len(err.Error()) > 500 {
		t.Errorf("error %.600q", err)
	}
}

// A request to initialize must never be cancelled.
func TestInitializeThatHangsIsGivenUpWithoutCancellation(t *testing.T) {
	t.Parallel()
	log := filepath.Join(t.TempDir(), "log")
	spec := childSpec(t, "silent", "CHILD_LOG="+log)
	spec.ConnectTimeout, spec.StartTimeout = 2*time.Second, 2*time.Second
	e := newEnv(t, spec)
	_, err := e.openFor(t.Context(), &recorder{}, hub, ServerSession{})
	if !errors.Is(err, transport.ErrConnectTimeout) || !strings.Contains(err.Error(), `server "child" did not become ready in time`) {
		t.Errorf("error %v", err)
	}
	if got := ErrorType(jsonrpc.Message{}, err); got != "timeout" {
		t.Errorf("error type %q", got)
	}
	received(t, log, `"initialize"`)
	if strings.Contains(readFile(log), "cancelled") {
		t.Errorf("initialize was cancelled: %s", readFile(log))
	}
}

// A server may send requests as soon as it runs.
func TestServerMayPingBeforeItIsInitialized(t *testing.T) {
	t.Parallel()
	log := filepath.Join(t.TempDir(), "log")
	c := newEnv(t, childSpec(t, "ping first", "CHILD_LOG="+log)).connect(t, nil)
	received(t, log, `"id":"early"`, `"result":{}`)
	tool(t, c, "echo", "")
}
