// Package admin is the HTTP interface for the operators of a hub: a JSON API,
// health and readiness, metrics, profiles, and a page for people. New makes its
// handler, Client is the Go client of its API, and both use the same types.
//
// The handler starts no goroutines. Each open event stream holds the goroutine
// of its request until the client disconnects, the session ends, or the hub
// stops.
package admin

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mcphub-go/mcphub/pkg/session"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

// Config configures the handler. Sessions and Pool must be set.
type Config struct {
	Sessions *session.Manager
	Pool     *upstream.Pool
	Metrics  http.Handler // serves /metrics; nil: there is no such path
	Endpoint string       // URL of the MCP endpoint, shown on the page
	Version  string       // of the hub, shown on the page
	Ready    func() error // returns why the hub takes no requests, or nil; default: always ready
	Logger   *slog.Logger // default: discard
	Payloads bool         // streams of messages may include payloads, redacted

	Registerer prometheus.Registerer // default: metrics are not exported

	// LogLevels returns the log levels of all subsystems. SetLogLevels changes
	// the levels of some subsystems, by name: all of them or, on an error, none.
	// If d is not 0, the levels from before return after d. If either function
	// is nil, the API has no log levels.
	LogLevels    func() []LogLevel
	SetLogLevels func(ctx context.Context, levels map[string]string, d time.Duration) error
}

// New returns the handler of the admin listener. The handler does no
// authentication: the caller wraps it in what checks hosts, origins and users.
func New(cfg Config) http.Handler {
	log := cmp.Or(cfg.Logger, slog.New(slog.DiscardHandler))
	a := &api{cfg: cfg, log: log, places: newPlaces(log, cfg.Registerer)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", a.page)
	mux.HandleFunc("GET /style.css", a.style)
	mux.HandleFunc("GET /healthz", a.health)
	mux.HandleFunc("GET /readyz", a.ready)
	mux.HandleFunc("GET /api/v1/sessions", a.sessions)
	mux.HandleFunc("GET /api/v1/sessions/{sessionId}", a.session)
	mux.HandleFunc("DELETE /api/v1/sessions/{sessionId}", a.endSession)
	mux.HandleFunc("PATCH /api/v1/sessions/{sessionId}/metadata", a.patchMetadata)
	mux.HandleFunc("GET /api/v1/sessions/{sessionId}/events", a.sessionEvents)
	mux.HandleFunc("GET /api/v1/sessions/{sessionId}/messages", a.messages)
	mux.HandleFunc("GET /api/v1/events", a.events)
	mux.HandleFunc("GET /api/v1/upstreams", a.upstreams)
	mux.HandleFunc("GET /api/v1/upstreams/{name}", a.upstream)
	mux.HandleFunc("POST /api/v1/upstreams/{name}/refresh", a.refresh)
	if cfg.LogLevels != nil && cfg.SetLogLevels != nil {
		mux.HandleFunc("GET /api/v1/log-levels", a.logLevels)
		mux.HandleFunc("PUT /api/v1/log-levels", a.setLogLevels)
	}
	mux.HandleFunc("GET /api/", a.notFound)
	a.handleWrongAddress(mux)
	if cfg.Metrics != nil {
		mux.Handle("GET /metrics", cfg.Metrics)
	}
	mux.HandleFunc("GET /debug/pprof/", a.namedProfile)
	mux.HandleFunc("GET /debug/pprof/cmdline", http.NotFound) // arguments may hold secrets
	mux.HandleFunc("GET /debug/pprof/profile", a.cpuProfile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", a.executionTrace)
	return withSecurityHeaders(withWriteTimeout(mux))
}

// Methods returns the methods of the API.
func Methods() []string {
	return []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete}
}

// Pages returns the paths of the pages for people.
func Pages() []string { return []string{"/"} }

// api holds the handlers.
type api struct {
	cfg    Config
	log    *slog.Logger
	places map[string]*places // of requests that take long, by kind
}

// writeTimeout is the time for an answer that is written as a whole. A client that does not read must not keep it, and
// what it is made of, for ever.
const writeTimeout = 30 * time.Second

// withWriteTimeout limits the time of answers to writeTimeout. Event streams and profiles set limits of their own.
func withWriteTimeout(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout))
		next.ServeHTTP(w, r)
	})
}

// withSecurityHeaders sets the headers that every answer must have.
func withSecurityHeaders(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; frame-ancestors 'none'")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}
