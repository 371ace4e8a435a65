package gateway

import (
	"cmp"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

// Guard decides which requests an HTTP listener takes from web pages. Every listener needs one. It refuses
//
//   - requests for a host name that is not the hub's (DNS rebinding),
//   - requests of pages of foreign origins; specification 2025-11-25, basic/transports: an invalid Origin must be
//     answered with 403,
//   - requests that a foreign page causes without an Origin header, such as those of images and links. Browsers tell
//     them by Sec-Fetch-Site, but only where they trust the connection: over TLS, and to loopback.
//
// Pages of Origins may use the listener, so they get the answers to preflights and the permission to read (CORS).
//
// The Guard also limits the time for which the body of a request is read to bodyTimeout.
type Guard struct {
	Hosts      []string // accepted in the Host header, besides loopback and the address on which the connection came in
	Origins    []string // accepted in the Origin header, besides the same origin: scheme://host[:port]
	OriginsKey string   // the configuration key of Origins, for messages; default allowedOrigins
	Methods    []string // that pages of Origins may use
	Pages      []string // paths of pages for people, to which every site may link

	Listener   string                // the label of the metric
	Logger     *slog.Logger          // default: discard
	Registerer prometheus.Registerer // default: the metric is not exported
}

// hostsKey is the configuration key of Guard.Hosts.
const hostsKey = "allowedHosts"

// The reasons of refusals, values of the label reason.
const (
	badHost   = "host"
	badOrigin = "origin"
	badSite   = "site"
)

// guarded is a handler behind a Guard.
type guarded struct {
	Guard
	log     *slog.Logger
	refused *prometheus.CounterVec // by reason
	next    http.Handler
}

// Handler returns next behind the Guard.
func (g Guard) Handler(next http.Handler) http.Handler {
	h := &guarded{Guard: g, log: cmp.Or(g.Logger, slog.New(slog.DiscardHandler)), next: next,
		refused: promauto.With(g.Registerer).NewCounterVec(prometheus.CounterOpts{Name: "mcphub_http_requests_refused_total",
			Help:        "Requests of web pages that were refused, by what was wrong with them.",
			ConstLabels: prometheus.Labels{"listener": g.Listener}}, []string{"reason"})}
	for _, reason := range []string{badHost, badOrigin, badSite} {
		h.refused.WithLabelValues(reason)
	}
	h.OriginsKey = cmp.Or(g.OriginsKey, "allowedOrigins")
	h.Hosts = each(g.Hosts, normalHost)
	h.Origins = each(g.Origins, normalOrigin)
	return h
}

func (h *guarded) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Body != http.NoBody {
		// Also for bodies that no handler reads: net/http reads the rest of a body before it answers.
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout))
	}
	listed := h.isListed(r)
	permitReading(w.Header(), r, listed) // first of all: a page must be able to read refusals, too
	switch {
	case !h.goodHost(r):
		h.refuse(w, r, badHost, "the Host header names no address of this hub; add it to "+hostsKey+" if it should", hostsKey)
	case !listed && !goodOrigin(r):
		h.refuse(w, r, badOrigin, "requests from this Origin are not allowed; add it to "+h.OriginsKey+" if they should be", h.OriginsKey)
	case !listed && !goodSite(r) && !h.isPage(r):
		h.refuse(w, r, badSite, "a page of another site has caused this request; if its origin may use the hub, add it to "+
			h.OriginsKey+" and let it send the Origin header", h.OriginsKey)
	case isPreflight(r):
		answerPreflight(w, r, h.Methods)
	default:
		h.next.ServeHTTP(w, r)
	}
}

// refuse rejects a request, counts it and says in the log which key accepts such requests. The log limits how many of
// these records there are.
func (h *guarded) refuse(w http.ResponseWriter, r *http.Request, reason, text, key string) {
	h.refused.WithLabelValues(reason).Inc()
	h.log.WarnContext(r.Context(), "a request was refused; it came from a web page, or for a name that is not the hub's",
		"reason", reason, "key", key, "host", clip(r.Host), "origin", clip(strings.Join(r.Header.Values("Origin"), ", ")),
		"site", clip(r.Header.Get(fetchSite)), "remote", r.RemoteAddr)
	refuse(w, http.StatusForbidden, "", jsonrpc.Errorf(jsonrpc.CodeInvalidRequest, "%s", text))
}

// isListed reports whether the request comes from a page of one of the origins.
func (h *guarded) isListed(r *http.Request) bool {
	values := r.Header.Values("Origin")
	return len(values) == 1 && slices.Contains(h.Origins, strings.ToLower(values[0]))
}

// isPage reports whether the request is for a page for people, and shows it in a tab of its own.
func (h *guarded) isPage(r *http.Request) bool {
	return r.Method == http.MethodGet && r.Header.Get("Sec-Fetch-Mode") == "navigate" && r.Header.Get("Sec-Fetch-Dest") == "document" &&
		slices.Contains(h.Pages, r.URL.Path)
}

// goodHost reports whether the Host header is one of this hub.
func (h *guarded) goodHost(r *http.Request) bool {
	name := hostname(r.Host)
	if name == "" {
		return false
	}
	if name == "localhost" || slices.Contains(h.Hosts, name) || slices.Contains(h.Hosts, strings.ToLower(r.Host)) {
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

// goodOrigin reports whether a request has no Origin header, or that of the same origin.
func goodOrigin(r *http.Request) bool {
	values := r.Header.Values("Origin")
	if len(values) != 1 {
		return len(values) == 0
	}
	return strings.ToLower(values[0]) == schemeOf(r)+"://"+strings.ToLower(r.Host)
}

// fetchSite is the header with which browsers say whose page has caused a request. Pages cannot set it.
const fetchSite = "Sec-Fetch-Site"

// goodSite reports whether no page of another origin has caused the request. Browsers say none if the person has: with
// an address or a bookmark.
func goodSite(r *http.Request) bool {
	for _, site := range r.Header.Values(fetchSite) {
		if site != "none" && site != "same-origin" {
			return false
		}
	}
	return true
}

// schemeOf returns the scheme of the URL of a request.
func schemeOf(r *http.Request) string {
	if r.TLS != nil {
		return "https"
	}
	return "http"
}

// hostname returns a Host header without port, brackets and final dot, in lower case.
func hostname(host string) string {
	u := url.URL{Host: host}
	return strings.ToLower(strings.TrimSuffix(u.Hostname(), "."))
}

// normalHost returns a configured host name as hostname does: an IPv6 address may be written as in a URL.
func normalHost(name string) string { return strings.ToLower(strings.Trim(name, "[]/")) }

// normalOrigin returns a configured origin as browsers write it: without a slash at the end and without the port that
// its scheme has anyway.
func normalOrigin(origin string) string {
	origin = strings.ToLower(strings.TrimRight(origin, "/"))
	for scheme, port := range map[string]string{"http://": ":80", "https://": ":443"} {
		if strings.HasPrefix(origin, scheme) {
			return strings.TrimSuffix(origin, port)
		}
	}
	return origin
}

// each returns the results of fn.
func each(names []string, fn func(string) string) []string {
	out := make([]string, len(names))
	for i, name := range names {
		out[i] = fn(name)
	}
	return out
}
