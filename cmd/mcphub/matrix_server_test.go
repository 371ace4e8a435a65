package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"golang.org/x/sync/errgroup"
)

// The revisions that clients and servers of the matrix are pinned to.
const (
	legacyRevision = "2025-11-25"
	modernRevision = "2026-07-28"
)

// matrixVariable makes the test binary a server of the matrix on stdin and
// stdout. Its value is the name and the revisions it speaks.
const matrixVariable = "MCPHUB_TEST_MATRIX_SERVER"

// matrixLogVariable names the file that such a server writes its messages to.
const matrixLogVariable = "MCPHUB_TEST_MATRIX_LOG"

// matrixServer is a server of go-sdk that does everything there is to relay.
type matrixServer struct {
	*mcp.Server
	name string

	mu    sync.Mutex
	state map[string]string        // of the calls of the tool wait, by tag
	met   map[string]chan struct{} // closed when two calls of the tool meet are under way, by tag
}

// serveMatrix is the test binary as a child process.
func serveMatrix(ctx context.Context, about string) int {
	words := strings.Fields(about)
	var transport mcp.Transport = &mcp.StdioTransport{}
	if name := os.Getenv(matrixLogVariable); name != "" {
		log, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			fmt.Fprintln(os.Stderr, "matrix server:", err)
			return 1
		}
		defer log.Close()
		transport = &mcp.LoggingTransport{Transport: transport, Writer: log}
	}
	if err := newMatrixServer(words[0], words[1:]...).Run(ctx, transport); err != nil {
		fmt.Fprintln(os.Stderr, "matrix server:", err)
		return 1
	}
	return 0
}

func newMatrixServer(name string, revisions ...string) *matrixServer {
	s := &matrixServer{name: name, state: map[string]string{}, met: map[string]chan struct{}{}}
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
	s.AddResource(&mcp.Resource{Name: "a", URI: resource(name, "a")}, read)
	s.AddResource(&mcp.Resource{Name: "b", URI: resource(name, "b")}, read)
	s.AddResourceTemplate(&mcp.ResourceTemplate{Name: "item", URITemplate: resource(name, "item/{who}")}, notFound)
	return s
}

func resource(server, path string) string { return "matrix://" + server + "/" + path }

// overHTTP serves s for the test: modern without sessions, legacy with them.
func (s *matrixServer) overHTTP(t *testing.T, modern bool) (url string) {
	t.Helper()
	return listenHTTP(t, s.handler(modern))
}

func (s *matrixServer) handler(modern bool) http.Handler {
	return mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s.Server },
		&mcp.StreamableHTTPOptions{Stateless: modern, PropagateRequestCancellation: true})
}

// overSSE serves s over the transport of 2024-11-05.
func (s *matrixServer) overSSE(t *testing.T) (url string) {
	t.Helper()
	return listenHTTP(t, mcp.NewSSEHandler(func(*http.Request) *mcp.Server { return s.Server }, nil))
}

func listenHTTP(t *testing.T, handler http.Handler) (url string) {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	t.Cleanup(server.CloseClientConnections) // streams have no end of their own
	return server.URL
}

func said(text string) *mcp.CallToolResult {
	return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: text}}}
}

// matrixArguments are those of all tools.
type matrixArguments struct {
	Tag  string
	URIs []string
}

func argumentsOf(r *mcp.CallToolRequest) (a matrixArguments) {
	_ = json.Unmarshal(r.Params.Arguments, &a) // a test that sends others will see
	return a
}

// era says in which revision, and as whom, the server is spoken to.
func (s *matrixServer) era(_ context.Context, r *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	return said(s.name + " " + r.ProtocolVersion() + " " + argumentsOf(r).Tag), nil
}

func (s *matrixServer) progress(ctx context.Context, r *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	for i := range 3 {
		err := r.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{
			ProgressToken: r.Params.GetProgressToken(), Progress: float64(i + 1), Total: 3, Message: argumentsOf(r).Tag,
		})
		if err != nil {
			return nil, err
		}
	}
	return said("done"), nil
}

func (s *matrixServer) log(ctx context.Context, r *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	for _, level := range []mcp.LoggingLevel{"debug", "warning", "error"} {
		if err := r.Session.Log(ctx, &mcp.LoggingMessageParams{Level: level, Logger: s.name, Data: argumentsOf(r).Tag}); err != nil {
			return nil, err
		}
	}
	return said("logged"), nil
}

// wait ends when it is cancelled.
func (s *matrixServer) wait(ctx context.Context, r *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	s.note(argumentsOf(r).Tag, "waits")
	select {
	case <-ctx.Done():
		s.note(argumentsOf(r).Tag, "cancelled")
		return nil, ctx.Err()
	case <-time.After(30 * time.Second):
		return said("nobody cancelled this"), nil
	}
}

func (s *matrixServer) note(tag, state string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state[tag] = state
}

// stateOf says what has become of a call of wait.
func (s *matrixServer) stateOf(_ context.Context, r *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return said(s.state[argumentsOf(r).Tag]), nil
}

// grow adds a tool.
func (s *matrixServer) grow(_ context.Context, r *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	s.AddTool(&mcp.Tool{Name: argumentsOf(r).Tag, InputSchema: map[string]any{"type": "object"}}, fail)
	return said("grown"), nil
}

// touch says that resources were updated.
func (s *matrixServer) touch(ctx context.Context, r *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	for _, uri := range argumentsOf(r).URIs {
		if err := s.ResourceUpdated(context.WithoutCancel(ctx), &mcp.ResourceUpdatedNotificationParams{URI: uri}); err != nil {
			return nil, err
		}
	}
	return said("touched"), nil
}

