package hostile

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// client sends requests to the hub, in a session or without.
type client struct {
	address string
	session string
	http    *http.Client
}

func newClient(address string) *client {
	return &client{address: address, http: &http.Client{Timeout: time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: 4}}}
}

// body returns a JSON-RPC request.
func body(id int, method, params string) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":%q,"params":%s}`, id, method, params)
}

// call returns the params of a tools/call.
func call(tool string, a arguments, meta string) string {
	raw, _ := json.Marshal(map[string]any{"text": a.Text, "size": a.Size, "n": a.N})
	return fmt.Sprintf(`{"name":%q,"arguments":%s,"_meta":{%s}}`, tool, raw, meta)
}

// modern are the members of _meta and the headers of a modern request.
const modernMeta = `"io.modelcontextprotocol/protocolVersion":"2026-07-28",` +
	`"io.modelcontextprotocol/clientCapabilities":{"elicitation":{}},` +
	`"io.modelcontextprotocol/clientInfo":{"name":%q,"version":"1"}`

func modernHeaders(tool string) []string {
	return []string{"Mcp-Protocol-Version: 2026-07-28", "Mcp-Method: tools/call", "Mcp-Name: " + tool}
}

// post sends a message and returns the status and the whole response.
func (c *client) post(ctx context.Context, message string, headers ...string) (int, []byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+c.address+"/mcp", strings.NewReader(message))
	if err != nil {
		return 0, nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Accept", "application/json, text/event-stream")
	if c.session != "" {
		request.Header.Set("Mcp-Session-Id", c.session)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		request.Header.Set(name, value)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close()
	if token := response.Header.Get("Mcp-Session-Id"); token != "" {
		c.session = token
	}
	text, err := io.ReadAll(response.Body)
	return response.StatusCode, text, err
}

// initialize begins a session with capabilities of that size.
func (c *client) initialize(ctx context.Context, name string, size int) error {
	c.session = ""
	status, text, err := c.post(ctx, body(0, "initialize", fmt.Sprintf(`{"protocolVersion":"2025-11-25","capabilities":{"elicitation":{},`+
		`"experimental":{"x":{"y":%q}}},"clientInfo":{"name":%q,"version":"1"}}`, strings.Repeat("x", size), name)))
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("initialize: %d %.200s", status, text)
	}
	if err != nil {
		return err
	}
	_, _, err = c.post(ctx, `{"jsonrpc":"2.0","method":"notifications/initialized"}`)
	return err
}

// echo calls a tool and checks that the answer is the one to this call.
func (c *client) echo(ctx context.Context, id int, server, name string, size int) error {
	tool := server + "__echo"
	text := fmt.Sprintf("%s %d %s", name, id, strings.Repeat("y", size))
	message, headers := body(id, "tools/call", call(tool, arguments{Text: text}, "")), []string(nil)
	if c.session == "" {
		message, headers = body(id, "tools/call", call(tool, arguments{Text: text}, fmt.Sprintf(modernMeta, name))), modernHeaders(tool)
	}
	status, answer, err := c.post(ctx, message, headers...)
	if err != nil {
		return err
	}
	if status != http.StatusOK || !bytes.Contains(answer, []byte(text)) {
		return fmt.Errorf("status %d: %.300s", status, answer)
	}
	return nil
}

// unread sends a POST over a connection of its own and never reads the answer. The caller closes the connection.
func (c *client) unread(message string, length int, headers ...string) (net.Conn, error) {
	conn, err := net.DialTimeout("tcp", c.address, 5*time.Second)
	if err != nil {
		return nil, err
	}
	_ = conn.(*net.TCPConn).SetReadBuffer(4 << 10)
	_ = conn.SetWriteDeadline(time.Now().Add(5 * time.Second))
	head := "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAccept: application/json, text/event-stream\r\n"
	if c.session != "" {
		head += "Mcp-Session-Id: " + c.session + "\r\n"
	}
	for _, h := range headers {
		head += h + "\r\n"
	}
	_, err = fmt.Fprintf(conn, "%sContent-Length: %d\r\n\r\n%s", head, length, message)
	return conn, err
}
