package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

// realSSE is a server written with an SDK, over HTTP+SSE, that can be killed and started again at its address.
type realSSE struct {
	handler func() http.Handler // of a new process
	path    string
	address string
	server  *http.Server
	working chan struct{} // has one when the tool hold begins
	ended   chan struct{} // has one when that was cancelled
	quit    chan struct{} // closed at the end of the test: mcp-go does not end a tool with its session
}

// newMCPGo is a server of mcp-go, which cannot send requests to clients over HTTP+SSE.
func newMCPGo() *realSSE {
	r := &realSSE{path: "/sse", working: make(chan struct{}, 9), ended: make(chan struct{}, 9), quit: make(chan struct{})}
	r.handler = func() http.Handler {
		s := newMCPServer()
		server.WithLogging()(s)
		s.AddTool(mcp.NewTool("log"), func(ctx context.Context, _ mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			err := s.SendLogMessageToClient(ctx, mcp.NewLoggingMessageNotification(mcp.LoggingLevelError, "real", "a log line"))
			return mcp.NewToolResultText("logged"), err
		})
		s.AddTool(mcp.NewTool("hold"), func(ctx context.Context, _ mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			return mcp.NewToolResultText("held"), r.hold(ctx)
		})
		return server.NewSSEServer(s, server.WithKeepAlive(true), server.WithKeepAliveInterval(5*time.Millisecond))
	}
	return r
}

// newSDK is a server of go-sdk.
func newSDK() *realSSE {
	r := &realSSE{path: "/", working: make(chan struct{}, 9), ended: make(chan struct{}, 9), quit: make(chan struct{})}
	r.handler = func() http.Handler {
		s := sdk.NewServer(&sdk.Implementation{Name: "real", Version: "2.0"}, nil)
		s.AddPrompt(&sdk.Prompt{Name: "ask"}, func(context.Context, *sdk.GetPromptRequest) (*sdk.GetPromptResult, error) {
			return &sdk.GetPromptResult{}, nil
		})
		add := func(name string, fn func(context.Context, *sdk.CallToolRequest) (string, error)) {
			s.AddTool(&sdk.Tool{Name: name, InputSchema: map[string]any{"type": "object"}}, func(ctx context.Context,
				req *sdk.CallToolRequest) (*sdk.CallToolResult, error) {
				text, err := fn(ctx, req)
				return &sdk.CallToolResult{Content: []sdk.Content{&sdk.TextContent{Text: text}}}, err
			})
		}
		add("greet", func(ctx context.Context, req *sdk.CallToolRequest) (string, error) {
			return "hello Ada", req.Session.NotifyProgress(ctx,
				&sdk.ProgressNotificationParams{ProgressToken: req.Params.GetProgressToken(), Progress: 1})
		})
		add("log", func(ctx context.Context, req *sdk.CallToolRequest) (string, error) {
			return "logged", req.Session.Log(ctx, &sdk.LoggingMessageParams{Level: "error", Data: "a log line"})
		})
		add("ask", func(ctx context.Context, req *sdk.CallToolRequest) (string, error) {
			answer, err := req.Session.CreateMessage(ctx, &sdk.CreateMessageParams{MaxTokens: 7})
			if err != nil {
				return "", err
			}
			return "the model says " + answer.Content.(*sdk.TextContent).Text, nil
		})
		add("hold", func(ctx context.Context, _ *sdk.CallToolRequest) (string, error) { return "held", r.hold(ctx) })
		return sdk.NewSSEHandler(func(*http.Request) *sdk.Server { return s }, nil)
	}
	return r
}

func (r *realSSE) hold(ctx context.Context) error {
	r.working <- struct{}{}
	select {
	case <-ctx.Done():
		r.ended <- struct{}{}
		return ctx.Err()
	case <-r.quit:
		return nil
	}
}

func (r *realSSE) start(t *testing.T) {
	t.Helper()
	address := r.address
	if address == "" {
		address = "127.0.0.1:0"
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	r.address = l.Addr().String()
	s := &http.Server{Handler: r.handler(), ReadHeaderTimeout: patience}
	r.server = s
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(l)
	}()
	t.Cleanup(func() {
		_ = s.Close()
		<-done
	})
}

func (r *realSSE) spec() Spec {
	return Spec{Name: "real", URL: "http://" + r.address + r.path, SSE: true, ConnectTimeout: patience, CallTimeout: patience}
}

