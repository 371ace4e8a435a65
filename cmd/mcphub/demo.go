package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"sync"
	"time"
	_ "time/tzdata" // the time tool knows its zones in an image without any files, too

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

func newDemoCommand(version string) *cobra.Command {
	return &cobra.Command{
		Use:   "demo-server",
		Short: "Run a small MCP server on stdin and stdout, to try a hub with",
		Long: `demo-server is a small MCP server over stdio. It shows a tool, a resource, a
prompt, progress, cancellation, logging and an error of each kind, and needs
nothing: no account, no network, no files.

It answers on stdout and ends when stdin is closed.`,
		Example: `  # as an upstream, in the configuration file of the hub
  mcpServers:
    demo: {command: mcphub, args: [demo-server]}

  # by hand
  echo '{"jsonrpc":"2.0","id":1,"method":"tools/list"}' | mcphub demo-server`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if in, ok := cmd.InOrStdin().(*os.File); ok && term.IsTerminal(int(in.Fd())) {
				fmt.Fprintln(cmd.ErrOrStderr(), "Speaking MCP on stdin and stdout: one JSON-RPC message a line. Ctrl-D ends it.")
			}
			return runDemo(cmd.Context(), cmd.InOrStdin(), cmd.OutOrStdout(), version)
		},
	}
}

const demoAbout = `# The demo server of mcphub

A small MCP server to try a hub with. It keeps nothing and reaches nothing.

| tool    | what it is good for                                          |
|---------|--------------------------------------------------------------|
| ` + "`echo`" + `  | see that a call arrives, and what arrives                    |
| ` + "`time`" + `  | an optional argument; an error when the zone is unknown      |
| ` + "`add`" + `   | structured output with a schema                              |
| ` + "`slow`" + `  | a call that takes its time: progress, cancellation, time-out |
| ` + "`fail`" + `  | a tool that reports an error                                 |

The resource template ` + "`demo://greeting/{name}`" + ` and the prompt ` + "`greet`" + ` greet
someone; the argument ` + "`style`" + ` of the prompt can be completed. Every tool call
is logged, at level info, or warning when it failed.
`

// demoStyles are the styles the prompt's argument completes to; others are
// welcome.
var demoStyles = []string{"formal", "friendly", "pirate"}

func newDemoServer(version string) *server.MCPServer {
	s := server.NewMCPServer("mcphub-demo", version,
		server.WithTitle("mcphub demo server"),
		server.WithInstructions("A server to try a hub with. Read demo://about for what its tools show."),
		server.WithToolCapabilities(false),
		server.WithResourceCapabilities(false, false),
		server.WithPromptCapabilities(false),
		server.WithLogging(),
		server.WithCompletions(),
		server.WithPromptCompletionProvider(demoCompletion{}),
		server.WithInputSchemaValidation(), // so the handlers below see only what their schema allows
		server.WithToolHandlerMiddleware(logDemoCalls),
		server.WithRecovery(),
	)
	addDemoTools(s)

	s.AddResource(mcp.NewResource("demo://about", "about",
		mcp.WithResourceTitle("About this server"),
		mcp.WithResourceDescription("What the demo server offers, and what each part is good for."),
		mcp.WithMIMEType("text/markdown"),
	), func(_ context.Context, req mcp.ReadResourceRequest) ([]mcp.ResourceContents, error) {
		return []mcp.ResourceContents{mcp.TextResourceContents{
			URI: req.Params.URI, MIMEType: "text/markdown", Text: demoAbout,
		}}, nil
	})
	s.AddResourceTemplate(mcp.NewResourceTemplate("demo://greeting/{name}", "greeting",
		mcp.WithTemplateTitle("A greeting"),
		mcp.WithTemplateDescription("A greeting for the name in the URI."),
		mcp.WithTemplateMIMEType("text/plain"),
	), func(_ context.Context, req mcp.ReadResourceRequest) ([]mcp.ResourceContents, error) {
		name, _ := req.Params.Arguments["name"].([]string)
		return []mcp.ResourceContents{mcp.TextResourceContents{
			URI: req.Params.URI, MIMEType: "text/plain", Text: "Hello, " + strings.Join(name, ",") + "!",
		}}, nil
	})
	s.AddPrompt(mcp.NewPrompt("greet",
		mcp.WithPromptTitle("Greet someone"),
		mcp.WithPromptDescription("Asks for a greeting."),
		mcp.WithArgument("name", mcp.RequiredArgument(), mcp.ArgumentDescription("Whom to greet.")),
		mcp.WithArgument("style", mcp.ArgumentDescription("How: formal, friendly, pirate or your own. Default: friendly.")),
	), demoGreet)
	return s
}

