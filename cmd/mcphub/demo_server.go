package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
	_ "time/tzdata" // the tool time finds its zones in an image without files, too

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"
)

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

// demoStyles are the completions of the argument style. The prompt takes other
// styles, too.
var demoStyles = []string{"formal", "friendly", "pirate"}

// newDemoServer returns the MCP server without a transport.
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
		server.WithInputSchemaValidation(), // the handlers below rely on it
		server.WithToolHandlerMiddleware(logDemoCalls),
		server.WithRecovery(),
	)
	addDemoTools(s)
	addDemoResources(s)
	addDemoPrompts(s)
	return s
}

// addDemoTools adds the tools that demoAbout describes.
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
		mcp.WithInteger("steps", mcp.Min(1), mcp.Max(100), mcp.DefaultNumber(3),
			mcp.Description("In how many steps.")),
	), demoSlow)
	s.AddTool(demoTool("fail", "Fail", "Returns an error, always.",
		mcp.WithString("message", mcp.Description("What the error says.")),
	), func(_ context.Context, req mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		return mcp.NewToolResultError(req.GetString("message", "failed, as asked")), nil
	})
}

// demoTool returns a tool with the annotations that all tools of this server
// share: they change nothing.
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

func addDemoResources(s *server.MCPServer) {
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
}

func addDemoPrompts(s *server.MCPServer) {
	s.AddPrompt(mcp.NewPrompt("greet",
		mcp.WithPromptTitle("Greet someone"),
		mcp.WithPromptDescription("Asks for a greeting."),
		mcp.WithArgument("name", mcp.RequiredArgument(), mcp.ArgumentDescription("Whom to greet.")),
		mcp.WithArgument("style", mcp.ArgumentDescription("How: formal, friendly, pirate or your own. Default: friendly.")),
	), demoGreet)
}

type demoSum struct {
	Sum float64 `json:"sum" jsonschema:"a plus b"`
}

func demoAdd(_ context.Context, _ mcp.CallToolRequest, args struct{ A, B float64 }) (demoSum, error) {
	sum := args.A + args.B
	if math.IsInf(sum, 0) { // JSON has no infinity
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
	// If the queue of the session is full, the notification is lost, which MCP allows.
	_ = server.ServerFromContext(ctx).SendNotificationToClient(ctx, string(mcp.MethodNotificationProgress), map[string]any{
		"progressToken": req.Params.Meta.ProgressToken,
		"progress":      done,
		"total":         total,
		"message":       fmt.Sprintf("step %d of %d", done, total),
	})
}

// logDemoCalls sends a log message to the client after each tool call.
func logDemoCalls(next server.ToolHandlerFunc) server.ToolHandlerFunc {
	return func(ctx context.Context, req mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		start := time.Now()
		result, err := next(ctx, req)
		level := mcp.LoggingLevelInfo
		if err != nil || result.IsError {
			level = mcp.LoggingLevelWarning
		}
		// If the queue is full, or the client has not initialized yet, the message is lost.
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

// demoCompletion completes the argument style of the prompt greet.
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
