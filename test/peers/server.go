package peers

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
)

// Server is a server of go-sdk whose tools do everything that a hub has to relay:
// progress, log messages, questions to the client, changes, failures.
type Server struct {
	*mcp.Server
	name string

	mu    sync.Mutex
	state map[string]string        // of the calls of the tool wait, by tag
	met   map[string]chan struct{} // closed when two calls of the tool meet are under way, by tag
}

// NewServer returns a server that speaks only the revisions, or all that go-sdk
// knows if there are none.
func NewServer(name string, revisions ...string) *Server {
	s := &Server{name: name, state: map[string]string{}, met: map[string]chan struct{}{}}
	nothing := func(context.Context, *mcp.SubscribeRequest) error { return nil }
	s.Server = mcp.NewServer(&mcp.Implementation{Name: name, Version: "1"}, &mcp.ServerOptions{
		SupportedProtocolVersions: revisions, CompletionHandler: complete,
		SubscribeHandler: nothing, UnsubscribeHandler: func(context.Context, *mcp.UnsubscribeRequest) error { return nil },
	})
	for tool, handler := range map[string]mcp.ToolHandler{
		"era": s.era, "progress": s.progress, "log": s.log, "wait": s.wait, "state": s.stateOf, "grow": s.grow, "touch": s.touch,
		"fail": fail, "refuse": refuseCall, "sample": sampling().ask, "elicit": eliciting().ask, "roots": rooting().ask, "meet": s.meet,
	} {
		s.AddTool(&mcp.Tool{Name: tool, InputSchema: map[string]any{"type": "object"}}, handler)
	}
	s.AddPrompt(&mcp.Prompt{Name: "greet", Arguments: []*mcp.PromptArgument{{Name: "who"}}},
		func(context.Context, *mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
			return &mcp.GetPromptResult{}, nil
		})
	read := func(_ context.Context, r *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
		return &mcp.ReadResourceResult{Contents: []*mcp.ResourceContents{{URI: r.Params.URI, Text: "text of " + r.Params.URI}}}, nil
	}
	s.AddResource(&mcp.Resource{Name: "a", URI: Resource(name, "a")}, read)
	s.AddResource(&mcp.Resource{Name: "b", URI: Resource(name, "b")}, read)
	s.AddResourceTemplate(&mcp.ResourceTemplate{Name: "item", URITemplate: Resource(name, "item/{who}")}, notFound)
	return s
}

// Resource returns the URI of a resource of the server with that name.
func Resource(server, path string) string { return "matrix://" + server + "/" + path }

// OverHTTP serves s over Streamable HTTP: modern without sessions, legacy with
// them.
func (s *Server) OverHTTP(t testing.TB, modern bool) (url string) {
	t.Helper()
	return hubtest.Serve(t, s.Handler(modern))
}

// Handler is OverHTTP for a listener of the caller.
func (s *Server) Handler(modern bool) http.Handler {
	return mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s.Server },
		&mcp.StreamableHTTPOptions{Stateless: modern, PropagateRequestCancellation: true})
}

// OverSSE serves s over the transport of 2024-11-05.
func (s *Server) OverSSE(t testing.TB) (url string) {
	t.Helper()
	return hubtest.Serve(t, mcp.NewSSEHandler(func(*http.Request) *mcp.Server { return s.Server }, nil))
}

// Said is the result of a tool that has one text.
func Said(text string) *mcp.CallToolResult {
	return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: text}}}
}

// Arguments are the arguments of all tools.
type Arguments struct {
	Tag  string
	URIs []string
}

func argumentsOf(r *mcp.CallToolRequest) (a Arguments) {
	_ = json.Unmarshal(r.Params.Arguments, &a) // a test that sends others will see
	return a
}

// era returns the name of the server, the revision of the request and its tag.
func (s *Server) era(_ context.Context, r *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	return Said(s.name + " " + r.ProtocolVersion() + " " + argumentsOf(r).Tag), nil
}

func (s *Server) progress(ctx context.Context, r *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	for i := range 3 {
		err := r.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{
			ProgressToken: r.Params.GetProgressToken(), Progress: float64(i + 1), Total: 3, Message: argumentsOf(r).Tag,
		})
		if err != nil {
			return nil, err
		}
	}
	return Said("done"), nil
}

