package hubtest_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

// childVariable makes the test program a scripted server on stdin and stdout.
const childVariable = "HUBTEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		if err := greeter().ServeStdio(context.Background(), os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// greeter is a server with a tool that reports its progress and one that asks
// the client for its roots.
func greeter() *hubtest.Script {
	return &hubtest.Script{Tools: map[string]hubtest.Handler{
		"greet": func(c *hubtest.Call) hubtest.Reply {
			var arguments struct{ Name string }
			if err := c.Arguments(&arguments); err != nil {
				return hubtest.Failure(-32602, err.Error())
			}
			if token := c.ProgressToken(); token != nil {
				c.Notify("notifications/progress", `{"progress":1,"progressToken":`+string(token)+`}`)
			}
			return hubtest.Text("Hello, " + arguments.Name + "!")
		},
		"roots": func(c *hubtest.Call) hubtest.Reply {
			m, err := c.Ask("roots/list", `{}`)
			if err != nil {
				return hubtest.Failure(-32603, err.Error())
			}
			return hubtest.Text(string(m.Result) + string(m.Error))
		},
	}}
}

func TestAScriptIsAChildProcessAndAsksItsClient(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf("mcpServers: {child: {command: %q, env: {%s: \"1\"}}}", self, childVariable)
	hub := hubtest.StartHub(t, hubtest.Options{Config: config})
	hub.AwaitServers(1)
	c := hubtest.Connect(t, hub.URL())
	answer := c.Request("tools/call", `{"name":"child__roots"}`)
	if !strings.Contains(string(answer.Result), "roots") { // the hub refuses, because the client has declared no roots
		t.Errorf("the result is %s %s", answer.Result, answer.Error)
	}
}

func TestAModernScriptIsSpokenToInItsEra(t *testing.T) {
	server := &hubtest.Script{Modern: true, Tools: map[string]hubtest.Handler{
		"x": func(*hubtest.Call) hubtest.Reply { return hubtest.Text("y") },
	}}
	hub := hubtest.StartHub(t, hubtest.Options{
		Config: `{"naming": "bare", "mcpServers": {"new": {"url": "` + hubtest.Serve(t, server) + `"}}}`,
	})
	answer := hubtest.Connect(t, hub.URL()).Request("tools/call", `{"name":"x"}`)
	if !strings.Contains(string(answer.Result), `"text":"y"`) {
		t.Errorf("the result is %s %s", answer.Result, answer.Error)
	}
	if len(server.Received("initialize")) != 0 || len(server.Received("tools/call")) != 1 {
		t.Errorf("the server got %v", server.Received(""))
	}
}

func TestHandleReplacesAnswersOfAScript(t *testing.T) {
	server := greeter()
	server.Handle = func(c *hubtest.Call) *hubtest.Reply {
		if c.Method != "tools/call" {
			return nil
		}
		failure := hubtest.Failure(4711, "no")
		return &failure
	}
	answer := hubtest.Connect(t, hubtest.Serve(t, server)).Request("tools/call", `{"name":"greet"}`) // without a hub
	if string(answer.Error) != `{"code":4711,"message":"no"}` {
		t.Errorf("the answer is %s %s", answer.Result, answer.Error)
	}
}

func TestInterceptAnswersBeforeAScript(t *testing.T) {
	server := greeter()
	var busy atomic.Bool
	server.Intercept = func(w http.ResponseWriter, _ *http.Request, m jsonrpc.Message) bool {
		if m.Method == "ping" && busy.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		}
		return false
	}
	c := hubtest.Connect(t, hubtest.Serve(t, server))
	for _, want := range []int{http.StatusOK, http.StatusServiceUnavailable} {
		if status, body := c.Post(`{"jsonrpc":"2.0","id":1,"method":"ping"}`); status != want {
			t.Errorf("ping: %d %s, want %d", status, body, want)
		}
		busy.Store(true)
	}
}

func TestACallOfAScriptEndsWhenTheClientCancelsIt(t *testing.T) {
	cancelled := make(chan struct{})
	server := &hubtest.Script{Tools: map[string]hubtest.Handler{"wait": func(c *hubtest.Call) hubtest.Reply {
		<-c.Context().Done()
		close(cancelled)
		return hubtest.Text("nobody reads this")
	}}}
	hub := hubtest.StartHub(t, hubtest.Options{Config: `mcpServers: {web: {url: "` + hubtest.Serve(t, server) + `"}}`})
	c := hubtest.Connect(t, hub.URL())
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		call := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"web__wait"}}`
		if response, err := c.Do(ctx, http.MethodPost, call); err == nil {
			response.Body.Close()
		}
	}()
	hubtest.Eventually(t, "the server has the call", func() bool { return len(server.Received("tools/call")) == 1 })
	c.Post(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}`)
	<-cancelled
}