func addDemoTools(s *server.MCPServer) {
	s.AddTool(demoTool("echo", "Echo", "Returns the text it is given.",
		mcp.WithString("text", mcp.Required(), mcp.Description("The text to return.")),
	), func(_ context.Context, req mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		return mcp.NewToolResultText(req.GetString("text", "")), nil
	})
	s.AddTool(demoTool("time", "Time", "Returns the current time as RFC 3339.",
		mcp.WithIdempotentHintAnnotation(false),
		mcp.WithString("zone", mcp.Description("An IANA time zone, such as Europe/Berlin. Default: UTC.")),
	), func(_ context.Context, req mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		zone, err := time.LoadLocation(req.GetString("zone", ""))
		if err != nil {
			return mcp.NewToolResultErrorFromErr("cannot tell the time", err), nil
		}
		return mcp.NewToolResultText(time.Now().In(zone).Format(time.RFC3339)), nil
	})
	s.AddTool(demoTool("add", "Add", "Returns the sum of two numbers, as structured content.",
		mcp.WithNumber("a", mcp.Required()),
		mcp.WithNumber("b", mcp.Required()),
		mcp.WithOutputSchema[demoSum](),
	), mcp.NewStructuredToolHandler(demoAdd))
	s.AddTool(demoTool("slow", "Take some time",
		"Takes its time, reports progress to a caller who asks for it, and stops when it is cancelled.",
		mcp.WithNumber("seconds", mcp.Min(0), mcp.Max(600), mcp.DefaultNumber(3), mcp.Description("How long it takes.")),
		mcp.WithInteger("steps", mcp.Min(1), mcp.Max(100), mcp.DefaultNumber(3), mcp.Description("In how many steps.")),
	), demoSlow)
	s.AddTool(demoTool("fail", "Fail", "Returns an error, always.",
		mcp.WithString("message", mcp.Description("What the error says.")),
	), func(_ context.Context, req mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		return mcp.NewToolResultError(req.GetString("message", "failed, as asked")), nil
	})
}

// demoTool is a tool that changes nothing anywhere, as all of them here.
func demoTool(name, title, description string, opts ...mcp.ToolOption) mcp.Tool {
	return mcp.NewTool(name, append([]mcp.ToolOption{
		mcp.WithToolTitle(title),
		mcp.WithDescription(description),
		mcp.WithReadOnlyHintAnnotation(true),
		mcp.WithDestructiveHintAnnotation(false),
		mcp.WithIdempotentHintAnnotation(true),
		mcp.WithOpenWorldHintAnnotation(false),
	}, opts...)...)
}

type demoSum struct {
	Sum float64 `json:"sum" jsonschema:"a plus b"`
}

func demoAdd(_ context.Context, _ mcp.CallToolRequest, args struct{ A, B float64 }) (demoSum, error) {
	sum := args.A + args.B
	if math.IsInf(sum, 0) { // has no JSON
		return demoSum{}, errors.New("the sum is too large")
	}
	return demoSum{sum}, nil
}

