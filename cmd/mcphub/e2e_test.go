package main

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
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
	if fields["sessionId"] != id || fields["clientName"] != "e2e" || fields["clientVersion"] != "1.2.3" || fields["protocolVersion"] != "2025-11-25" {
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

func TestTheVerifierIsNowhereButInTheHeader(t *testing.T) {
	dataDir := t.TempDir()
	hub := hubtest.StartHub(t, hubtest.Options{Config: hubtest.DemoConfig, DataDir: dataDir, LogLevel: "trace"})
	c := hubtest.Connect(t, hub.URL())
	c.Request("tools/call", `{"name":"demo__echo","arguments":{"text":"x"}}`)
	id, verifier, ok := strings.Cut(c.Token, ".")
	if !ok || len(verifier) < 26 {
		t.Fatalf("token %q is not split", c.Token)
	}
	hub.AwaitSession()
	seen := map[string]string{}
	for _, path := range []string{"metrics", "api/v1/sessions", "api/v1/sessions/" + id, "api/v1/upstreams", "", "debug/pprof/goroutine?debug=2"} {
		_, seen[path] = hubtest.Get(t, hub.AdminURL()+"/"+path)
	}
	_ = filepath.WalkDir(dataDir, func(path string, d os.DirEntry, _ error) error {
		if !d.IsDir() {
			b, _ := os.ReadFile(path)
			seen[path] = string(b)
		}
		return nil
	})
	hub.Terminate(15 * time.Second)
	seen["log"] = hub.Log.String()
	for where, text := range seen {
		if strings.Contains(text, verifier) {
			t.Errorf("the verifier is in %s", where)
		}
	}
	if !strings.Contains(seen["log"], id) {
		t.Error("the public id is not in the log")
	}
}

func TestASecondHubOnTheSameDirectoryIsRefusedInWords(t *testing.T) {
	dataDir := t.TempDir()
	hub := hubtest.StartHub(t, hubtest.Options{Config: hubtest.DemoConfig, DataDir: dataDir})
	second := hubtest.StartProcess(t, hubtest.HubProgram(t), "serve", "--listen", hubtest.FreeAddress(t), "--admin-listen", hubtest.FreeAddress(t), "--data-dir", dataDir)
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
	for _, args := range [][]string{{"serve", "--config", file, "--data-dir", filepath.Join(dir, "data")}, {"config", "check", "--config", file}} {
		p := hubtest.StartProcess(t, hubtest.HubProgram(t), args...)
		if status := p.Wait(); status != 2 || !strings.Contains(p.Log.String(), file+":3:") {
			t.Errorf("%v: exit status %d, %s", args, status, p.Log)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "data")); !os.IsNotExist(err) {
		t.Errorf("the data directory was made: %v", err)
	}
	for _, args := range [][]string{{"serve", "--no-such-flag"}, {"serve", "--log-level", "loud"}, {"serve", "--banner", "big"}, {"nonsense"}} {
		p := hubtest.StartProcess(t, hubtest.HubProgram(t), args...)
		if status := p.Wait(); status == 0 {
			t.Errorf("%v was accepted", args)
		}
	}
}

func TestADeadServerIsVisibleAndItsCallsFailAtOnce(t *testing.T) {
	hub := hubtest.StartHub(t, hubtest.Options{Config: `mcpServers:
  demo: {command: mcphub, args: [demo-server]}
  absent: {command: ./no-such-program}
  refused: {url: "http://127.0.0.1:9/mcp"}
`})
	hubtest.Eventually(t, "the servers are tried", func() bool {
		_, body := hub.Get("/api/v1/upstreams")
		return strings.Count(body, `"state": "down"`) == 2 && strings.Count(body, `"state": "up"`) == 1
	})
	if status, body := hub.Get("/readyz"); status != http.StatusOK || !strings.Contains(body, "absent") {
		t.Errorf("/readyz: %d %s", status, body)
	}
	for name, want := range map[string]string{"demo": "1", "absent": "0", "refused": "0"} {
		if got := hub.Metric(`mcphub_backend_up{mcphub_backend="` + name + `"}`); got != want {
			t.Errorf("mcphub_backend_up of %s is %q", name, got)
		}
	}
	c := hubtest.Connect(t, hub.URL())
	if a := c.Request("tools/call", `{"name":"demo__echo","arguments":{"text":"x"}}`); a.Result == nil {
		t.Errorf("the healthy server suffers: %s", a.Error)
	}
}

func TestAServerThatDiesMidCallIsNamedAndComesBack(t *testing.T) {
	hub := hubtest.StartHub(t, hubtest.Options{Config: hubtest.DemoConfig})
	c := hubtest.Connect(t, hub.URL())
	answered := make(chan hubtest.Answer, 1)
	go func() { answered <- c.Request("tools/call", `{"name":"demo__slow","arguments":{"seconds":60}}`) }()
	hubtest.Eventually(t, "the call is under way", func() bool {
		return hub.Metric(`mcphub_requests_in_flight{direction="out",hop="backend"}`) == "1"
	})
	children := childrenOf(t, hub.PID())
	if len(children) != 1 {
		t.Fatalf("children: %v", children)
	}
	_ = syscall.Kill(children[0], syscall.SIGKILL)
	select {
	case a := <-answered:
		if !strings.Contains(string(a.Error), `demo`) {
			t.Errorf("the error does not name the server: %s", a.Error)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("the call hangs")
	}
	hubtest.Eventually(t, "the server is back", func() bool {
		a := c.Request("tools/call", `{"name":"demo__echo","arguments":{"text":"x"}}`)
		return a.Result != nil
	})
	if n := hub.Metric(`mcphub_backend_restarts_total{mcphub_backend="demo",reason="exited"}`); n != "1" {
		t.Errorf("%s restarts", n)
	}
	if now := childrenOf(t, hub.PID()); len(now) != 1 || now[0] == children[0] {
		t.Errorf("children: %v, before: %v", now, children)
	}
}

// childrenOf lists the child processes of pid, zombies included.
func childrenOf(t *testing.T, pid int) []int {
	t.Helper()
	out, err := exec.Command("ps", "-o", "pid=", "--ppid", strconv.Itoa(pid)).Output()
	if err != nil && len(out) > 0 {
		t.Fatal(err)
	}
	var pids []int
	for field := range strings.FieldsSeq(string(out)) {
		n, err := strconv.Atoi(field)
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, n)
	}
	return pids
}

func TestNoChildIsLeftBehind(t *testing.T) {
	for name, end := range map[string]func(*hubtest.Hub){
		"SIGTERM": func(h *hubtest.Hub) { h.Terminate(15 * time.Second) },
		"kill -9": func(h *hubtest.Hub) { h.Kill() },
	} {
		t.Run(name, func(t *testing.T) {
			hub := hubtest.StartHub(t, hubtest.Options{Config: hubtest.DemoConfig})
			hubtest.Eventually(t, "the server runs", func() bool { return len(childrenOf(t, hub.PID())) == 1 })
			child := childrenOf(t, hub.PID())[0]
			end(hub)
			hubtest.Eventually(t, "the child is gone", func() bool { return syscall.Kill(child, 0) != nil })
		})
	}
}

func TestShutdownEndsInTimeWithAHungCallAndAReaderThatNeverReads(t *testing.T) {
	dataDir := t.TempDir()
	hub := hubtest.StartHub(t, hubtest.Options{Config: hubtest.DemoConfig, DataDir: dataDir})
	c := hubtest.Connect(t, hub.URL())
	answered := make(chan hubtest.Answer, 1)
	go func() {
		answered <- c.Request("tools/call", `{"name":"demo__slow","arguments":{"seconds":600,"steps":1}}`)
	}()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stream, err := c.Do(ctx, http.MethodGet, "")
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Body.Close()
	hubtest.Eventually(t, "the call is under way", func() bool {
		return hub.Metric(`mcphub_requests_in_flight{direction="out",hop="backend"}`) == "1"
	})
	if status := hub.Terminate(12 * time.Second); status != 0 {
		t.Errorf("exit status %d\n%s", status, hub.Log)
	}
	if a := <-answered; !strings.Contains(string(a.Error), "not known") {
		t.Errorf("the call was answered with %s %s", a.Result, a.Error)
	}
	if _, err := io.Copy(io.Discard, stream.Body); err != nil {
		t.Logf("the stream ended with %v", err)
	}
	hub = hub.Restart()
	if a := c.Request("ping", "{}"); string(a.Result) != "{}" {
		t.Errorf("the session did not survive: %s", a.Error)
	}
}

func TestSomebodyElsesServerAnswersThroughTheHubByteForByte(t *testing.T) {
	url := peers.Everything(t)
	hub := hubtest.StartHub(t, hubtest.Options{Config: peers.BareConfig(url)})
	direct, through := hubtest.Connect(t, url), hubtest.Connect(t, hub.URL())
	requests := [][2]string{
		{"tools/list", `{}`}, {"prompts/list", `{}`}, {"resources/list", `{}`}, {"resources/templates/list", `{}`},
		{"resources/read", `{"uri":"test://static-text"}`}, {"resources/read", `{"uri":"test://static-binary"}`},
		{"resources/read", `{"uri":"test://template/123/data"}`}, {"resources/read", `{"uri":"test://nothing-here"}`},
		{"resources/subscribe", `{"uri":"test://watched-resource"}`}, {"resources/unsubscribe", `{"uri":"test://watched-resource"}`},
		{"prompts/get", `{"name":"test_simple_prompt"}`},
		{"prompts/get", `{"name":"test_prompt_with_arguments","arguments":{"arg1":"a","arg2":"b"}}`},
		{"prompts/get", `{"name":"test_prompt_with_embedded_resource","arguments":{"resourceUri":"test://x"}}`},
		{"prompts/get", `{"name":"test_prompt_with_image"}`}, {"prompts/get", `{"name":"no such prompt"}`},
		{"completion/complete", `{"ref":{"type":"ref/prompt","name":"test_prompt_with_arguments"},"argument":{"name":"arg1","value":"a"}}`},
		{"tools/call", `{"name":"no such tool","arguments":{}}`}, {"tools/call", `{}`},
		{"tools/list", `{"cursor":"junk"}`}, {"logging/setLevel", `{"level":"debug"}`},
	}
	// Every tool there is, but those that ask the client, which this one cannot answer.
	var list struct {
		Tools []struct {
			Name        string
			InputSchema struct{ Required []string }
		}
	}
	if err := json.Unmarshal(direct.Request("tools/list", "{}").Result, &list); err != nil || len(list.Tools) < 10 {
		t.Fatalf("%d tools, %v", len(list.Tools), err)
	}
	for _, tool := range list.Tools {
		if tool.Name == "test_reconnection" { // ends its stream without an answer, and this server gives no event ids to resume by
			continue
		}
		if strings.Contains(tool.Name, "sampling") || strings.Contains(tool.Name, "elicitation") || strings.Contains(tool.Name, "input_required") {
			continue
		}
		requests = append(requests, [2]string{"tools/call", `{"name":"` + tool.Name + `","arguments":{},"_meta":{"progressToken":"t"}}`})
	}
	for _, r := range requests {
		want, got := direct.Request(r[0], r[1]), through.Request(r[0], r[1])
		if strings.Contains(r[1], `"test_tool_with_progress"`) {
			continue // answers with the progress token it got, which is the hub's own; its notifications are compared below
		}
		if string(want.Result) != string(got.Result) || string(want.Error) != string(got.Error) {
			t.Errorf("%s %s\n direct: %s %s\n hub:    %s %s", r[0], r[1], want.Result, want.Error, got.Result, got.Error)
		}
	}
	if len(direct.Notifications) == 0 || !slices.Equal(direct.Notifications, through.Notifications) {
		t.Errorf("notifications\n direct: %q\n hub:    %q", direct.Notifications, through.Notifications)
	}
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
