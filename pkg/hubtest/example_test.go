package hubtest_test

import (
	"strings"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
)

// This is how the author of an MCP server tests it behind a hub. The server is
// in this test a scripted one.
func TestAServerIsCalledThroughAHub(t *testing.T) {
	server := greeter()
	url := hubtest.Serve(t, server)
	hub := hubtest.StartHub(t, hubtest.Options{Config: `mcpServers: {web: {url: "` + url + `"}}`})

	legacy := hubtest.Connect(t, hub.URL())
	answer := legacy.Request("tools/call", `{"name":"web__greet","arguments":{"name":"Ada"},"_meta":{"progressToken":"p"}}`)
	if want := `{"content":[{"type":"text","text":"Hello, Ada!"}]}`; string(answer.Result) != want {
		t.Errorf("the result is %s %s", answer.Result, answer.Error)
	}
	if len(legacy.Notifications) != 1 || !strings.Contains(legacy.Notifications[0], `"progressToken":"p"`) {
		t.Errorf("the notifications are %q", legacy.Notifications)
	}

	modern := hubtest.NewModernClient(t, hub.URL(), "modern")
	answer = modern.Request("tools/call", "web__greet", `"name":"web__greet","arguments":{"name":"Bob"}`)
	if !strings.Contains(string(answer.Result), "Hello, Bob!") {
		t.Errorf("the result is %s %s", answer.Result, answer.Error)
	}

	if n := len(server.Received("tools/call")); n != 2 {
		t.Errorf("the server got %d calls", n)
	}
	const calls = `mcphub_messages_total{direction="out",hop="downstream",kind="response"}`
	if n := hub.Metric(calls); n == "" || n == "0" {
		t.Errorf("the hub counted %q responses", n)
	}
}
