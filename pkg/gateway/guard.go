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

// Guard refuses requests that a web page could have made a browser send: those for a host name that is not the hub's
// (DNS rebinding), and those from a foreign origin. Every HTTP listener needs it. Specification 2025-11-25,
// basic/transports: an invalid Origin must be answered with 403.
//
// The Host header may be a loopback name or address, the address on which the connection came in, or one of hosts. The
// Origin header may be missing, that of the same origin, or one of origins, which are written scheme://host[:port].
//
// Guard also limits the time for which the body of a request is read to bodyTimeout.
func Guard(next http.Handler, hosts, origins []string) http.Handler {
	hosts = lower(hosts)
	origins = lower(origins)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Body != http.NoBody {
			// Also for bodies that no handler reads: net/http reads the rest of a body before it answers.
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

// lower returns the names in lower case, without brackets and slashes at their ends.
func lower(names []string) []string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = strings.ToLower(strings.Trim(n, "[]/")) // an IPv6 address may be written as in a URL
	}
	return out
}

// goodHost reports whether the Host header is one of this hub.
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
	// An address cannot be rebound: it is that on which the connection came in, or it is wrong.
	local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	return ok && local.IP.Equal(ip)
}

// hostname returns a Host header without port, brackets and final dot, in lower case.
func hostname(host string) string {
	u := url.URL{Host: host}
	return strings.ToLower(strings.TrimSuffix(u.Hostname(), "."))
}

// goodOrigin reports whether a request comes from an allowed origin.
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
