package hubtest

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// Answer is a JSON-RPC response whose parts are the bytes that came.
type Answer struct {
	ID     json.RawMessage `json:"id"`
	Result json.RawMessage `json:"result"`
	Error  json.RawMessage `json:"error"`
}

// LegacyClient speaks MCP over Streamable HTTP in a revision with sessions, and
// keeps every byte. It answers no requests of servers and declares no
// capabilities. It is for one goroutine at a time, except for Do and Stream.
type LegacyClient struct {
	URL           string
	Version       string   // the Mcp-Protocol-Version header of requests in a session
	Token         string   // the Mcp-Session-Id header; a hub's is <session id>.<secret>
	Notifications []string // messages that came before the answers, as they came

	t testing.TB
}

// NewLegacyClient returns a client that has no session yet: Request("initialize",
// ...) opens one.
func NewLegacyClient(t testing.TB, url string) *LegacyClient {
	return &LegacyClient{URL: url, Version: LegacyVersion, t: t}
}

// Connect returns a client that has initialized a session of LegacyVersion.
func Connect(t testing.TB, url string) *LegacyClient {
	t.Helper()
	c := NewLegacyClient(t, url)
	c.Request("initialize", `{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"raw","version":"1"}}`)
	if c.Token == "" {
		t.Fatal("no Mcp-Session-Id")
	}
	if status, body := c.Post(`{"jsonrpc":"2.0","method":"notifications/initialized"}`); status != http.StatusAccepted {
		t.Fatalf("notifications/initialized: %d %s", status, body)
	}
	return c
}

// SessionID returns the public part of the client's token: the name of the session in
// logs, spans, files and the admin API.
func (c *LegacyClient) SessionID() string { return SessionID(c.Token) }

// SessionID returns the public part of the value of a hub's Mcp-Session-Id
// header.
func SessionID(token string) string {
	id, _, _ := strings.Cut(token, ".")
	return id
}

// Do sends an HTTP request in the session; the caller closes the body.
func (c *LegacyClient) Do(ctx context.Context, method, body string) (*http.Response, error) {
	r, err := c.newRequest(ctx, method, body)
	if err != nil {
		return nil, err
	}
	return http.DefaultClient.Do(r)
}

func (c *LegacyClient) newRequest(ctx context.Context, method, body string) (*http.Request, error) {
	r, err := http.NewRequestWithContext(ctx, method, c.URL, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json, text/event-stream")
	if c.Token != "" {
		r.Header.Set("Mcp-Session-Id", c.Token)
		r.Header.Set("Mcp-Protocol-Version", c.Version)
	}
	return r, nil
}

// Post sends one message and returns the HTTP status and what comes back: the
// body, or the last response of a stream.
func (c *LegacyClient) Post(message string) (status int, body string) {
	c.t.Helper()
	response, err := c.Do(c.t.Context(), http.MethodPost, message)
	if err != nil {
		c.t.Fatal(err)
	}
	defer response.Body.Close()
	if token := response.Header.Get("Mcp-Session-Id"); token != "" && c.Token == "" {
		c.Token = token
	}
	if !isStream(response) {
		text, err := io.ReadAll(response.Body)
		if err != nil {
			c.t.Fatal(err)
		}
		return response.StatusCode, string(text)
	}
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok || data == "" {
			continue
		}
		if strings.Contains(data, `"id":`) && !strings.Contains(data, `"method":`) {
			body = data
		} else {
			c.Notifications = append(c.Notifications, data)
		}
	}
	return response.StatusCode, body
}

// Request sends a request and returns the answer to it.
func (c *LegacyClient) Request(method, params string) Answer {
	c.t.Helper()
	_, body := c.Post(fmt.Sprintf(`{"jsonrpc":"2.0","id":7,"method":%q,"params":%s}`, method, params))
	var a Answer
	if err := json.Unmarshal([]byte(body), &a); err != nil {
		c.t.Fatalf("%s: %v in %q", method, err, body)
	}
	return a
}

// Stream opens a stream: a POST with a message as body, or a GET, which resumes
// after lastEventID unless that is empty. The stream ends with ctx or the test.
func (c *LegacyClient) Stream(ctx context.Context, method, body, lastEventID string) *Stream {
	c.t.Helper()
	r, err := c.newRequest(ctx, method, body)
	if err != nil {
		c.t.Fatal(err)
	}
	if lastEventID != "" {
		r.Header.Set("Last-Event-ID", lastEventID)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		c.t.Fatal(err)
	}
	return newStream(c.t, response)
}
