package gateway

import (
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

// Guard refuses requests that a web page could have made a browser send: ones
// for a host name that is not the hub's (DNS rebinding), and ones from a
// foreign origin. It belongs in front of everything that listens. Specification
// 2025-11-25, basic/transports: an invalid Origin must be answered with 403.
//
// Accepted are loopback names, the address the connection came in on, and
// hosts; and besides requests without Origin those of the same origin and of
// origins, which are written scheme://host[:port].
//
// Guard also bounds the time that the body of a request may take.
func Guard(next http.Handler, hosts, origins []string) http.Handler {
	hosts = lower(hosts)
	origins = lower(origins)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Body != http.NoBody {
			// Also where nobody reads it: net/http reads what is left of a body before it answers.
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout))
		}
		switch {
		case !goodHost(r, hosts):
			refuse(w, http.StatusForbidden, "", jsonrpc.Errorf(jsonrpc.CodeInvalidRequest,
				"the Host header names no address of this hub; add it to allowedHosts if it should"))
		case !goodOrigin(r, origins):
			refuse(w, http.StatusForbidden, "", jsonrpc.Errorf(jsonrpc.CodeInvalidRequest,
				"requests from this Origin are not allowed; add it to allowedOrigins if they should be"))
		default:
			next.ServeHTTP(w, r)
		}
	})
}

func lower(names []string) []string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = strings.ToLower(strings.Trim(n, "[]/")) // an IPv6 address may be written as in a URL
	}
	return out
}

func goodHost(r *http.Request, hosts []string) bool {
	name := hostname(r.Host)
	if name == "" {
		return false
	}
	if name == "localhost" || slices.Contains(hosts, name) || slices.Contains(hosts, strings.ToLower(r.Host)) {
		return true
	}
	ip := net.ParseIP(name)
	if ip == nil {
		return false
	}
	if ip.IsLoopback() {
		return true
	}
	// An address cannot be rebound: it is the one the connection came in on or it is wrong.
	local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	return ok && local.IP.Equal(ip)
}

// hostname takes the port, the brackets and a final dot off a Host header.
func hostname(host string) string {
	u := url.URL{Host: host}
	return strings.ToLower(strings.TrimSuffix(u.Hostname(), "."))
}

func goodOrigin(r *http.Request, origins []string) bool {
	values := r.Header.Values("Origin")
	if len(values) == 0 {
		return true
	}
	if len(values) > 1 {
		return false
	}
	origin := strings.ToLower(values[0])
	if slices.Contains(origins, origin) {
		return true
	}
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	return origin == scheme+"://"+strings.ToLower(r.Host)
}
