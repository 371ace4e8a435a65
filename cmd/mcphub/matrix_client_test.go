package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// matrixClient is a client of go-sdk of one era. What it says of itself in
// answers to servers holds its name.
type matrixClient struct {
	*mcp.ClientSession
	t    *testing.T
	name string
	wire *recorder

	mu    sync.Mutex
	heard map[string][]string // what notifications said, by method
}

// connectMatrix connects a client that speaks one revision.
func connectMatrix(t *testing.T, url, revision, name string) *matrixClient {
	t.Helper()
	return connectMatrixBy(t, &recorder{}, url, revision, name)
}

// connectMatrixBy does the same with HTTP requests that go through wire.
func connectMatrixBy(t *testing.T, wire *recorder, url, revision, name string) *matrixClient {
	t.Helper()
	c := &matrixClient{t: t, name: name, wire: wire, heard: map[string][]string{}}
	client := mcp.NewClient(&mcp.Implementation{Name: name, Version: "1"}, &mcp.ClientOptions{
		CreateMessageHandler: func(_ context.Context, r *mcp.CreateMessageRequest) (*mcp.CreateMessageResult, error) {
			text := name + "'s model: " + textOf([]mcp.Content{r.Params.Messages[0].Content})
			return &mcp.CreateMessageResult{Role: "assistant", Model: "m", Content: &mcp.TextContent{Text: text}}, nil
		},
		ElicitationHandler: func(_ context.Context, r *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
			return &mcp.ElicitResult{Action: "accept", Content: map[string]any{"answer": "<" + name + " to " + r.Params.Message + ">"}}, nil
		},
		ToolListChangedHandler: func(context.Context, *mcp.ToolListChangedRequest) { c.hear("tools/list_changed", "") },
		ResourceUpdatedHandler: func(_ context.Context, r *mcp.ResourceUpdatedNotificationRequest) {
			c.hear("resources/updated", r.Params.URI)
		},
		LoggingMessageHandler: func(_ context.Context, r *mcp.LoggingMessageRequest) {
			c.hear("message", fmt.Sprint(r.Params.Level, " ", r.Params.Data))
		},
		ProgressNotificationHandler: func(_ context.Context, r *mcp.ProgressNotificationClientRequest) {
			c.hear("progress", fmt.Sprint(r.Params.ProgressToken, " ", r.Params.Progress, " of ", r.Params.Total, " ", r.Params.Message))
		},
	})
	client.AddRoots(&mcp.Root{URI: "file:///home/" + name})
	transport := &mcp.StreamableClientTransport{Endpoint: url, HTTPClient: &http.Client{Transport: c.wire}}
	session, err := client.Connect(t.Context(), transport, &mcp.ClientSessionOptions{ProtocolVersion: revision})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = session.Close() })
	c.ClientSession = session
	if got := session.InitializeResult().ProtocolVersion; got != revision {
		t.Fatalf("the client speaks %s, not %s", got, revision)
	}
	return c
}

func (c *matrixClient) modern() bool { return c.InitializeResult().ProtocolVersion >= modernRevision }

func (c *matrixClient) hear(method, what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.heard[method] = append(c.heard[method], what)
}

// has returns what was heard of a method so far.
func (c *matrixClient) has(method string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.heard[method])
}

// call calls a tool and returns its text. A result that is an error is one.
func (c *matrixClient) call(tool string, a matrixArguments) string {
	c.t.Helper()
	result, err := c.CallTool(c.t.Context(), &mcp.CallToolParams{Name: tool, Arguments: a})
	if err != nil {
		c.t.Fatalf("%s calls %s: %v", c.name, tool, err)
	}
	if result.IsError {
		c.t.Fatalf("%s calls %s: %s", c.name, tool, textOf(result.Content))
	}
	return textOf(result.Content)
}

