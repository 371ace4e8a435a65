package gateway

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/mark3labs/mcp-go/client"
	"github.com/mark3labs/mcp-go/client/transport"
	"github.com/mark3labs/mcp-go/mcp"

	"github.com/mcphub-go/mcphub/pkg/catalog"
	"github.com/mcphub-go/mcphub/pkg/hubtest"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

// mcpGoUser answers the requests of servers to a client of mcp-go.
type mcpGoUser struct{ name string }

func (h mcpGoUser) Elicit(context.Context, mcp.ElicitationRequest) (*mcp.ElicitationResult, error) {
	return &mcp.ElicitationResult{ElicitationResponse: mcp.ElicitationResponse{
		Action: mcp.ElicitationResponseActionAccept, Content: map[string]any{"name": h.name}}}, nil
}

func (h mcpGoUser) CreateMessage(context.Context, mcp.CreateMessageRequest) (*mcp.CreateMessageResult, error) {
	return &mcp.CreateMessageResult{Model: "model of " + h.name,
		SamplingMessage: mcp.SamplingMessage{Role: mcp.RoleAssistant, Content: mcp.NewTextContent("Something.")}}, nil
}

// connectMCPGo connects a client of mcp-go.
func (r *rig) connectMCPGo(h mcpGoUser, options ...client.ClientOption) (*client.Client, *mcp.InitializeResult) {
	r.t.Helper()
	tr, err := transport.NewStreamableHTTP(r.url, transport.WithContinuousListening(), transport.WithHTTPBasicClient(r.client))
	if err != nil {
		r.t.Fatal(err)
	}
	c := client.NewClient(tr, append(options, client.WithElicitationHandler(h), client.WithSamplingHandler(h))...)
	if err := c.Start(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = c.Close() })
	init, err := c.Initialize(r.t.Context(), mcp.InitializeRequest{Params: mcp.InitializeParams{
		ProtocolVersion: "2025-11-25", ClientInfo: mcp.Implementation{Name: h.name, Version: "1"}}})
	if err != nil {
		r.t.Fatal(err)
	}
	return c, init
}

func callText(t *testing.T, c *client.Client, name string) string {
	t.Helper()
	result, err := c.CallTool(t.Context(), mcp.CallToolRequest{Params: mcp.CallToolParams{Name: name}})
	if err != nil || len(result.Content) != 1 {
		t.Errorf("%s: %+v %v", name, result, err)
		return ""
	}
	text, _ := result.Content[0].(mcp.TextContent)
	return text.Text
}

func TestMCPGoClientWorksWithTheHub(t *testing.T) {
	for name, options := range map[string][]client.ClientOption{
		"tries the modern protocol first": {client.WithProtocolVersion("2026-07-28")},
		"legacy only":                     {client.WithLegacyProtocolOnly()},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, setup{specs: []upstream.Spec{stdio(t, "one")}})
			c, init := r.connectMCPGo(mcpGoUser{"ann"}, options...)
			if init.ProtocolVersion != "2025-11-25" || init.ServerInfo.Name != "mcphub" || init.Capabilities.Tools == nil ||
				init.Instructions == "" {
				t.Errorf("initialized with %+v", init)
			}
			var changed atomic.Int32
			c.OnNotification(func(n mcp.JSONRPCNotification) {
				if n.Method == "notifications/tools/list_changed" {
					changed.Add(1)
				}
			})
			tools, err := c.ListTools(t.Context(), mcp.ListToolsRequest{})
			if err != nil || len(tools.Tools) != strings.Count(childTools, `"inputSchema"`) {
				t.Errorf("tools: %+v %v", tools, err)
			}
			if _, err := c.CallTool(t.Context(), mcp.CallToolRequest{Params: mcp.CallToolParams{Name: "one__echo"}}); err != nil {
				t.Errorf("echo: %v", err)
			}
			hubtest.Eventually(t, "the client reads a GET stream", func() bool {
				return r.metric("mcphub_streams_active", "stream", "get_sse") == 1
			})
			r.gateway.ListChanged([]catalog.Kind{catalog.Tools})
			hubtest.Eventually(t, "the client receives list_changed", func() bool { return changed.Load() == 1 })
			if err := c.Ping(t.Context()); err != nil {
				t.Errorf("ping: %v", err)
			}
			if err := c.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
			hubtest.Eventually(t, "the session has ended", func() bool { return r.closed("client_delete") == 1 })
		})
	}
}
