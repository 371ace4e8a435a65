package transport

import (
	"bytes"
	"context"
	"io"
	"mime"
	"net/http"
	"time"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
)

// setHeaders sets the headers that all HTTP requests have.
func (c Config) setHeaders(ctx context.Context, h http.Header) {
	if c.InjectTrace != nil {
		c.InjectTrace(ctx, h)
	}
	for name, value := range c.Headers {
		h.Set(name, value)
	}
}

// discard reads the rest of a response, 64 KiB and one second at most, so that its TCP connection can be used again,
// and closes it.
func discard(response *http.Response) {
	timer := time.AfterFunc(time.Second, func() { _ = response.Body.Close() })
	defer timer.Stop()
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, 64<<10))
	_ = response.Body.Close()
}

func mediaType(response *http.Response) string {
	kind, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type"))
	return kind
}

// isUnknownMethod recognizes a 404 that is not about the session: some servers answer an unknown method with it and a
// JSON-RPC error. The body can still be read afterwards.
func isUnknownMethod(response *http.Response) bool {
	if mediaType(response) != protocol.TypeJSON {
		return false
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	_ = response.Body.Close()
	response.Body = io.NopCloser(bytes.NewReader(body))
	if err != nil {
		return false
	}
	m, err := jsonrpc.Parse(body)
	return err == nil && m.Error != nil && m.ID != jsonrpc.Null && jsonrpc.ParseError(m.Error).Code == jsonrpc.CodeMethodNotFound
}

// mayMentionSession reports whether a message that the hub sent has the word "session" in it, or escapes that could
// spell it. A server that repeats the message then repeats the word.
func mayMentionSession(message []byte) bool {
	return mentionsSession(message) || bytes.Contains(message, []byte(`\u`))
}

func mentionsSession(text []byte) bool {
	return bytes.Contains(bytes.ToLower(text), []byte("session"))
}