func (s *Server) log(ctx context.Context, r *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	for _, level := range []mcp.LoggingLevel{"debug", "warning", "error"} {
		if err := r.Session.Log(ctx, &mcp.LoggingMessageParams{Level: level, Logger: s.name, Data: argumentsOf(r).Tag}); err != nil {
			return nil, err
		}
	}
	return Said("logged"), nil
}

// wait ends when it is cancelled.
func (s *Server) wait(ctx context.Context, r *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	s.note(argumentsOf(r).Tag, "waits")
	select {
	case <-ctx.Done():
		s.note(argumentsOf(r).Tag, "cancelled")
		return nil, ctx.Err()
	case <-time.After(30 * time.Second):
		return Said("nobody cancelled this"), nil
	}
}

func (s *Server) note(tag, state string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state[tag] = state
}

// stateOf says what has become of a call of wait.
func (s *Server) stateOf(_ context.Context, r *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Said(s.state[argumentsOf(r).Tag]), nil
}

// grow adds a tool.
func (s *Server) grow(_ context.Context, r *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	s.AddTool(&mcp.Tool{Name: argumentsOf(r).Tag, InputSchema: map[string]any{"type": "object"}}, fail)
	return Said("grown"), nil
}

// touch says that resources were updated.
func (s *Server) touch(ctx context.Context, r *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	for _, uri := range argumentsOf(r).URIs {
		if err := s.ResourceUpdated(context.WithoutCancel(ctx), &mcp.ResourceUpdatedNotificationParams{URI: uri}); err != nil {
			return nil, err
		}
	}
	return Said("touched"), nil
}

// The content and the structured content of the tool fail, byte for byte.
const (
	FailContent    = `[{"type":"text","text":"it did not work: <ä> & \"b\""}]`
	FailStructured = `{"big":12345678901234567890,"one":1.0,"exp":1E5,"none":null}`
)

func fail(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	result := Said(`it did not work: <ä> & "b"`)
	result.IsError, result.StructuredContent = true, json.RawMessage(FailStructured)
	return result, nil
}

// ErrRefused is the JSON-RPC error of the tool refuse.
func ErrRefused() *jsonrpc.Error {
	return &jsonrpc.Error{Code: 4711, Message: `refused: <ä> & "b"`, Data: json.RawMessage(`{"big":12345678901234567890}`)}
}

func refuseCall(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	return nil, ErrRefused()
}

// notFound is the error of a resource that is not there, in the server's era.
func notFound(_ context.Context, r *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
	e := &jsonrpc.Error{Code: jsonrpc.CodeInvalidParams, Message: "no such item", Data: json.RawMessage(`{"uri":"` + r.Params.URI + `"}`)}
	if r.ProtocolVersion() < hubtest.ModernVersion {
		e.Code = -32002
	}
	return nil, e
}

func complete(ctx context.Context, r *mcp.CompleteRequest) (*mcp.CompleteResult, error) {
	ref, argument := r.Params.Ref, r.Params.Argument
	if argument.Value == "ask" {
		answers, err := inRequests(ctx, r.Session, mcp.InputRequestMap{"x": elicit("who?")})
		values := []string{fmt.Sprint(err)}
		if err == nil {
			values = inOrder(answers)
		}
		return &mcp.CompleteResult{Completion: mcp.CompletionResultDetails{Values: values}}, nil
	}
	return &mcp.CompleteResult{Completion: mcp.CompletionResultDetails{
		Values: []string{argument.Value + "da", ref.Name + ref.URI}, Total: 17, HasMore: true,
	}}, nil
}

// meet asks its client while another call with the same tag is under way, which
// does the same.
func (s *Server) meet(ctx context.Context, r *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	tag := argumentsOf(r).Tag
	if r.ProtocolVersion() >= hubtest.ModernVersion {
		if r.Params.RequestState == "" {
			s.other(tag)
		}
		return sampling().ask(ctx, r)
	}
	s.other(tag)
	result, err := sampling().ask(ctx, r)
	s.other(tag + " has asked")
	return result, err
}

// other waits for another call of it with the same tag, for a while.
func (s *Server) other(tag string) {
	s.mu.Lock()
	both := s.met[tag]
	if both == nil {
		both = make(chan struct{})
		s.met[tag] = both
	} else {
		close(both)
	}
	s.mu.Unlock()
	select {
	case <-both:
	case <-time.After(10 * time.Second):
	}
}
