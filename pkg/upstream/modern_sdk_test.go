package upstream

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcphub-go/mcphub/pkg/protocol"
)

// The servers of this file are written with SDKs. They have the same tools: greet, confirm (sends a request to the
// client before it answers), form (sends two), grow (adds a tool), touch (changes res://a) and slow (waits until it
// is cancelled).

// ended counts the calls of slow that have started, and those that were cancelled.
type ended struct{ began, n chan struct{} }

func newEnded() ended { return ended{make(chan struct{}, 64), make(chan struct{}, 64)} }

func (e ended) wait(ctx context.Context) error {
	e.began <- struct{}{}
	<-ctx.Done()
	e.n <- struct{}{}
	return ctx.Err()
}

func newSDKServer(e ended) *sdk.Server {
	s := sdk.NewServer(&sdk.Implementation{Name: "go-sdk", Version: "1.8.0"}, &sdk.ServerOptions{
		SubscribeHandler:   func(context.Context, *sdk.SubscribeRequest) error { return nil },
		UnsubscribeHandler: func(context.Context, *sdk.UnsubscribeRequest) error { return nil },
	})
	object := map[string]any{"type": "object"}
	add := func(name string, schema any, fn sdk.ToolHandler) {
		s.AddTool(&sdk.Tool{Name: name, InputSchema: schema}, fn)
	}
	textResult := func(format string, args ...any) (*sdk.CallToolResult, error) {
		return &sdk.CallToolResult{Content: []sdk.Content{&sdk.TextContent{Text: fmt.Sprintf(format, args...)}}}, nil
	}
	add("greet", map[string]any{"type": "object", "properties": map[string]any{
		"region": map[string]any{"type": "string", "x-mcp-header": "Region"}}},
		func(ctx context.Context, r *sdk.CallToolRequest) (*sdk.CallToolResult, error) {
			if token := r.Params.GetProgressToken(); token != nil {
				_ = r.Session.NotifyProgress(ctx, &sdk.ProgressNotificationParams{ProgressToken: token, Progress: 1})
			}
			return textResult("hello %s", r.Params.Arguments)
		})
	ask := func(message string) sdk.InputRequestMap {
		return sdk.InputRequestMap{"q": &sdk.ElicitParams{Message: message, RequestedSchema: object}}
	}
	add("confirm", object, func(_ context.Context, r *sdk.CallToolRequest) (*sdk.CallToolResult, error) {
		if answer, ok := r.Params.InputResponses["q"].(*sdk.ElicitResult); ok {
			return textResult("%s with %q", answer.Action, r.Params.RequestState)
		}
		return &sdk.CallToolResult{InputRequests: ask("sure?"), RequestState: "state <1>"}, nil
	})
	add("form", object, func(_ context.Context, r *sdk.CallToolRequest) (*sdk.CallToolResult, error) {
		answer, ok := r.Params.InputResponses["q"].(*sdk.ElicitResult)
		switch {
		case !ok:
			return &sdk.CallToolResult{InputRequests: ask("first"), RequestState: "one"}, nil
		case r.Params.RequestState == "one":
			return &sdk.CallToolResult{InputRequests: ask("second"), RequestState: "two"}, nil
		}
		return textResult("%s with %q", answer.Action, r.Params.RequestState)
	})
	add("grow", object, func(context.Context, *sdk.CallToolRequest) (*sdk.CallToolResult, error) {
		add("grown", object, func(context.Context, *sdk.CallToolRequest) (*sdk.CallToolResult, error) { return textResult("") })
		return textResult("grown")
	})
	add("touch", object, func(ctx context.Context, _ *sdk.CallToolRequest) (*sdk.CallToolResult, error) {
		_ = s.ResourceUpdated(ctx, &sdk.ResourceUpdatedNotificationParams{URI: "res://a"})
		return textResult("touched")
	})
	add("slow", object, func(ctx context.Context, _ *sdk.CallToolRequest) (*sdk.CallToolResult, error) {
		return nil, e.wait(ctx)
	})
	s.AddResource(&sdk.Resource{URI: "res://a", Name: "a"}, func(context.Context, *sdk.ReadResourceRequest) (*sdk.ReadResourceResult, error) {
		return &sdk.ReadResourceResult{Contents: []*sdk.ResourceContents{{URI: "res://a", Text: "a"}}}, nil
	})
	return s
}

