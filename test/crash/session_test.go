// Package crash proves what survives kill -9, a restart and a shutdown of the hub,
// and the death of a server: nothing that was acknowledged is lost, nothing that
// was deleted returns, and no call and no process is left hanging.
package crash

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/mark3labs/mcp-go/client"
	"github.com/mark3labs/mcp-go/mcp"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
	"github.com/mcphub-go/mcphub/test/peers"
)

// newClient connects a real MCP client.
func newClient(t *testing.T, url string) *client.Client {
	t.Helper()
	c, err := client.NewStreamableHttpClient(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	var hello mcp.InitializeRequest
	hello.Params.ProtocolVersion = mcp.LATEST_LEGACY_PROTOCOL_VERSION
	hello.Params.ClientInfo = mcp.Implementation{Name: "e2e", Version: "1.2.3"}
	if _, err := c.Initialize(t.Context(), hello); err != nil {
		t.Fatal(err)
	}
	return c
}

// echo calls the demo server's echo tool and fails unless it answers.
func echo(t *testing.T, c *client.Client, text string) {
	t.Helper()
	var call mcp.CallToolRequest
	call.Params.Name, call.Params.Arguments = "demo__echo", map[string]any{"text": text}
	result, err := c.CallTool(t.Context(), call)
	if err != nil {
		t.Fatal(err)
	}
	if len(result.Content) != 1 || mcp.GetTextFromContent(result.Content[0]) != text {
		t.Fatalf("%+v", result)
	}
}

func TestASessionGoesOnAfterKill9WithoutANewInitialize(t *testing.T) {
	dataDir := t.TempDir()
	hub := hubtest.StartHub(t, hubtest.Options{Config: hubtest.DemoConfig, DataDir: dataDir})
	c := newClient(t, hub.URL())
	tools, err := c.ListTools(t.Context(), mcp.ListToolsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, tool := range tools.Tools {
		names = append(names, tool.Name)
	}
	for _, want := range []string{"demo__echo", "demo__time", "demo__slow", "demo__fail"} {
		if !slices.Contains(names, want) {
			t.Errorf("no tool %s in %v", want, names)
		}
	}
	echo(t, c, "before")

	id := hub.AwaitSession()
	record, err := os.ReadFile(filepath.Join(dataDir, "sessions", id+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(record, &fields); err != nil {
		t.Fatal(err)
	}
	if fields["sessionId"] != id || fields["clientName"] != "e2e" || fields["clientVersion"] != "1.2.3" ||
		fields["protocolVersion"] != "2025-11-25" {
		t.Errorf("stored record: %s", record)
	}

	hub.Kill()
	hub = hub.Restart()
	echo(t, c, "after")
	if created := hub.Metric(`mcphub_sessions_created_total{kind="protocol",transport="streamable_http"}`); created != "0" {
		t.Errorf("%s sessions were created after the restart", created)
	}
	if active := hub.Metric(`mcphub_sessions_active{kind="protocol",transport="streamable_http"}`); active != "1" {
		t.Errorf("%s sessions are active after the restart", active)
	}

	if status := hub.Terminate(15 * time.Second); status != 0 {
		t.Errorf("exit status %d after SIGTERM", status)
	}
	hub.Restart()
	echo(t, c, "after SIGTERM")
}

func TestAnHTTPServersSessionGoesOnAfterKill9(t *testing.T) {
	url := peers.Everything(t)
	dataDir := t.TempDir()
	hub := hubtest.StartHub(t, hubtest.Options{Config: peers.BareConfig(url), DataDir: dataDir})
	c := newClient(t, hub.URL())
	call := func() {
		t.Helper()
		var call mcp.CallToolRequest
		call.Params.Name = "test_simple_text"
		if _, err := c.CallTool(t.Context(), call); err != nil {
			t.Fatal(err)
		}
	}
	call()
	record := func() string {
		t.Helper()
		data, err := os.ReadFile(filepath.Join(dataDir, "sessions", hub.AwaitSession()+".json"))
		if err != nil {
			t.Fatal(err)
		}
		var r struct {
			Upstreams map[string]struct{ SessionID string }
		}
		if err := json.Unmarshal(data, &r); err != nil || r.Upstreams["everything"].SessionID == "" {
			t.Fatalf("the server's session is not stored: %s %v", data, err)
		}
		return r.Upstreams["everything"].SessionID
	}
	before := record()
	hub.Kill()
	hub.Restart()
	call()
	if after := record(); after != before {
		t.Errorf("the server's session was %s and is %s", before, after)
	}
}
