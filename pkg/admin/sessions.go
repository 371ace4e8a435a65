package admin

import (
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/session"
)

// sessionView is a session as the API shows it: the stored record without what
// opens it, and what is known while it runs. Times are ms since 1970.
type sessionView struct {
	SessionID       string                     `json:"sessionId"`
	Kind            session.Kind               `json:"kind"`
	State           session.State              `json:"state"`
	ClientName      string                     `json:"clientName,omitempty"`
	ClientVersion   string                     `json:"clientVersion,omitempty"`
	ProtocolVersion string                     `json:"protocolVersion,omitempty"`
	Capabilities    json.RawMessage            `json:"capabilities,omitempty"`
	Cwd             string                     `json:"cwd,omitempty"`
	Project         string                     `json:"project,omitempty"`
	UserAgent       string                     `json:"userAgent,omitempty"`
	IP              string                     `json:"ip,omitempty"`
	Principal       string                     `json:"principal,omitempty"`
	CreatedAt       int64                      `json:"createdAt"`
	LastAccessedAt  int64                      `json:"lastAccessedAt"`
	ExpiresAt       int64                      `json:"expiresAt,omitempty"`
	InFlight        int                        `json:"inFlight"`
	Requests        int64                      `json:"requests"`
	Dirty           bool                       `json:"dirty"`
	LogLevel        string                     `json:"logLevel,omitempty"`
	Subscriptions   []string                   `json:"subscriptions,omitempty"`
	Upstreams       []string                   `json:"upstreams,omitempty"`
	Metadata        map[string]json.RawMessage `json:"metadata,omitempty"`
}

func view(i session.Info) sessionView {
	v := sessionView{SessionID: i.ID, Kind: i.Kind, State: i.State, ClientName: i.ClientName, ClientVersion: i.ClientVersion,
		ProtocolVersion: i.ProtocolVersion, Capabilities: i.Capabilities, Cwd: i.Cwd, Project: i.Project,
		UserAgent: i.UserAgent, IP: i.IP, Principal: i.Principal, CreatedAt: i.CreatedAt, LastAccessedAt: i.LastAccessedAt,
		InFlight: i.InFlight, Requests: i.Requests, Dirty: i.Dirty, LogLevel: i.LogLevel,
		Metadata: i.Metadata}
	if !i.ExpiresAt.IsZero() {
		v.ExpiresAt = i.ExpiresAt.UnixMilli()
	}
	for _, uri := range i.Subscriptions {
		v.Subscriptions = append(v.Subscriptions, instrument.RedactedURI(uri))
	}
	v.Upstreams = slices.Sorted(maps.Keys(i.Upstreams)) // without their session ids, which open sessions elsewhere
	return v
}

// sessions lists the sessions in the order of their ids: all of them, or with
// ?limit= that many after the one named by ?after=, and next to go on from;
// with ?kind= those of one kind.
func (a *api) sessions(w http.ResponseWriter, r *http.Request) {
	limit := 0
	if text := r.URL.Query().Get("limit"); text != "" {
		var err error
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 {
			a.answer(r.Context(), w, http.StatusBadRequest, problem{"limit must be a positive number"})
			return
		}
	}
	var kinds []session.Kind
	if text := r.URL.Query().Get("kind"); text != "" {
		var kind session.Kind
		if err := kind.UnmarshalText([]byte(text)); err != nil {
			a.answer(r.Context(), w, http.StatusBadRequest, problem{err.Error()})
			return
		}
		kinds = append(kinds, kind)
	}
	page, count, restoring := a.cfg.Sessions.List(r.URL.Query().Get("after"), limit, kinds...)
	views := make([]sessionView, 0, len(page))
	for _, i := range page {
		views = append(views, view(i))
	}
	list := map[string]any{"sessions": views, "count": count, "restoring": restoring}
	if limit > 0 && len(page) == limit {
		list["next"] = page[len(page)-1].ID
	}
	a.answer(r.Context(), w, http.StatusOK, list)
}

func (a *api) session(w http.ResponseWriter, r *http.Request) {
	i, err := a.cfg.Sessions.Info(r.Context(), r.PathValue("sessionId"))
	if err != nil {
		a.sessionProblem(w, r, err)
		return
	}
	a.answer(r.Context(), w, http.StatusOK, view(i))
}

func (a *api) endSession(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	ended, err := a.cfg.Sessions.End(r.Context(), r.PathValue("sessionId"), session.Admin)
	switch {
	case err != nil:
		a.sessionProblem(w, r, err)
	case !ended:
		a.sessionProblem(w, r, session.ErrNotFound)
	default:
		a.log.InfoContext(r.Context(), "session ended through the admin API", "session", r.PathValue("sessionId"),
			"took", time.Since(start).String())
		w.WriteHeader(http.StatusNoContent)
	}
}

func (a *api) sessionProblem(w http.ResponseWriter, r *http.Request, err error) {
	status := http.StatusServiceUnavailable
	if errors.Is(err, session.ErrNotFound) {
		status = http.StatusNotFound
	}
	a.answer(r.Context(), w, status, problem{err.Error()})
}