func demoSlow(ctx context.Context, req mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	seconds, steps := req.GetFloat("seconds", 3), req.GetInt("steps", 3)
	step := time.NewTicker(max(1, time.Duration(seconds*float64(time.Second))/time.Duration(steps)))
	defer step.Stop()
	for i := range steps {
		select {
		case <-step.C:
			reportDemoProgress(ctx, req, i+1, steps)
		case <-ctx.Done():
			return mcp.NewToolResultErrorf("cancelled after %d of %d steps", i, steps), nil
		}
	}
	return mcp.NewToolResultText(fmt.Sprintf("done: %d steps in %g seconds", steps, seconds)), nil
}

func reportDemoProgress(ctx context.Context, req mcp.CallToolRequest, done, total int) {
	if req.Params.Meta == nil || req.Params.Meta.ProgressToken == nil {
		return
	}
	// Progress that finds no room is lost, as the protocol allows.
	_ = server.ServerFromContext(ctx).SendNotificationToClient(ctx, string(mcp.MethodNotificationProgress), map[string]any{
		"progressToken": req.Params.Meta.ProgressToken,
		"progress":      done,
		"total":         total,
		"message":       fmt.Sprintf("step %d of %d", done, total),
	})
}

func logDemoCalls(next server.ToolHandlerFunc) server.ToolHandlerFunc {
	return func(ctx context.Context, req mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		start := time.Now()
		result, err := next(ctx, req)
		level := mcp.LoggingLevelInfo
		if err != nil || result.IsError {
			level = mcp.LoggingLevelWarning
		}
		// A message that finds no room, or no client yet, is lost.
		_ = server.ServerFromContext(ctx).SendLogMessageToClient(ctx, mcp.NewLoggingMessageNotification(level, "demo",
			map[string]any{"tool": req.Params.Name, "durationMs": time.Since(start).Milliseconds()}))
		return result, err
	}
}

func demoGreet(_ context.Context, req mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
	name, style := req.Params.Arguments["name"], req.Params.Arguments["style"]
	if name == "" {
		return nil, errors.New(`the prompt "greet" needs the argument "name"`)
	}
	if style == "" {
		style = "friendly"
	}
	return mcp.NewGetPromptResult("A "+style+" greeting for "+name, []mcp.PromptMessage{
		mcp.NewPromptMessage(mcp.RoleUser, mcp.NewTextContent(fmt.Sprintf("Greet %s in one sentence. Style: %s.", name, style))),
	}), nil
}

type demoCompletion struct{}

func (demoCompletion) CompletePromptArgument(
	_ context.Context, prompt string, arg mcp.CompleteArgument, _ mcp.CompleteContext,
) (*mcp.Completion, error) {
	found := &mcp.Completion{}
	if prompt != "greet" || arg.Name != "style" {
		return found, nil
	}
	for _, style := range demoStyles {
		if strings.HasPrefix(style, strings.ToLower(arg.Value)) {
			found.Values = append(found.Values, style)
		}
	}
	found.Total = len(found.Values)
	return found, nil
}

// runDemo serves one client, a JSON-RPC message a line, until in is closed or
// ctx ends. What was asked before in was closed is answered; a slow call is
// cut short.
func runDemo(ctx context.Context, in io.Reader, out io.Writer, version string) error {
	served := make(chan error, 1)
	go func() { served <- newDemoConn(version).serve(ctx, in, out) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-served:
		return err
	case <-time.After(time.Second): // nobody reads out
		return nil
	}
}

// demoConn is one client of a demo server, over a pair of streams.
//
// It is not mcp-go's StdioServer, because that one writes a call's answer
// ahead of its last progress, loses a cancellation that follows its call
// closely, and shares one session among all servers of a process.
type demoConn struct {
	server  *server.MCPServer
	session *server.InProcessSession // a queue of notifications and a log level
	answers chan mcp.JSONRPCMessage
	running sync.WaitGroup

	mu    sync.Mutex
	calls map[string]context.CancelFunc // still to be answered, by the JSON of their id
}

func newDemoConn(version string) *demoConn {
	return &demoConn{
		server:  newDemoServer(version),
		session: server.NewInProcessSession("stdio", nil),
		answers: make(chan mcp.JSONRPCMessage),
		calls:   make(map[string]context.CancelFunc),
	}
}