func newMCPGoServer(e ended) *server.MCPServer {
	s := server.NewMCPServer("mcp-go", "1.2.1", server.WithToolCapabilities(true), server.WithResourceCapabilities(true, true),
		server.WithElicitation(), server.WithLogging())
	s.AddTool(mcp.NewTool("greet"), func(ctx context.Context, r mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		if meta := r.Params.Meta; meta != nil && meta.ProgressToken != nil {
			_ = server.ServerFromContext(ctx).SendNotificationToClient(ctx, "notifications/progress",
				map[string]any{"progressToken": meta.ProgressToken, "progress": 1})
		}
		return mcp.NewToolResultText("hello"), nil
	})
	ask := func(message, state string) *mcp.CallToolResult {
		return server.NewInputRequestBuilder(state).Elicit("q", mcp.ElicitationParams{Message: message,
			RequestedSchema: map[string]any{"type": "object"}}).ToolResult()
	}
	answer := func(r mcp.CallToolRequest) string {
		a := server.ElicitationResponse(r.Params.InputResponses, "q")
		return fmt.Sprintf("%s with %q", a.Action, r.Params.RequestState)
	}
	s.AddTool(mcp.NewTool("confirm"), func(_ context.Context, r mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		if len(r.Params.InputResponses) == 0 {
			return ask("sure?", "state <1>"), nil
		}
		return mcp.NewToolResultText(answer(r)), nil
	})
	s.AddTool(mcp.NewTool("form"), func(_ context.Context, r mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		switch {
		case len(r.Params.InputResponses) == 0:
			return ask("first", "one"), nil
		case r.Params.RequestState == "one":
			return ask("second", "two"), nil
		}
		return mcp.NewToolResultText(answer(r)), nil
	})
	s.AddTool(mcp.NewTool("grow"), func(context.Context, mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		s.AddTool(mcp.NewTool("grown"), nil)
		return mcp.NewToolResultText("grown"), nil
	})
	s.AddTool(mcp.NewTool("touch"), func(_ context.Context, _ mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		s.SendNotificationToAllClients("notifications/resources/updated", map[string]any{"uri": "res://a"})
		return mcp.NewToolResultText("touched"), nil
	})
	s.AddTool(mcp.NewTool("slow"), func(ctx context.Context, _ mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		return nil, e.wait(ctx)
	})
	s.AddResource(mcp.NewResource("res://a", "a"), func(context.Context, mcp.ReadResourceRequest) ([]mcp.ResourceContents, error) {
		return []mcp.ResourceContents{mcp.TextResourceContents{URI: "res://a", Text: "a"}}, nil
	})
	return s
}

// tap is a server that keeps its requests. The handler behind it can be replaced.
type tap struct {
	*httptest.Server
	mu       sync.Mutex
	handler  http.Handler
	requests []httpRequest
}

func newTap(t testing.TB, h http.Handler) *tap {
	t.Helper()
	x := &tap{handler: h}
	x.Server = httptest.NewServer(x)
	t.Cleanup(x.Close)
	return x
}

func (x *tap) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	x.mu.Lock()
	x.requests = append(x.requests, httpRequest{r.Method, r.Header.Clone(), string(body)})
	h := x.handler
	x.mu.Unlock()
	h.ServeHTTP(w, r)
}

// replace replaces the handler by another server's. The open connections end.
func (x *tap) replace(h http.Handler) {
	x.mu.Lock()
	x.handler = h
	x.mu.Unlock()
	x.CloseClientConnections()
}

func (x *tap) sent(text string) []httpRequest {
	x.mu.Lock()
	defer x.mu.Unlock()
	var found []httpRequest
	for _, r := range x.requests {
		if strings.Contains(r.method+" "+r.body, text) {
			found = append(found, r)
		}
	}
	return found
}

func (x *tap) spec() Spec {
	return Spec{Name: "web", URL: x.URL, ConnectTimeout: patience, CallTimeout: patience}
}

func sdkHandler(t testing.TB, e ended, stateless bool) http.Handler {
	s := newSDKServer(e)
	t.Cleanup(func() {
		for session := range s.Sessions() { // those that nobody ended
			_ = session.Close()
		}
	})
	return sdk.NewStreamableHTTPHandler(func(*http.Request) *sdk.Server { return s },
		&sdk.StreamableHTTPOptions{Stateless: stateless, PropagateRequestCancellation: true})
}

func mcpGoHandler(e ended) http.Handler { return server.NewStreamableHTTPServer(newMCPGoServer(e)) }

// modernChild serves over stdio in both eras.
func modernChild(mode string) {
	e := newEnded()
	if mode == "go-sdk" {
		_ = newSDKServer(e).Run(context.Background(), &sdk.StdioTransport{})
		return
	}
	_ = server.NewStdioServer(newMCPGoServer(e)).Listen(context.Background(), os.Stdin, os.Stdout)
}

// everyModern runs a test with each SDK, over HTTP and stdio.
func everyModern(t *testing.T, test func(t *testing.T, spec Spec)) {
	t.Helper()
	for name, make := range map[string]func(t *testing.T) Spec{
		"go-sdk http":  func(t *testing.T) Spec { return newTap(t, sdkHandler(t, newEnded(), true)).spec() },
		"mcp-go http":  func(t *testing.T) Spec { return newTap(t, mcpGoHandler(newEnded())).spec() },
		"go-sdk stdio": func(t *testing.T) Spec { return anyChild(t, "go-sdk") },
		"mcp-go stdio": func(t *testing.T) Spec { return anyChild(t, "mcp-go modern") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, make(t))
		})
	}
}

// anyChild is a child whose era is to be found out.
func anyChild(t testing.TB, mode string, env ...string) Spec {
	spec := childSpec(t, mode, env...)
	spec.Era, spec.probeWait = protocol.AnyEra, 5*time.Second
	return spec
}
