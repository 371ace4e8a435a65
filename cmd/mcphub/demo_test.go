package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mark3labs/mcp-go/client"
	"github.com/mark3labs/mcp-go/client/transport"
	"github.com/mark3labs/mcp-go/mcp"
)

// Every test that runs in a synctest bubble also checks that the server leaves
// no goroutine behind: the bubble does not end before they do.

func TestDemoOffersItsToolsResourcesAndPromptInBothEras(t *testing.T) {
	for _, revision := range []string{"2025-11-25", "2026-07-28"} {
		t.Run(revision, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { demoTour(t, revision) }) })
	}
}

func demoTour(t *testing.T, revision string) {
	c := demoClient(t, revision)
	ctx := t.Context()

	tools := demoMust(c.ListTools(ctx, mcp.ListToolsRequest{}))(t).Tools
	var names []string
	for _, tool := range tools {
		names = append(names, tool.Name)
		if tool.Description == "" || tool.Title == "" || !*tool.Annotations.ReadOnlyHint || *tool.Annotations.DestructiveHint ||
			*tool.Annotations.OpenWorldHint {
			t.Errorf("%s is not described: %+v", tool.Name, tool)
		}
		if (tool.OutputSchema.Type == "object") != (tool.Name == "add") {
			t.Errorf("%s has the output schema %+v", tool.Name, tool.OutputSchema)
		}
	}
	if want := []string{"add", "echo", "fail", "slow", "time"}; !slices.Equal(names, want) {
		t.Errorf("tools are %q, want %q", names, want)
	}

	if got := demoCall(t, c, "echo", map[string]any{"text": "a < b\n☃"}); got != "a < b\n☃" {
		t.Errorf("echo: %q", got)
	}
	if got := demoCall(t, c, "time", nil); got != time.Now().UTC().Format(time.RFC3339) {
		t.Errorf("time: %q", got)
	}
	if got := demoCall(t, c, "time", map[string]any{"zone": "Asia/Kathmandu"}); !strings.HasSuffix(got, "+05:45") {
		t.Errorf("time in Kathmandu: %q", got)
	}
	if got := demoCall(t, c, "add", map[string]any{"a": 1.5, "b": 2}); got != `{"sum":3.5}` {
		t.Errorf("add: %s", got)
	}
	start := time.Now()
	if got := demoCall(t, c, "slow", nil); got != "done: 3 steps in 3 seconds" || time.Since(start) != 3*time.Second {
		t.Errorf("slow: %q after %s", got, time.Since(start))
	}
	if got := demoCall(t, c, "fail", map[string]any{"message": "no"}); got != "error: no" {
		t.Errorf("fail: %q", got)
	}

	about := demoMust(c.ListResources(ctx, mcp.ListResourcesRequest{}))(t).Resources
	if len(about) != 1 || about[0].URI != "demo://about" || about[0].MIMEType != "text/markdown" {
		t.Errorf("resources are %+v", about)
	}
	if text := demoRead(t, c, "demo://about"); !strings.HasPrefix(text, "# The demo server") {
		t.Errorf("demo://about is %q", text)
	}
	templates := demoMust(c.ListResourceTemplates(ctx, mcp.ListResourceTemplatesRequest{}))(t).ResourceTemplates
	if len(templates) != 1 || templates[0].URITemplate.Raw() != "demo://greeting/{name}" {
		t.Errorf("templates are %+v", templates)
	}
	if text := demoRead(t, c, "demo://greeting/Ada%20Lovelace"); text != "Hello, Ada Lovelace!" {
		t.Errorf("the greeting is %q", text)
	}

	prompts := demoMust(c.ListPrompts(ctx, mcp.ListPromptsRequest{}))(t).Prompts
	if len(prompts) != 1 || prompts[0].Name != "greet" || len(prompts[0].Arguments) != 2 {
		t.Errorf("prompts are %+v", prompts)
	}
	var greet mcp.GetPromptRequest
	greet.Params.Name, greet.Params.Arguments = "greet", map[string]string{"name": "Ada", "style": "pirate"}
	message := demoMust(c.GetPrompt(ctx, greet))(t).Messages[0].Content.(mcp.TextContent).Text
	if message != "Greet Ada in one sentence. Style: pirate." {
		t.Errorf("the prompt is %q", message)
	}

	var complete mcp.CompleteRequest
	complete.Params.Ref = mcp.PromptReference{Type: "ref/prompt", Name: "greet"}
	complete.Params.Argument = mcp.CompleteArgument{Name: "style", Value: "F"}
	styles := demoMust(c.Complete(ctx, complete))(t).Completion.Values
	if !slices.Equal(styles, []string{"formal", "friendly"}) {
		t.Errorf("F completes to %q", styles)
	}
}

