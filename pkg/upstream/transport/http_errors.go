package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
)

// The errors of an HTTP client whose own text repeats bytes of a server or of the environment.
var (
	errNoHTTP      = errors.New("its response is not HTTP")
	errBadLocation = errors.New("its redirect is not a valid URL")
	errBadProxy    = errors.New("the proxy in the environment is not a valid URL; check HTTP_PROXY and HTTPS_PROXY")
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
	case errors.Is(err, ErrSessionGone), errors.Is(err, errRedirect):
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
