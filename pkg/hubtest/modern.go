package hubtest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// ModernClient sends requests of 2026-07-28: nothing connects them but what each
// says of its sender.
type ModernClient struct {
	URL         string
	Name        string // of the client
	Version     string // of the protocol
	Traceparent string // sent in _meta unless it is empty
	HTTP        *http.Client

	t testing.TB
}

// NewModernClient returns a client with that name.
func NewModernClient(t testing.TB, url, name string) *ModernClient {
	return &ModernClient{URL: url, Name: name, Version: ModernVersion, HTTP: http.DefaultClient, t: t}
}

// Request sends a request and returns the answer to it. params are the members
// of the params object without _meta; target is the value of the Mcp-Name
// header, or "" for a method that has none.
func (c *ModernClient) Request(method, target, params string) Answer {
	c.t.Helper()
	status, body, err := c.Send(method, target, params)
	if err != nil {
		c.t.Fatal(err)
	}
	var a Answer
	if err := json.Unmarshal([]byte(body), &a); err != nil {
		c.t.Fatalf("%s: %d %v in %q", method, status, err, body)
	}
	return a
}

// Send is Request for tests that look at the HTTP status or at errors of the
// connection. The body is the last response if a stream comes back.
func (c *ModernClient) Send(method, target, params string) (status int, body string, err error) {
	r, err := c.newRequest(c.t.Context(), method, target, params)
	if err != nil {
		return 0, "", err
	}
	response, err := c.HTTP.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if !isStream(response) {
		return response.StatusCode, string(text), err
	}
	for line := range strings.Lines(string(text)) {
		if data, ok := strings.CutPrefix(line, "data: "); ok && strings.Contains(data, `"id":`) {
			body = data
		}
	}
	return response.StatusCode, body, err
}

// Stream sends a request whose response is a stream, such as subscriptions/listen.
// The stream ends with ctx or the test.
func (c *ModernClient) Stream(ctx context.Context, method, target, params string) *Stream {
	c.t.Helper()
	r, err := c.newRequest(ctx, method, target, params)
	if err != nil {
		c.t.Fatal(err)
	}
	response, err := c.HTTP.Do(r)
	if err != nil {
		c.t.Fatal(err)
	}
	return newStream(c.t, response)
}

func (c *ModernClient) newRequest(ctx context.Context, method, target, params string) (*http.Request, error) {
	meta := map[string]any{
		"io.modelcontextprotocol/protocolVersion":    c.Version,
		"io.modelcontextprotocol/clientCapabilities": struct{}{},
		"io.modelcontextprotocol/clientInfo":         map[string]string{"name": c.Name, "version": "1"},
	}
	if c.Traceparent != "" {
		meta["traceparent"] = c.Traceparent
	}
	about, err := json.Marshal(meta)
	if err != nil {
		return nil, err
	}
	if params != "" {
		params += ","
	}
	message := fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":%q,"params":{%s"_meta":%s}}`, method, params, about)
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.URL, strings.NewReader(message))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json, text/event-stream")
	r.Header.Set("Mcp-Protocol-Version", c.Version)
	r.Header.Set("Mcp-Method", method)
	if target != "" {
		r.Header.Set("Mcp-Name", target)
	}
	return r, nil
}