func TestDemoToolsAnswerBadArgumentsWithAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := demoClient(t, "2025-11-25")
		for _, call := range []struct {
			tool string
			args map[string]any
		}{
			{"echo", nil},
			{"echo", map[string]any{"text": 7}},
			{"time", map[string]any{"zone": "Europe/Atlantis"}},
			{"time", map[string]any{"zone": "../../etc/passwd"}},
			{"add", map[string]any{"a": 1}},
			{"add", map[string]any{"a": 1e308, "b": 1e308}},
			{"slow", map[string]any{"seconds": 601}},
			{"slow", map[string]any{"seconds": -1}},
			{"slow", map[string]any{"steps": 0}},
			{"slow", map[string]any{"steps": 101}},
			{"fail", nil},
		} {
			if got := demoCall(t, c, call.tool, call.args); !strings.HasPrefix(got, "error: ") {
				t.Errorf("%s %v: %q", call.tool, call.args, got)
			}
		}
	})
}

func TestDemoReportsEachStepBeforeTheAnswerToWhoAsksForIt(t *testing.T) {
	// Not in a bubble, whose clock would stand still until each line is written.
	d := startDemo(t)
	for id := range 20 {
		d.send(
			fmt.Sprintf(
				`{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":"slow","arguments":{"seconds":0,"steps":100},`+
					`"_meta":{"progressToken":"p"}}}`,
				id,
			),
		)
		for step := 1; step <= 100; step++ {
			want := fmt.Sprintf(
				`{"jsonrpc":"2.0","method":"notifications/progress","params":{"message":"step %d of 100","progress":%[1]d,`+
					`"progressToken":"p","total":100}}`,
				step,
			)
			if got := d.line(); got != want {
				t.Fatalf("got  %s\nwant %s", got, want)
			}
		}
		d.answer(id)
	}
	d.send(`{"jsonrpc":"2.0","id":"silent","method":"tools/call","params":{"name":"slow","arguments":{"seconds":0},"_meta":{"other":1}}}`)
	d.answer("silent")
}

func TestDemoAnswersWhileManySlowCallsRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := startDemo(t)
		start := time.Now()
		for id := range 200 {
			d.send(fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":"slow","arguments":{"seconds":600}}}`, id))
		}
		d.send(`{"jsonrpc":"2.0","id":"quick","method":"tools/call","params":{"name":"echo","arguments":{"text":"here"}}}`)
		d.answer("quick")
		d.send(`{"jsonrpc":"2.0","id":"list","method":"tools/list"}`)
		d.answer("list")
		if waited := time.Since(start); waited > 0 {
			t.Errorf("waited %s", waited)
		}
	})
}

func TestDemoStopsACancelledCallAndDoesNotAnswerIt(t *testing.T) {
	const (
		call = `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"slow","arguments":{"seconds":600,"steps":100}` +
			`,"_meta":{"progressToken":7}}}`
		other  = `{"jsonrpc":"2.0","id":"7","method":"tools/call","params":{"name":"slow","arguments":{"seconds":30}}}`
		cancel = `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7,"reason":"changed my mind"}}`
	)
	for name, wait := range map[string]bool{"while it runs": true, "straight after it was sent": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := startDemo(t)
				d.send(`{"jsonrpc":"2.0","id":1,"method":"logging/setLevel","params":{"level":"info"}}`)
				d.answer(1)
				d.send(other)
				d.send(call)
				if wait {
					if got := d.line(); !strings.Contains(got, `"step 1 of 100"`) {
						t.Fatalf("got %s, want progress", got)
					}
				}
				start := time.Now()
				d.send(cancel)
				if got := d.line(); !strings.Contains(got, `"level":"warning"`) || !strings.Contains(got, `"tool":"slow"`) {
					t.Fatalf("got %s, want the log message of the stopped call", got)
				}
				if took := time.Since(start); took > 0 {
					t.Errorf("it ran on for %s", took)
				}
				// The next lines are of the call with the same id as a string,
				// which is another id.
				if got := d.line(); !strings.Contains(got, `"level":"info"`) {
					t.Errorf("got %s, want the log message of the other call", got)
				}
				d.answer("7")
				d.send(`{"jsonrpc":"2.0","id":2,"method":"ping"}`)
				d.answer(2)
			})
		})
	}
}

