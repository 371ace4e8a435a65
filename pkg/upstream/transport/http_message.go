package transport

import (
	"bytes"
	"context"
	"io"
	"mime"
	"net/http"
	"strings"
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

// The bounds of the reason that a server gives for a refusal, in bytes: what is read of it, what is repeated, and the
// shortest id of a session that is masked in it.
const (
	maxReasonRead = 4 << 10
	maxReason     = 200
	minMasked     = 4
)

// refusedBy returns the error for a response that is no JSON-RPC message. It reads the body of a 4xx. The pages of other
// statuses, which often come from proxies, are of no use. Session is the id of the session, which the reason may quote.
func (c Config) refusedBy(response *http.Response, session string) StatusError {
	e := StatusError{Code: response.StatusCode, MediaType: mediaType(response)}
	if e.Code/100 != 4 {
		return e
	}
	timer := time.AfterFunc(time.Second, func() { _ = response.Body.Close() })
	defer timer.Stop()
	body, _ := io.ReadAll(io.LimitReader(response.Body, maxReasonRead))
	e.Said = c.reason(string(body), e.MediaType, session)
	return e
}

// reason returns the text of a refusal as one short line without the configured secrets and the session.
func (c Config) reason(body, mediaType, session string) string {
	if strings.HasSuffix(mediaType, "html") {
		body = withoutTags(body)
	}
	text := strings.ToValidUTF8(strings.Join(strings.Fields(body), " "), "\uFFFD")
	if c.Mask != nil {
		text = c.Mask(text)
	}
	if len(session) >= minMasked { // a shorter one could be any word
		text = strings.ReplaceAll(text, session, "***")
	}
	if len(text) > maxReason {
		text = strings.ToValidUTF8(text[:maxReason], "") + "…"
	}
	return text
}

// withoutTags returns the text of a page, roughly.
func withoutTags(page string) string {
	var text strings.Builder
	for page != "" {
		before, rest, _ := strings.Cut(page, "<")
		text.WriteString(before + " ")
		_, page, _ = strings.Cut(rest, ">")
	}
	return text.String()
}
