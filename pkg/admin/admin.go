// Package admin is the hub's side door for people and machines that operate
// it: a JSON API, health, metrics, profiles and one page.
package admin

import (
	"cmp"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/mcphub-go/mcphub/pkg/session"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

// Config is what the handler needs. Sessions and Pool must be set.
type Config struct {
	Sessions *session.Manager
	Pool     *upstream.Pool
	Metrics  http.Handler // /metrics; nil: there is none
	Endpoint string       // URL of the MCP endpoint, for the page
	Version  string
	Ready    func() error // nil, or why the hub takes no requests; nil func: always ready
	Logger   *slog.Logger // default: discard
	Payloads bool         // what messages carry may be shown, redacted, to who follows a session

	// LogLevels lists the log levels, SetLogLevels changes some of them, by
	// subsystem, until they are changed again or, if d is not 0, for as long; it
	// changes all or none. Without these functions the API has no log levels.
	LogLevels    func() []LogLevel
	SetLogLevels func(ctx context.Context, levels map[string]string, d time.Duration) error
}

// New returns the handler of the admin listener. It has no access control of
// its own beyond what stands in front of it.
func New(cfg Config) http.Handler {
	a := &api{cfg: cfg, log: cmp.Or(cfg.Logger, slog.New(slog.DiscardHandler)), watchers: make(chan struct{}, maxWatchers),
		tails: make(chan struct{}, maxTails)}
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
	if cfg.LogLevels != nil && cfg.SetLogLevels != nil {
		mux.HandleFunc("GET /api/v1/log-levels", a.logLevels)
		mux.HandleFunc("PUT /api/v1/log-levels", a.setLogLevels)
	}
	mux.HandleFunc("GET /api/", a.nowhere)
	if cfg.Metrics != nil {
		mux.Handle("GET /metrics", cfg.Metrics)
	}
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", http.NotFound) // arguments may hold secrets
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return headers(mux)
}

// api has the handlers.
type api struct {
	cfg      Config
	log      *slog.Logger
	watchers chan struct{} // a token for each stream of events
	tails    chan struct{} // a token for each stream of messages
}

// headers sets what no answer may lack.
func headers(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; frame-ancestors 'none'")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

// answer writes v as JSON.
func (a *api) answer(ctx context.Context, w http.ResponseWriter, status int, v any) {
	body, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		a.log.ErrorContext(ctx, "answer could not be encoded", "err", err)
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n'))
}

// problem is an answer that says what is wrong.
type problem struct {
	Error string `json:"error"`
}

// nowhere answers programs in the form they expect.
func (a *api) nowhere(w http.ResponseWriter, r *http.Request) {
	a.answer(r.Context(), w, http.StatusNotFound, problem{"there is nothing at this path of the API"})
}

func (a *api) health(w http.ResponseWriter, r *http.Request) {
	a.answer(r.Context(), w, http.StatusOK, map[string]string{"status": "ok"})
}

// ready says whether the hub takes requests. A server that is down does not
// make the hub unready: the others can be used.
func (a *api) ready(w http.ResponseWriter, r *http.Request) {
	if a.cfg.Ready != nil {
		if err := a.cfg.Ready(); err != nil {
			a.answer(r.Context(), w, http.StatusServiceUnavailable, map[string]string{"status": "not ready", "reason": err.Error()})
			return
		}
	}
	down := []string{}
	for _, s := range a.cfg.Pool.Servers() {
		if st := s.Status(); st.State != upstream.Up {
			down = append(down, st.Name)
		}
	}
	a.answer(r.Context(), w, http.StatusOK, map[string]any{"status": "ready", "upstreamsNotUp": down})
}
