package upstream

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"net/url"
	"slices"
	"strings"
)

// minSecret is how long, in bytes, a configured value is that servers may not
// repeat. Shorter ones, such as 1, true or info, would take common words away.
const minSecret = 8

// masker replaces the secrets of s in what a server writes. A header such as
// "Bearer x" has its secret behind a space.
func (s Spec) masker() *strings.Replacer {
	secrets := slices.Clone(s.Secrets)
	for _, value := range s.Headers {
		secrets = append(append(secrets, value), strings.Fields(value)...)
	}
	if u, err := url.Parse(s.URL); err == nil {
		for _, values := range u.Query() {
			secrets = append(secrets, values...)
		}
		for pair := range strings.SplitSeq(u.RawQuery, "&") { // as it stands in the line that a server logs of a request
			_, value, _ := strings.Cut(pair, "=")
			secrets = append(secrets, value)
		}
		if password, ok := u.User.Password(); ok {
			secrets = append(secrets, password, url.QueryEscape(password))
		}
	}
	slices.SortFunc(secrets, func(a, b string) int { return cmp.Compare(len(b), len(a)) }) // the first that fits wins
	var pairs []string
	for _, secret := range secrets {
		if len(secret) >= minSecret {
			pairs = append(pairs, secret, "***")
		}
	}
	return strings.NewReplacer(pairs...)
}

// masked is text without the server's configured secrets.
func (s Spec) masked(text string) string {
	if s.mask == nil {
		return text
	}
	return s.mask.Replace(text)
}

// The errors of an HTTP client whose own text repeats what a server sent, or
// what the environment says.
var (
	errNoHTTP      = errors.New("its answer is no HTTP")
	errBadLocation = errors.New("it redirects to what is no URL")
	errBadProxy    = errors.New("the proxy that the environment names is no URL; check HTTP_PROXY and HTTPS_PROXY")
)

// plain is err, or another where its text holds words of others.
func plain(err error) error {
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
