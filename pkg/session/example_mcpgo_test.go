package session_test

import (
	"context"
	"fmt"
	"net/http/httptest"

	"github.com/mark3labs/mcp-go/client"
	"github.com/mark3labs/mcp-go/client/transport"
	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"

	"github.com/mcphub-go/mcphub/pkg/persist"
	"github.com/mcphub-go/mcphub/pkg/session"
)

// sessionIDs lets a Manager manage the session ids of an mcp-go server.
type sessionIDs struct{ sessions *session.Manager }

// Generate returns "", which means no session, if the store fails.
func (s sessionIDs) Generate() string {
	_, token, _ := s.sessions.Create(context.Background(), session.Session{})
	return token
}

func (s sessionIDs) Validate(token string) (isTerminated bool, err error) {
	lease, err := s.sessions.Acquire(context.Background(), token, "")
	if err != nil {
		return false, err // answered with 404
	}
	lease.Release() // mcp-go does not report the end of a request
	return false, nil
}

func (s sessionIDs) Terminate(token string) (isNotAllowed bool, err error) {
	lease, err := s.sessions.Acquire(context.Background(), token, "")
	if err != nil {
		return false, err
	}
	defer lease.Release()
	_, err = s.sessions.End(context.Background(), lease.Session().ID, session.ClientDelete)
	return false, err
}

// serve starts a mcp-go server whose sessions are in store.
func serve(store persist.Store) (*httptest.Server, *session.Manager, error) {
	sessions := session.New(store, session.Config{})
	if err := sessions.Restore(context.Background()); err != nil {
		return nil, nil, err
	}
	tools := server.NewMCPServer("greeter", "1.0")
	tools.AddTool(mcp.NewTool("greet"), func(context.Context, mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		return mcp.NewToolResultText("hello"), nil
	})
	return httptest.NewServer(server.NewStreamableHTTPServer(tools, server.WithSessionIdManager(sessionIDs{sessions}))), sessions, nil
}

func connect(url string, options ...transport.StreamableHTTPCOption) (*client.Client, error) {
	conn, err := transport.NewStreamableHTTP(url, options...)
	if err != nil {
		return nil, err
	}
	c := client.NewClient(conn, client.WithProtocolVersion("2025-11-25"), client.WithSession())
	return c, c.Start(context.Background())
}

func greet(c *client.Client) {
	result, err := c.CallTool(context.Background(), mcp.CallToolRequest{Params: mcp.CallToolParams{Name: "greet"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(mcp.GetTextFromContent(result.Content[0]))
}

// A Manager can manage the sessions of a server that does not use the rest of the hub.
// Here the server is made with mcp-go, and is restarted between two calls of its client.
func ExampleManager_mcpGo() {
	ctx := context.Background()
	store := new(persist.Memory) // persist.OpenDir for sessions that survive the process

	before, sessions, err := serve(store)
	if err != nil {
		fmt.Println(err)
		return
	}
	c, err := connect(before.URL + "/mcp")
	if err != nil {
		fmt.Println(err)
		return
	}
	if _, err := c.Initialize(ctx, mcp.InitializeRequest{}); err != nil {
		fmt.Println(err)
		return
	}
	greet(c)
	id := c.GetSessionId()
	before.Close()
	fmt.Println("stopped:", sessions.Close(ctx))

	after, sessions, err := serve(store)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer after.Close()
	c, err = connect(after.URL+"/mcp", transport.WithSession(id))
	if err != nil {
		fmt.Println(err)
		return
	}
	greet(c) // without a new initialize
	fmt.Println("closed:", c.Close())
	left, _ := sessions.All()
	fmt.Println("sessions left:", len(left))
	// Output:
	// hello
	// stopped: <nil>
	// hello
	// closed: <nil>
	// sessions left: 0
}
