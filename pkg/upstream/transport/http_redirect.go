package transport

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

const (
	maxRedirects      = 5   // that are followed in a row
	maxRedirectTarget = 200 // bytes of a target in an error
)

// errRedirect is in the chain of the error for a redirect that is not followed.
var errRedirect = errors.New("it redirects")

// followRedirect is the CheckRedirect of the HTTP clients. The headers that are configured for a server, its session
// and the messages to it must not go to another origin, and a POST must not become a GET, which 301, 302 and 303 make
// of it. A redirect that is not followed is the response to the request; see redirectRefusal.
func followRedirect(request *http.Request, via []*http.Request) error {
	first := via[0]
	if len(via) > maxRedirects || !keepsRequest(request.Response.StatusCode) || origin(request.URL) != origin(first.URL) {
		return http.ErrUseLastResponse
	}
	request.URL.User = first.URL.User // a target does not have the configured one, and must not have another
	request.Header.Del("Referer")     // the configured URL, whose query may have a secret
	return nil
}

// keepsRequest reports whether a redirect with that status asks for the same request, with its method and body.
func keepsRequest(status int) bool {
	return status == http.StatusTemporaryRedirect || status == http.StatusPermanentRedirect
}

// redirectRefusal returns an error that names the target if response is a redirect, which was not followed; otherwise
// nil. Mask takes secrets out of a text.
func redirectRefusal(response *http.Response, mask func(string) string) error {
	if !isRedirect(response.StatusCode) {
		return nil
	}
	refused := fmt.Errorf("%w: %w with HTTP status %s", ErrProtocol, errRedirect, statusText(response.StatusCode))
	target, err := response.Location()
	if err != nil {
		return fmt.Errorf("%w to no valid URL", refused)
	}
	to := mask(targetText(target))
	to = to[:min(len(to), maxRedirectTarget)]
	from := response.Request.URL
	switch {
	case origin(target) != origin(from):
		return fmt.Errorf("%w to %q; the hub does not follow it to another origin, where the configured headers must not go: "+
			"if the server is there, make that its url", refused, to)
	case !keepsRequest(response.StatusCode):
		return fmt.Errorf("%w to %q; the hub follows 307 and 308 only: if the server is there, make that its url", refused, to)
	}
	return fmt.Errorf("%w more than %d times, at last to %q; check its url", refused, maxRedirects, to)
}

func isRedirect(status int) bool {
	return keepsRequest(status) ||
		slices.Contains([]int{http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther}, status)
}

// targetText is the target of a redirect without what may be a secret: userinfo, query and fragment.
func targetText(target *url.URL) string {
	u := url.URL{Scheme: target.Scheme, Host: target.Host, Path: target.Path, RawPath: target.RawPath, Opaque: target.Opaque}
	return u.String()
}

// origin returns scheme, host and port, see RFC 6454 section 4.
func origin(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return u.Scheme + "://" + strings.ToLower(u.Hostname()) + ":" + port
}
