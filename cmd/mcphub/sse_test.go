package main

import (
	"context"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
)

func TestAServerOfTheTransportBeforeIsReachedByItsType(t *testing.T) {
	s := server.NewMCPServer("old", "1.0")
	s.AddTool(mcp.NewTool("echo", mcp.WithString("text")), func(_ context.Context, r mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		return mcp.NewToolResultText(r.GetString("text", "")), nil
	})
	old := httptest.NewServer(server.NewSSEServer(s))
	t.Cleanup(old.Close)
	t.Cleanup(old.CloseClientConnections) // streams have no end of their own
	hub := hubtest.StartHub(t, hubtest.Options{Config: `mcpServers: {demo: {url: "` + old.URL + `/sse", type: sse}}`})
	echo(t, newClient(t, hub.URL()), "hello")
	if _, upstreams := hub.Get("/api/v1/upstreams"); !strings.Contains(upstreams, `"transport": "sse"`) {
		t.Errorf("the upstreams are %s", upstreams)
	}
}
