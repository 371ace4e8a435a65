package gateway

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

// web is a server over HTTP with sessions, which records the requests.
type web struct {
	t       *testing.T
	mcp     *server.MCPServer
	http    *httptest.Server
	waiting atomic.Int32

	mu      sync.Mutex
	visits  []visit
	counter map[string]int  // by session
	gone    map[string]bool // deleted by forget
}

type visit struct {
	verb, session, method, traceparent string
	params                             []byte
}

func newWeb(t *testing.T) *web {
	w := &web{t: t, counter: map[string]int{}, gone: map[string]bool{}}
	w.mcp = server.NewMCPServer("web", "1", server.WithToolCapabilities(true), server.WithLogging(),
		server.WithElicitation(), server.WithResourceCapabilities(true, true), server.WithInstructions("Web."))
	w.mcp.EnableSampling()
	w.mcp.AddTool(mcp.NewTool("count"), w.count)
	w.mcp.AddTool(mcp.NewTool("elicit"), w.elicit)
	w.mcp.AddTool(mcp.NewTool("sample"), w.sample)
	w.mcp.AddTool(mcp.NewTool("wait"), w.wait)
	w.mcp.AddTool(mcp.NewTool("grow"), func(context.Context, mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		w.mcp.AddTool(mcp.NewTool("grown"), w.count)
		return mcp.NewToolResultText("grown"), nil
	})
	w.mcp.AddResource(mcp.NewResource("web://page", "page"),
		func(context.Context, mcp.ReadResourceRequest) ([]mcp.ResourceContents, error) {
			return []mcp.ResourceContents{mcp.TextResourceContents{URI: "web://page", Text: "text"}}, nil
		})
	inner := server.NewStreamableHTTPServer(w.mcp, server.WithStateful(true))
	w.http = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		m, _ := jsonrpc.Parse(body)
		w.mu.Lock()
		w.visits = append(w.visits, visit{r.Method, r.Header.Get("Mcp-Session-Id"), m.Method, r.Header.Get("Traceparent"), m.Params})
		gone := w.gone[r.Header.Get("Mcp-Session-Id")]
		w.mu.Unlock()
		if gone && r.Method == http.MethodGet { // mcp-go would accept it
			http.Error(rw, "no such session", http.StatusNotFound)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		inner.ServeHTTP(rw, r)
	}))
	t.Cleanup(func() {
		w.http.CloseClientConnections()
		w.http.Close()
		_ = inner.Shutdown(context.Background())
	})
	return w
}

func (w *web) spec(name string) upstream.Spec { return upstream.Spec{Name: name, URL: w.http.URL} }

// count counts the calls within one session.
func (w *web) count(ctx context.Context, _ mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	id := server.ClientSessionFromContext(ctx).SessionID()
	w.counter[id]++
	return mcp.NewToolResultText(fmt.Sprint(w.counter[id])), nil
}

func (w *web) elicit(ctx context.Context, _ mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	answer, err := w.mcp.RequestElicitation(ctx, mcp.ElicitationRequest{Params: mcp.ElicitationParams{
		Message: "What is your name?", RequestedSchema: map[string]any{"type": "object",
			"properties": map[string]any{"name": map[string]any{"type": "string"}}}}})
	if err != nil {
		return mcp.NewToolResultError(err.Error()), nil
	}
	return mcp.NewToolResultText(fmt.Sprintf("%s %v", answer.Action, answer.Content)), nil
}

func (w *web) sample(ctx context.Context, _ mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	answer, err := w.mcp.RequestSampling(ctx, mcp.CreateMessageRequest{CreateMessageParams: mcp.CreateMessageParams{
		Messages: []mcp.SamplingMessage{{Role: mcp.RoleUser, Content: mcp.NewTextContent("Say something.")}}, MaxTokens: 10}})
	if err != nil {
		return mcp.NewToolResultError(err.Error()), nil
	}
	return mcp.NewToolResultText(fmt.Sprintf("%s: %v", answer.Model, answer.Content)), nil
}

func (w *web) wait(ctx context.Context, _ mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	w.waiting.Add(1)
	defer w.waiting.Add(-1)
	<-ctx.Done()
	return nil, ctx.Err()
}

// forget ends a session without the hub's knowledge.
func (w *web) forget(session string) {
	w.t.Helper()
	request, err := http.NewRequestWithContext(w.t.Context(), http.MethodDelete, w.http.URL, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	request.Header.Set("Mcp-Session-Id", session)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		w.t.Fatal(err)
	}
	_ = response.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.gone[session] = true
}

// seen returns the recorded requests. An empty verb or method matches all.
func (w *web) seen(verb, method string) []visit {
	w.mu.Lock()
	defer w.mu.Unlock()
	var found []visit
	for _, v := range w.visits {
		if (verb == "" || v.verb == verb) && (method == "" || v.method == method) {
			found = append(found, v)
		}
	}
	return found
}

// session returns the session of the last request with that method.
func (w *web) session(method string) string {
	all := w.seen("", method)
	if len(all) == 0 {
		w.t.Fatalf("no %s came", method)
	}
	return all[len(all)-1].session
}

// receivedIn reports whether a request with that verb came in the session.
func (w *web) receivedIn(verb, session string) bool {
	for _, v := range w.seen(verb, "") {
		if v.session == session {
			return true
		}
	}
	return false
}