// listens waits until the client hears what belongs to no call: a legacy one by
// its GET stream, a modern one by a subscription to what.
func (c *matrixClient) listens(what string) {
	c.t.Helper()
	eventually(c.t, c.name+" listens", func() bool {
		if !c.modern() {
			return len(c.wire.find(func(x *exchanged) bool { return x.method == http.MethodGet && x.status == http.StatusOK })) > 0
		}
		return len(c.wire.find(func(x *exchanged) bool {
			return slices.ContainsFunc(x.messages(), func(m wireMessage) bool {
				return m.Method == "notifications/subscriptions/acknowledged" && strings.Contains(string(m.Params), what)
			})
		})) > 0
	})
}

// recorder keeps what a client sends and gets. It is an http.RoundTripper.
type recorder struct {
	mu    sync.Mutex
	seen  []*exchanged
	trace string // the traceparent header of requests, if there is one
	begun [][]byte
}

// setTrace sets the traceparent header of requests from now on.
func (w *recorder) setTrace(traceparent string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.trace = traceparent
}

func (w *recorder) traceNow() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.trace
}

// sent counts the requests with this in them that were begun, answered or not.
func (w *recorder) sent(part string) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, body := range w.begun {
		if bytes.Contains(body, []byte(part)) {
			n++
		}
	}
	return n
}

// exchanged is one HTTP request and what has come back of its response.
type exchanged struct {
	io.ReadCloser // the response's body

	method  string
	request []byte
	status  int

	mu   sync.Mutex
	body bytes.Buffer
}

func (w *recorder) RoundTrip(r *http.Request) (*http.Response, error) {
	x := &exchanged{method: r.Method}
	trace := w.traceNow()
	if r.Body != nil {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		_ = r.Body.Close()
		x.request = body
		w.mu.Lock()
		w.begun = append(w.begun, body)
		w.mu.Unlock()
		r = r.Clone(r.Context())
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	if trace != "" {
		r = r.Clone(r.Context())
		r.Header.Set("Traceparent", trace)
	}
	response, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	x.status, x.ReadCloser, response.Body = response.StatusCode, response.Body, x
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen = append(w.seen, x)
	return response, nil
}

func (x *exchanged) Read(p []byte) (int, error) {
	n, err := x.ReadCloser.Read(p)
	x.mu.Lock()
	defer x.mu.Unlock()
	x.body.Write(p[:n])
	return n, err
}

// find returns the exchanges that fit.
func (w *recorder) find(fits func(*exchanged) bool) (found []*exchanged) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, x := range w.seen {
		if fits(x) {
			found = append(found, x)
		}
	}
	return found
}

// of returns the messages that came in answer to the last request with this in
// it.
func (w *recorder) of(t *testing.T, part string) []wireMessage {
	t.Helper()
	found := w.find(func(x *exchanged) bool { return bytes.Contains(x.request, []byte(part)) })
	if len(found) == 0 {
		t.Fatalf("no request has %s in it", part)
	}
	return found[len(found)-1].messages()
}

// all returns every message there was.
func (w *recorder) all() (all []wireMessage) {
	for _, x := range w.find(func(*exchanged) bool { return true }) {
		all = append(all, x.messages()...)
	}
	return all
}

// wireMessage is a message whose parts are the bytes that came.
type wireMessage struct {
	Method                string
	Params, Result, Error json.RawMessage
}

// messages are those that have come so far.
func (x *exchanged) messages() (messages []wireMessage) {
	x.mu.Lock()
	body := bytes.Clone(x.body.Bytes())
	x.mu.Unlock()
	lines := bufio.NewScanner(bytes.NewReader(body))
	lines.Buffer(nil, len(body)+1)
	for lines.Scan() {
		line := strings.TrimPrefix(lines.Text(), "data: ")
		var m wireMessage
		if strings.HasPrefix(line, "{") && json.Unmarshal([]byte(line), &m) == nil {
			messages = append(messages, m)
		}
	}
	return messages
}
