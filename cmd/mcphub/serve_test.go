package main

import (
	"context"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
)

func TestASecondHubOnTheSameDirectoryIsRefusedInWords(t *testing.T) {
	dataDir := t.TempDir()
	hub := hubtest.StartHub(t, hubtest.Options{Config: hubtest.DemoConfig, DataDir: dataDir})
	second := hubtest.StartProcess(t, hubtest.HubProgram(t), "serve", "--listen", hubtest.FreeAddress(t),
		"--admin-listen", hubtest.FreeAddress(t), "--data-dir", dataDir)
	if status := second.Wait(); status != 1 || !strings.Contains(second.Log.String(), strconv.Itoa(hub.PID())) {
		t.Errorf("exit status %d, log does not name the other process: %s", status, second.Log)
	}
	c := hubtest.Connect(t, hub.URL())
	if a := c.Request("ping", "{}"); string(a.Result) != "{}" {
		t.Errorf("the first hub does not answer: %s", a.Error)
	}
}

func TestABadConfigurationIsRefusedWithFileAndLineAndNothingIsWritten(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "bad.yaml")
	if err := os.WriteFile(file, []byte("naming: prefix\nsessions:\n  idleTimeout: soon\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"serve", "--config", file, "--data-dir", filepath.Join(dir, "data")},
		{"config", "check", "--config", file}} {
		p := hubtest.StartProcess(t, hubtest.HubProgram(t), args...)
		if status := p.Wait(); status != 2 || !strings.Contains(p.Log.String(), file+":3:") {
			t.Errorf("%v: exit status %d, %s", args, status, p.Log)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "data")); !os.IsNotExist(err) {
		t.Errorf("the data directory was made: %v", err)
	}
	for _, args := range [][]string{{"serve", "--no-such-flag"}, {"serve", "--log-level", "loud"},
		{"serve", "--banner", "big"}, {"nonsense"}} {
		p := hubtest.StartProcess(t, hubtest.HubProgram(t), args...)
		if status := p.Wait(); status == 0 {
			t.Errorf("%v was accepted", args)
		}
	}
}

func TestAServerOfTheTransportBeforeIsReachedByItsType(t *testing.T) {
	s := server.NewMCPServer("old", "1.0")
	s.AddTool(mcp.NewTool("echo", mcp.WithString("text")), func(_ context.Context, r mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		return mcp.NewToolResultText(r.GetString("text", "")), nil
	})
	old := httptest.NewServer(server.NewSSEServer(s))
	t.Cleanup(old.Close)
	t.Cleanup(old.CloseClientConnections) // streams have no end of their own
	hub := hubtest.StartHub(t, hubtest.Options{Config: `mcpServers: {demo: {url: "` + old.URL + `/sse", type: sse}}`})
	a := hubtest.Connect(t, hub.URL()).Request("tools/call", `{"name":"demo__echo","arguments":{"text":"hello"}}`)
	if !strings.Contains(string(a.Result), `"text":"hello"`) {
		t.Errorf("the server answers %s %s", a.Result, a.Error)
	}
	if _, upstreams := hub.Get("/api/v1/upstreams"); !strings.Contains(upstreams, `"transport": "sse"`) {
		t.Errorf("the upstreams are %s", upstreams)
	}
}