func TestDemoStopsACallWhoseCallerGaveUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := demoClient(t, "2025-11-25")
		stopped := make(chan struct{}, 1)
		c.OnNotification(func(n mcp.JSONRPCNotification) {
			if n.Method == string(mcp.MethodNotificationMessage) {
				stopped <- struct{}{}
			}
		})
		var level mcp.SetLevelRequest
		level.Params.Level = mcp.LoggingLevelInfo
		if err := c.SetLevel(t.Context(), level); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		var call mcp.CallToolRequest
		call.Params.Name, call.Params.Arguments = "slow", map[string]any{"seconds": 600}
		if _, err := c.CallTool(ctx, call); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the call ended with %v", err)
		}
		<-stopped
		if took := time.Since(start); took != 5*time.Second {
			t.Errorf("it ran for %s", took)
		}
	})
}

func TestDemoAnswersWhatWasPipedInAndCutsShortWhatIsSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := strings.Join([]string{
			`{"jsonrpc":"2.0","id":1,"method":"tools/list"}`,
			``,
			`this is not JSON`,
			`{"jsonrpc":"2.0","id":null,"method":"tools/call","params":{"name":"echo","arguments":{"text":"nobody"}}}`,
			`{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"slow","arguments":{"seconds":600}}}`,
			`{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"echo","arguments":{"text":"last, without a newline"}}}`,
		}, "\n")
		var out bytes.Buffer
		cmd := newDemoCommand("1.2.3")
		cmd.SetArgs(nil)
		cmd.SetIn(strings.NewReader(in))
		cmd.SetOut(&out)
		start := time.Now()
		if err := cmd.ExecuteContext(t.Context()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took > 0 {
			t.Errorf("ended after %s", took)
		}
		for _, want := range []string{`"id":1,"result"`, `"id":null,"error":{"code":-32700`, `cancelled after 0 of 3 steps`,
			`last, without a newline`} {
			if strings.Count(out.String(), want) != 1 {
				t.Errorf("%q is not in the answers once:\n%s", want, out.String())
			}
		}
		if lines := strings.Count(out.String(), "\n"); lines != 4 {
			t.Errorf("%d lines, want 4:\n%s", lines, out.String())
		}
	})
}

func TestDemoEndsWhenItsContextEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		d := startDemoContext(ctx, t)
		d.send(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"slow","arguments":{"seconds":600}}}`)
		synctest.Wait()
		start := time.Now()
		cancel()
		d.answer(1)
		if err := <-d.ended; err != nil || time.Since(start) > 0 {
			t.Errorf("ended with %v after %s", err, time.Since(start))
		}
	})
}

func TestDemoEndsWithinASecondWhenNobodyReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		d := startDemoContext(ctx, t)
		for id := range 3 {
			d.send(fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"ping"}`, id))
			synctest.Wait()
		}
		start := time.Now()
		cancel()
		if err := <-d.ended; err != nil || time.Since(start) > time.Second {
			t.Errorf("ended with %v after %s", err, time.Since(start))
		}
	})
}

func TestDemoSaysThatItCannotWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := startDemo(t)
		if err := d.out.Close(); err != nil {
			t.Fatal(err)
		}
		d.send(`{"jsonrpc":"2.0","id":1,"method":"ping"}`)
		if err := <-d.ended; !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("ended with %v", err)
		}
	})
}