// What fail answers, byte for byte.
const (
	failContent    = `[{"type":"text","text":"it did not work: <ä> & \"b\""}]`
	failStructured = `{"big":12345678901234567890,"one":1.0,"exp":1E5,"none":null}`
)

func fail(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	result := said(`it did not work: <ä> & "b"`)
	result.IsError, result.StructuredContent = true, json.RawMessage(failStructured)
	return result, nil
}

// errRefused is the JSON-RPC error of the tool refuse.
func errRefused() *jsonrpc.Error {
	return &jsonrpc.Error{Code: 4711, Message: `refused: <ä> & "b"`, Data: json.RawMessage(`{"big":12345678901234567890}`)}
}

func refuseCall(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	return nil, errRefused()
}

// notFound is the error of a resource that is not there, in the server's era.
func notFound(_ context.Context, r *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
	e := &jsonrpc.Error{Code: jsonrpc.CodeInvalidParams, Message: "no such item", Data: json.RawMessage(`{"uri":"` + r.Params.URI + `"}`)}
	if r.ProtocolVersion() < modernRevision {
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

// dialogue is what a tool asks its client, round by round. A round knows the
// answers to the earlier ones.
type dialogue []func(answers []string) mcp.InputRequestMap

// sampling asks twice at the same time.
func sampling() dialogue {
	return dialogue{func([]string) mcp.InputRequestMap {
		return mcp.InputRequestMap{"x": sample("one"), "y": sample("two")}
	}}
}

// eliciting asks again, about the answer.
func eliciting() dialogue {
	return dialogue{
		func([]string) mcp.InputRequestMap { return mcp.InputRequestMap{"x": elicit("who?")} },
		func(answers []string) mcp.InputRequestMap {
			return mcp.InputRequestMap{"x": elicit("sure, " + answers[0] + "?")}
		},
	}
}

func rooting() dialogue {
	return dialogue{func([]string) mcp.InputRequestMap { return mcp.InputRequestMap{"x": &mcp.ListRootsParams{}} }}
}

func sample(prompt string) *mcp.CreateMessageParams {
	return &mcp.CreateMessageParams{MaxTokens: 9, Messages: []*mcp.SamplingMessage{{Role: "user", Content: &mcp.TextContent{Text: prompt}}}}
}

func elicit(message string) *mcp.ElicitParams {
	return &mcp.ElicitParams{Message: message, RequestedSchema: json.RawMessage(`{"type":"object","properties":{"answer":{"type":"string"}}}`)}
}

// ask carries the dialogue on, in the way of the era in which the server is
// spoken to, and answers with the answers.
func (d dialogue) ask(ctx context.Context, r *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	if r.ProtocolVersion() >= modernRevision {
		return d.inResults(r)
	}
	var answers []string
	for _, round := range d {
		more, err := inRequests(ctx, r.Session, round(answers))
		if err != nil {
			result := said(err.Error())
			result.IsError = true
			return result, nil
		}
		answers = append(answers, inOrder(more)...)
	}
	return said(strings.Join(answers, ", ")), nil
}

// inResults asks as modern servers do: by a result. The requestState has the
// answers to the rounds before.
func (d dialogue) inResults(r *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	state := struct {
		Round   int
		Answers []string
	}{}
	if r.Params.RequestState != "" {
		if err := json.Unmarshal([]byte(r.Params.RequestState), &state); err != nil {
			return nil, err
		}
		state.Round++
		state.Answers = append(state.Answers, inOrder(r.Params.InputResponses)...)
	}
	if state.Round == len(d) {
		return said(strings.Join(state.Answers, ", ")), nil
	}
	next, err := json.Marshal(state)
	return &mcp.CallToolResult{InputRequests: d[state.Round](state.Answers), RequestState: string(next)}, err
}

// inRequests asks as legacy servers do: by requests, all at the same time.
func inRequests(ctx context.Context, client *mcp.ServerSession, questions mcp.InputRequestMap) (mcp.InputResponseMap, error) {
	var mu sync.Mutex
	answers := mcp.InputResponseMap{}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	for key, question := range questions {
		group.Go(func() error {
			var answer mcp.InputResponse
			var err error
			switch q := question.(type) {
			case *mcp.CreateMessageParams:
				answer, err = client.CreateMessage(ctx, q)
			case *mcp.ElicitParams:
				answer, err = client.Elicit(ctx, q)
			default:
				answer, err = client.ListRoots(ctx, nil)
			}
			mu.Lock()
			defer mu.Unlock()
			answers[key] = answer
			return err
		})
	}
	return answers, group.Wait()
}

// inOrder writes answers as texts, in the order of the questions' keys.
func inOrder(answers mcp.InputResponseMap) (texts []string) {
	for _, key := range slices.Sorted(maps.Keys(answers)) {
		switch a := answers[key].(type) {
		case *mcp.CreateMessageResult:
			texts = append(texts, textOf([]mcp.Content{a.Content}))
		case *mcp.CreateMessageWithToolsResult:
			texts = append(texts, textOf(a.Content))
		case *mcp.ElicitResult:
			texts = append(texts, fmt.Sprint(a.Action, " ", a.Content["answer"]))
		case *mcp.ListRootsResult:
			for _, root := range a.Roots {
				texts = append(texts, root.URI)
			}
		}
	}
	return texts
}

// textOf joins the texts of a result.
func textOf(contents []mcp.Content) string {
	var texts []string
	for _, content := range contents {
		if text, ok := content.(*mcp.TextContent); ok {
			texts = append(texts, text.Text)
		}
	}
	return strings.Join(texts, " ")
}

// meet asks its client while another call with the same tag is under way, which
// does the same.
func (s *matrixServer) meet(ctx context.Context, r *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	tag := argumentsOf(r).Tag
	if r.ProtocolVersion() >= modernRevision {
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
func (s *matrixServer) other(tag string) {
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
