package peers

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
)

// Client is a client of go-sdk that speaks one revision. It answers sampling,
// elicitation and roots; each answer contains its name.
type Client struct {
	*mcp.ClientSession
	Name string
	Wire *Recorder // has its HTTP requests

	t testing.TB

	mu       sync.Mutex
	notified map[string][]string // texts of notifications, by method
}

// Connect connects a client with that name that speaks the revision.
func Connect(t testing.TB, url, revision, name string) *Client {
	t.Helper()
	return ConnectThrough(t, &Recorder{}, url, revision, name)
}

// ConnectThrough connects a client whose HTTP requests go through wire.
func ConnectThrough(t testing.TB, wire *Recorder, url, revision, name string) *Client {
	t.Helper()
	c := &Client{Name: name, Wire: wire, t: t, notified: map[string][]string{}}
	client := mcp.NewClient(&mcp.Implementation{Name: name, Version: "1"}, &mcp.ClientOptions{
		CreateMessageHandler: func(_ context.Context, r *mcp.CreateMessageRequest) (*mcp.CreateMessageResult, error) {
			text := name + "'s model: " + TextOf([]mcp.Content{r.Params.Messages[0].Content})
			return &mcp.CreateMessageResult{Role: "assistant", Model: "m", Content: &mcp.TextContent{Text: text}}, nil
		},
		ElicitationHandler: func(_ context.Context, r *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
			return &mcp.ElicitResult{Action: "accept", Content: map[string]any{"answer": "<" + name + " to " + r.Params.Message + ">"}}, nil
		},
		ToolListChangedHandler: func(context.Context, *mcp.ToolListChangedRequest) { c.note("tools/list_changed", "") },
		ResourceUpdatedHandler: func(_ context.Context, r *mcp.ResourceUpdatedNotificationRequest) {
			c.note("resources/updated", r.Params.URI)
		},
		LoggingMessageHandler: func(_ context.Context, r *mcp.LoggingMessageRequest) {
			c.note("message", fmt.Sprint(r.Params.Level, " ", r.Params.Data))
		},
		ProgressNotificationHandler: func(_ context.Context, r *mcp.ProgressNotificationClientRequest) {
			c.note("progress", fmt.Sprint(r.Params.ProgressToken, " ", r.Params.Progress, " of ", r.Params.Total, " ", r.Params.Message))
		},
	})
	client.AddRoots(&mcp.Root{URI: "file:///home/" + name})
	transport := &mcp.StreamableClientTransport{Endpoint: url, HTTPClient: &http.Client{Transport: c.Wire}}
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

// In makes t the test that the client's failures belong to: a subtest of the one
// that connected it.
func (c *Client) In(t testing.TB) { c.t = t }

// Modern reports whether the client speaks a revision without sessions.
func (c *Client) Modern() bool { return c.InitializeResult().ProtocolVersion >= hubtest.ModernVersion }

func (c *Client) note(method, text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.notified[method] = append(c.notified[method], text)
}

// Notified returns the notifications of a method, notifications/<method>, that
// the client has got so far, each as one text.
func (c *Client) Notified(method string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.notified[method])
}

// Call calls a tool and returns the text of its result. It fails the test if the
// call or the tool fails.
func (c *Client) Call(tool string, a Arguments) string {
	c.t.Helper()
	result, err := c.CallTool(c.t.Context(), &mcp.CallToolParams{Name: tool, Arguments: a})
	if err != nil {
		c.t.Fatalf("%s calls %s: %v", c.Name, tool, err)
	}
	if result.IsError {
		c.t.Fatalf("%s calls %s: %s", c.Name, tool, TextOf(result.Content))
	}
	return TextOf(result.Content)
}

// AwaitStream waits until the client gets messages that belong to no request: a
// legacy client by its GET stream, a modern one by a subscription to what.
func (c *Client) AwaitStream(what string) {
	c.t.Helper()
	hubtest.Eventually(c.t, c.Name+" listens", func() bool {
		if !c.Modern() {
			return len(c.Wire.Find(func(x *Exchange) bool { return x.Method == http.MethodGet && x.Status == http.StatusOK })) > 0
		}
		return len(c.Wire.Find(func(x *Exchange) bool {
			return slices.ContainsFunc(x.Messages(), func(m Message) bool {
				return m.Method == "notifications/subscriptions/acknowledged" && strings.Contains(string(m.Params), what)
			})
		})) > 0
	})
}
