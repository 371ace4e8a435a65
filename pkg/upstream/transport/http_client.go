package transport

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// HTTPClients are the HTTP clients that all connections to one server share.
type HTTPClients struct {
	requests *http.Client
	// noBody is for messages that are answered without a body. net/http makes their TCP connection available again
	// before it returns the response, and a deadline that passes in between ends the next request on the connection.
	// So that must not be a call.
	noBody *http.Client
}

// NewHTTPClients makes the clients of one server.
func NewHTTPClients() *HTTPClients { return &HTTPClients{newHTTPClient(), newHTTPClient()} }

// CloseIdle closes the TCP connections that are not in use.
func (c *HTTPClients) CloseIdle() {
	c.requests.CloseIdleConnections()
	c.noBody.CloseIdleConnections()
}

// newHTTPClient makes a client that follows no redirects: they could send the configured headers to another host.
func newHTTPClient() *http.Client {
	t := http.DefaultTransport.(*http.Transport).Clone() //nolint:forcetypeassert // documented
	t.MaxIdleConns, t.MaxIdleConnsPerHost = 0, 64
	t.IdleConnTimeout = 4 * time.Second // shorter than that of servers: Node.js closes after 5 s, perhaps during a request
	return &http.Client{
		Transport:     t,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// setHeaders sets the headers that all HTTP requests have.
func (c Config) setHeaders(ctx context.Context, h http.Header) {
	if c.InjectTrace != nil {
		c.InjectTrace(ctx, h)
	}
	for name, value := range c.Headers {
		h.Set(name, value)
	}
}

// The errors of an HTTP client whose own text repeats bytes of a server or of the environment.
var (
	errNoHTTP      = errors.New("its answer is no HTTP")
	errBadLocation = errors.New("it redirects to what is no URL")
	errBadProxy    = errors.New("the proxy that the environment names is no URL; check HTTP_PROXY and HTTPS_PROXY")
)

// withoutURL drops the URL from the error of an HTTP client, which may contain a secret, and what the error repeats of
// a response.
func withoutURL(err error) error {
	e, ok := errors.AsType[*url.Error](err)
	if !ok {
		return err
	}
	err = e.Err
	_, isNet := errors.AsType[net.Error](err)
	switch text := err.Error(); {
	case isNet, errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, context.Canceled):
		return err
	case strings.HasPrefix(text, "net/http: HTTP/1.x transport connection broken: "):
		return errNoHTTP
	case strings.HasPrefix(text, "failed to parse Location header"):
		return errBadLocation
	case strings.HasPrefix(text, "invalid proxy address"):
		return errBadProxy
	}
	return err
}

// classify wraps the failure of an HTTP request in an error of this package. A request that failed before there was a
// TCP connection was not sent.
func classify(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, ErrSessionGone):
		return err
	case isUnsent(err):
		return fmt.Errorf("%w: %w", ErrDown, err)
	}
	return fmt.Errorf("%w: %w", ErrLost, err)
}

// isUnsent reports whether an HTTP request failed before there was a connection to send it over.
func isUnsent(err error) bool {
	if op, ok := errors.AsType[*net.OpError](err); ok && (op.Op == "dial" || op.Op == "proxyconnect") {
		return true
	}
	_, untrusted := errors.AsType[*tls.CertificateVerificationError](err)
	_, noTLS := errors.AsType[tls.RecordHeaderError](err)
	return untrusted || noTLS || errors.Is(err, http.ErrSchemeMismatch)
}

// hubRefused returns an error for a response with status 401 or 403, else nil.
func hubRefused(response *http.Response) error {
	switch response.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		return fmt.Errorf("%w: it refuses the hub with HTTP status %s; check the headers configured for it",
			ErrProtocol, statusText(response.StatusCode))
	}
	return nil
}

// discard reads the rest of a response, 64 KiB and one second at most, so that its TCP connection can be used again,
// and closes it.
func discard(response *http.Response) {
	timer := time.AfterFunc(time.Second, func() { _ = response.Body.Close() })
	defer timer.Stop()
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, 64<<10))
	_ = response.Body.Close()
}

// mayMentionSession reports whether a message that the hub sent has the word "session" in it, or escapes that could
// spell it. A server that repeats the message then repeats the word.
func mayMentionSession(message []byte) bool {
	return mentionsSession(message) || bytes.Contains(message, []byte(`\u`))
}

func mentionsSession(text []byte) bool {
	return bytes.Contains(bytes.ToLower(text), []byte("session"))
}
