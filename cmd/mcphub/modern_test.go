package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// modernClient sends requests of 2026-07-28: nothing connects them but what
// each says of its sender.
type modernClient struct {
	t           *testing.T
	http        *http.Client
	url, name   string
	traceparent string // sent in _meta if there is one
	version     string // default: 2026-07-28
}

// request sends a request. params are the members of the object, without _meta;
// target is what the Mcp-Name header has to say, or "".
func (c modernClient) request(method, target, params string) answer {
	c.t.Helper()
	status, body, err := c.send(method, target, params)
	if err != nil {
		c.t.Fatal(err)
	}
	var a answer
	if err := json.Unmarshal([]byte(body), &a); err != nil {
		c.t.Fatalf("%s: %d %v in %q", method, status, err, body)
	}
	return a
}

func (c modernClient) send(method, target, params string) (status int, body string, err error) {
	meta := map[string]any{
		"io.modelcontextprotocol/protocolVersion":    cmp.Or(c.version, modernRevision),
		"io.modelcontextprotocol/clientCapabilities": struct{}{},
		"io.modelcontextprotocol/clientInfo":         map[string]string{"name": c.name, "version": "1"},
	}
	if c.traceparent != "" {
		meta["traceparent"] = c.traceparent
	}
	about, err := json.Marshal(meta)
	if err != nil {
		return 0, "", err
	}
	if params != "" {
		params += ","
	}
	message := fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":%q,"params":{%s"_meta":%s}}`, method, params, about)
	r, err := http.NewRequestWithContext(c.t.Context(), http.MethodPost, c.url, strings.NewReader(message))
	if err != nil {
		return 0, "", err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json, text/event-stream")
	r.Header.Set("Mcp-Protocol-Version", cmp.Or(c.version, modernRevision))
	r.Header.Set("Mcp-Method", method)
	if target != "" {
		r.Header.Set("Mcp-Name", target)
	}
	hc := c.http
	if hc == nil {
		hc = http.DefaultClient
	}
	response, err := hc.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if !strings.HasPrefix(response.Header.Get("Content-Type"), "text/event-stream") {
		return response.StatusCode, string(text), err
	}
	for line := range strings.Lines(string(text)) {
		if data, ok := strings.CutPrefix(line, "data: "); ok && strings.Contains(data, `"id":`) {
			body = data
		}
	}
	return response.StatusCode, body, err
}