// demoPipe is a demo server seen from the other end of its streams.
type demoPipe struct {
	t     *testing.T
	in    *io.PipeWriter
	out   *io.PipeReader
	lines *bufio.Scanner
	ended chan error // what runDemo returned; then closed
}

// startDemo starts a demo server and initializes it. It ends with the test.
func startDemo(t *testing.T) *demoPipe { return startDemoContext(t.Context(), t) }

func startDemoContext(ctx context.Context, t *testing.T) *demoPipe {
	d := openDemo(ctx, t)
	d.lines = bufio.NewScanner(d.out)
	d.send(
		`{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},` +
			`"clientInfo":{"name":"test","version":"1"}}}`,
	)
	d.answer(0)
	d.send(`{"jsonrpc":"2.0","method":"notifications/initialized"}`)
	return d
}

func openDemo(ctx context.Context, t *testing.T) *demoPipe {
	in, toServer := io.Pipe()
	fromServer, out := io.Pipe()
	d := &demoPipe{t: t, in: toServer, out: fromServer, ended: make(chan error, 1)}
	go func() {
		d.ended <- runDemo(ctx, in, out, "1.2.3")
		close(d.ended)
		out.Close()
	}()
	t.Cleanup(func() {
		toServer.Close()
		fromServer.Close()
		<-d.ended
	})
	return d
}

func (d *demoPipe) send(line string) {
	d.t.Helper()
	if _, err := io.WriteString(d.in, line+"\n"); err != nil {
		d.t.Fatal(err)
	}
}

func (d *demoPipe) line() string {
	d.t.Helper()
	if !d.lines.Scan() {
		d.t.Fatalf("the server sent no more: %v", d.lines.Err())
	}
	return d.lines.Text()
}

// answer checks that the next line is the answer to the request id.
func (d *demoPipe) answer(id any) {
	d.t.Helper()
	line := d.line()
	quoted, _ := json.Marshal(id)
	if !strings.HasPrefix(line, fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":`, quoted)) {
		d.t.Fatalf("got %s, want the answer to %s", line, quoted)
	}
}

// demoClient is mcp-go's client, connected to a demo server of its own, which
// ends when the client closes its stdin.
func demoClient(t *testing.T, revision string) *client.Client {
	d := openDemo(context.Background(), t)
	c := client.NewClient(
		transport.NewIO(d.out, d.in, io.NopCloser(strings.NewReader(""))),
		client.WithProtocolVersion(revision),
	)
	if err := c.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if err := <-d.ended; err != nil {
			t.Errorf("the server ended with %v after its stdin was closed", err)
		}
	})
	var hello mcp.InitializeRequest
	hello.Params.ProtocolVersion = revision
	hello.Params.ClientInfo = mcp.Implementation{Name: "test", Version: "1"}
	got := demoMust(c.Initialize(t.Context(), hello))(t)
	if got.ProtocolVersion != revision || got.ServerInfo.Version != "1.2.3" || got.Capabilities.Logging == nil ||
		got.Capabilities.Completions == nil {
		t.Errorf("the server introduced itself as %+v", got)
	}
	return c
}

// demoCall is the text of a tool's result, after "error: " if it is one.
func demoCall(t *testing.T, c *client.Client, tool string, args map[string]any) string {
	t.Helper()
	var call mcp.CallToolRequest
	call.Params.Name, call.Params.Arguments = tool, args
	result := demoMust(c.CallTool(t.Context(), call))(t)
	text := result.Content[0].(mcp.TextContent).Text
	if result.IsError {
		return "error: " + text
	}
	if tool == "add" {
		if sum, _ := json.Marshal(result.StructuredContent); string(sum) != text {
			t.Errorf("the text is %s, the structured content is %s", text, sum)
		}
	}
	return text
}

func demoRead(t *testing.T, c *client.Client, uri string) string {
	t.Helper()
	var read mcp.ReadResourceRequest
	read.Params.URI = uri
	return demoMust(c.ReadResource(t.Context(), read))(t).Contents[0].(mcp.TextResourceContents).Text
}

func demoMust[T any](v T, err error) func(t *testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}