func TestRealSSEServersAreUnderstood(t *testing.T) {
	t.Parallel()
	for name, newServer := range map[string]func() *realSSE{"mcp-go": newMCPGo, "go-sdk": newSDK} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer()
			t.Cleanup(func() { close(s.quit) })
			s.start(t)
			r := run(t, []Spec{s.spec()}).settled(t)
			st := r.up(t, "real")
			if st.Tools < 3 || st.Prompts != 1 || st.Transport != "sse" || string(field(t, st.ServerInfo, "name")) != `"real"` {
				t.Errorf("Status() = %+v", st)
			}
			sink := &recorder{answer: func(context.Context, jsonrpc.Message) (json.RawMessage, error) {
				return json.RawMessage(`{"role":"assistant","model":"m","content":{"type":"text","text":"42"}}`), nil
			}}
			l := r.link(t, "real", LinkConfig{Sink: sink, Identity: Identity{ClientInfo: hub.ClientInfo,
				Capabilities: json.RawMessage(`{"sampling":{}}`)}})
			call := func(name, want string) {
				req := Request{Method: "tools/call", Target: name, Sink: sink,
					Params: json.RawMessage(`{"name":"` + name + `","arguments":{"name":"Ada"},"_meta":{"progressToken":"mine"}}`)}
				if m, err := l.Call(t.Context(), req); err != nil || !strings.Contains(string(m.Result), want) {
					t.Errorf("%s: %s %s, %v", name, m.Result, m.Error, err)
				}
			}
			if _, err := l.Call(t.Context(), Request{Method: "logging/setLevel", Params: json.RawMessage(`{"level":"info"}`)}); err != nil {
				t.Error(err)
			}
			call("greet", "hello Ada")
			call("log", "logged")
			if name == "go-sdk" {
				call("ask", "the model says 42")
			}
			has := func(method, text string) func() bool {
				return func() bool {
					for _, m := range sink.notifications() {
						if m.Method == method && strings.Contains(string(m.Params), text) {
							return true
						}
					}
					return false
				}
			}
			hubtest.Eventually(t, "the log line is there", has("notifications/message", "a log line"))
			if name == "go-sdk" && !has("notifications/progress", `"progressToken":"mine"`)() { // mcp-go may send it after the answer
				t.Errorf("the notifications are %v", sink.notifications())
			}
		})
	}
}

func TestCancellationReachesARealSSEServer(t *testing.T) {
	t.Parallel()
	for name, newServer := range map[string]func() *realSSE{"mcp-go": newMCPGo, "go-sdk": newSDK} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer()
			t.Cleanup(func() { close(s.quit) })
			s.start(t)
			c := newEnv(t, s.spec()).connect(t, nil)
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() {
				_, err := c.Call(ctx, toolCall("hold", ""))
				done <- err
			}()
			wait(t, "the server is at work", s.working)
			cancel()
			if err := wait(t, "the call returns", done); !errors.Is(err, ErrCancelled) {
				t.Errorf("error %v", err)
			}
			wait(t, "the server stops", s.ended)
		})
	}
}

func TestRealSSEServerThatIsRestartedIsUsedAgain(t *testing.T) {
	t.Parallel()
	for name, newServer := range map[string]func() *realSSE{"mcp-go": newMCPGo, "go-sdk": newSDK} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer()
			t.Cleanup(func() { close(s.quit) })
			s.start(t)
			r := run(t, []Spec{s.spec()}).settled(t)
			l := r.link(t, "real", LinkConfig{})
			tool(t, l, "greet", `{"name":"Ada"}`)
			done := make(chan error, 1)
			go func() {
				_, err := l.Call(context.WithoutCancel(t.Context()), toolCall("hold", ""))
				done <- err
			}()
			wait(t, "the server is at work", s.working)
			within(t, 5*time.Second, "noticing the end", func() {
				_ = s.server.Close()
				if err := wait(t, "the call fails", done); !errors.Is(err, ErrLost) {
					t.Errorf("error %v", err)
				}
			})
			hubtest.Eventually(t, "it is down", func() bool { return r.Server("real").Status().State == Down })
			if _, err := l.Call(t.Context(), toolCall("greet", "")); !errors.Is(err, ErrDown) {
				t.Errorf("a call meanwhile: %v", err)
			}
			s.start(t)
			r.up(t, "real")
			hubtest.Eventually(t, "the link works again", func() bool {
				m, err := l.Call(t.Context(), toolCall("greet", `{"name":"Ada"}`))
				return err == nil && strings.Contains(string(m.Result), "hello Ada")
			})
		})
	}
}