func TestRequestsWithTheSameIDDoNotEndEachOther(t *testing.T) {
	release := make(chan struct{})
	server := &hubtest.Script{Modern: true, Tools: map[string]hubtest.Handler{
		"quick": func(*hubtest.Call) hubtest.Reply { return hubtest.Text("done") },
		"wait": func(c *hubtest.Call) hubtest.Reply {
			select {
			case <-release:
				return hubtest.Text("released")
			case <-c.Context().Done():
				return hubtest.Text("ended")
			}
		},
	}}
	c := hubtest.NewModernClient(t, hubtest.Serve(t, server), "modern") // all its requests have the id 1
	waited := make(chan string, 1)
	go func() {
		_, body, err := c.Send("tools/call", "wait", `"name":"wait"`)
		waited <- fmt.Sprint(body, err)
	}()
	hubtest.Eventually(t, "the server has the call", func() bool { return len(server.Received("tools/call")) == 1 })
	c.Request("tools/call", "quick", `"name":"quick"`)
	close(release)
	if got := <-waited; !strings.Contains(got, "released") {
		t.Errorf("the other call got %s", got)
	}
}

func TestAnnouncementsOfAScriptReachClientsOfBothEras(t *testing.T) {
	for name, modern := range map[string]bool{"legacy server": false, "modern server": true} {
		t.Run(name, func(t *testing.T) {
			server := &hubtest.Script{Modern: modern, Capabilities: `{"tools":{"listChanged":true}}`}
			var lists atomic.Int64
			server.Handle = func(c *hubtest.Call) *hubtest.Reply {
				if c.Method != "tools/list" {
					return nil
				}
				return &hubtest.Reply{Result: fmt.Appendf(nil, `{"tools":[{"name":"tool%d","inputSchema":{}}]}`, lists.Add(1))}
			}
			config := `mcpServers: {web: {url: "` + hubtest.Serve(t, server) + `", isolation: shared}}`
			hub := hubtest.StartHub(t, hubtest.Options{Config: config})
			hub.AwaitServers(1)
			legacy := hubtest.Connect(t, hub.URL()).Stream(t.Context(), http.MethodGet, "", "")
			modern := hubtest.NewModernClient(t, hub.URL(), "modern").
				Stream(t.Context(), "subscriptions/listen", "", `"notifications":{"toolsListChanged":true}`)
			const changed = "notifications/tools/list_changed"
			if e := modern.NextData(); !strings.Contains(e.Data, "notifications/subscriptions/acknowledged") {
				t.Errorf("the stream begins with %+v", e)
			}
			hubtest.Eventually(t, "the hub listens", func() bool { return server.Announce(changed, "{}") > 0 })
			for client, stream := range map[string]*hubtest.Stream{"legacy": legacy, "modern": modern} {
				if e := stream.NextData(); !strings.Contains(e.Data, changed) {
					t.Errorf("the %s client got %+v", client, e)
				}
			}
		})
	}
}

func TestAHubInitializesAgainWhenAScriptHasEndedItsSessions(t *testing.T) {
	server := greeter()
	hub := hubtest.StartHub(t, hubtest.Options{
		Config: `{"naming": "bare", "mcpServers": {"web": {"url": "` + hubtest.Serve(t, server) + `"}}}`,
	})
	c := hubtest.Connect(t, hub.URL())
	for range 2 {
		if answer := c.Request("tools/call", `{"name":"greet","arguments":{"name":"Ada"}}`); answer.Result == nil {
			t.Errorf("the call failed: %s", answer.Error)
		}
		server.EndSessions()
	}
}

func TestAHubIsKilledRestartedAndStopped(t *testing.T) {
	hub := hubtest.StartHub(t, hubtest.Options{})
	c := hubtest.Connect(t, hub.URL())
	if id := hub.AwaitSession(); id != c.SessionID() {
		t.Errorf("the stored session is %s, not %s", id, c.SessionID())
	}
	hub.Kill()
	hub = hub.Restart()
	if answer := c.Request("ping", `{}`); string(answer.Result) != `{}` {
		t.Errorf("ping: %s", answer.Error)
	}
	status, out, errs := hubtest.Command(t, "sessions", "list", "--admin", hub.AdminListen)
	if status != 0 || !strings.Contains(out, c.SessionID()) {
		t.Errorf("sessions list: %d %s%s", status, out, errs)
	}
	if status := hub.Terminate(15 * time.Second); status != 0 {
		t.Errorf("exit status %d", status)
	}
	if len(hub.Logged("session created")) != 0 {
		t.Error("the hub created a session after its restart")
	}
}

func TestACollectorGetsTheSpansOfAHub(t *testing.T) {
	collector := hubtest.StartCollector(t)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.URL)
	t.Setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
	hub := hubtest.StartHub(t, hubtest.Options{})
	c := hubtest.Connect(t, hub.URL())
	hub.Terminate(15 * time.Second)
	initialize := collector.Find(func(s *hubtest.Span) bool { return s.Name == "initialize" && s.IsServer() })
	if len(initialize) != 1 || initialize[0].Service != "mcphub" || initialize[0].Attribute("mcp.method.name") != "initialize" {
		t.Errorf("the spans are %v", collector.Spans())
	}
	if !strings.Contains(collector.Traces.String(), c.SessionID()) {
		t.Error("the session is not in the exports")
	}
}