func (c *demoConn) serve(ctx context.Context, in io.Reader, out io.Writer) error {
	ctx, stop := context.WithCancel(c.server.WithContext(ctx, c.session))
	defer stop()
	if err := c.server.RegisterSession(ctx, c.session); err != nil {
		return err
	}
	defer c.server.UnregisterSession(ctx, c.session.SessionID())

	written := make(chan error, 1)
	go func() { written <- c.write(out, stop) }()
	err := c.read(ctx, in)
	stop()
	c.running.Wait()
	close(c.answers)
	return errors.Join(err, <-written)
}

// read handles each line of in until its end or that of ctx.
func (c *demoConn) read(ctx context.Context, in io.Reader) error {
	lines, ended := make(chan []byte), make(chan error, 1)
	go func() {
		for r := bufio.NewReader(in); ; {
			line, err := r.ReadBytes('\n')
			if len(bytes.TrimSpace(line)) > 0 {
				select {
				case lines <- line:
				case <-ctx.Done():
					return
				}
			}
			if err != nil {
				ended <- err
				return
			}
		}
	}()
	for {
		select {
		case line := <-lines:
			c.handle(ctx, line)
		case err := <-ended:
			if errors.Is(err, io.EOF) {
				return nil
			}
			return fmt.Errorf("read the client's messages: %w", err)
		case <-ctx.Done():
			return nil
		}
	}
}

// handle starts what may wait, and does the rest at once and in order: a tool
// call that follows initialize finds the session initialized.
func (c *demoConn) handle(ctx context.Context, line []byte) {
	var msg struct {
		ID     json.RawMessage `json:"id"`
		Method mcp.MCPMethod   `json:"method"`
		Params struct {
			RequestID json.RawMessage `json:"requestId"`
		} `json:"params"`
	}
	_ = json.Unmarshal(line, &msg) // HandleMessage says what is wrong with it
	switch {
	case msg.Method == mcp.MethodNotificationCancelled:
		if cancel, ok := c.take(msg.Params.RequestID); ok {
			cancel()
		}
	case msg.ID != nil && (msg.Method == mcp.MethodToolsCall || msg.Method == mcp.MethodSubscriptionsListen):
		c.start(ctx, msg.ID, line)
	default:
		if answer := c.server.HandleMessage(ctx, line); answer != nil {
			c.answers <- answer
		}
	}
}

func (c *demoConn) start(ctx context.Context, id json.RawMessage, line []byte) {
	ctx, cancel := context.WithCancel(ctx)
	c.mu.Lock()
	c.calls[string(id)] = cancel
	c.mu.Unlock()
	c.running.Go(func() {
		defer cancel()
		answer := c.server.HandleMessage(ctx, line)
		// A call that is no longer there was cancelled by the client, who expects
		// no answer; an id of null gets none either.
		if _, ok := c.take(id); ok && answer != nil {
			c.answers <- answer
		}
	})
}

// take removes a call from those to be answered.
func (c *demoConn) take(id json.RawMessage) (cancel context.CancelFunc, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	cancel, ok = c.calls[string(id)]
	delete(c.calls, string(id))
	return cancel, ok
}

// write writes answers until they are closed, each after the notifications
// that were queued before it. When out fails it calls stop and drops the rest,
// so that nobody waits for it.
func (c *demoConn) write(out io.Writer, stop func()) error {
	var failed error
	lines := json.NewEncoder(out)
	emit := func(message any) {
		if failed != nil {
			return
		}
		if err := lines.Encode(message); err != nil {
			failed = fmt.Errorf("write to the client: %w", err)
			stop()
		}
	}
	notifications := c.session.ClientNotifications()
	for {
		select {
		case n := <-notifications:
			emit(n)
		case answer, open := <-c.answers:
			for len(notifications) > 0 {
				emit(<-notifications)
			}
			if !open {
				return failed
			}
			emit(answer)
		}
	}
}
