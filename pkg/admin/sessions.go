package admin

import (
	"errors"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/session"
)

func newSession(i session.Info) Session {
	v := Session{
		SessionID: i.ID, Kind: i.Kind.String(), State: i.State,
		ClientName: i.ClientName, ClientVersion: i.ClientVersion,
		ProtocolVersion: i.ProtocolVersion, Capabilities: i.Capabilities,
		Cwd: i.Cwd, Project: i.Project, UserAgent: i.UserAgent, IP: i.IP, Principal: i.Principal,
		CreatedAt: i.CreatedAt, LastAccessedAt: i.LastAccessedAt,
		InFlight: i.InFlight, Requests: i.Requests, Dirty: i.Dirty, LogLevel: i.LogLevel, Metadata: i.Metadata,
	}
	if !i.ExpiresAt.IsZero() {
		v.ExpiresAt = i.ExpiresAt.UnixMilli()
	}
	for _, uri := range i.Subscriptions {
		v.Subscriptions = append(v.Subscriptions, instrument.RedactedURI(uri))
	}
	v.Upstreams = slices.Sorted(maps.Keys(i.Upstreams)) // names only: the session ids are secrets of the servers
	return v
}

// sessions answers with a page of the sessions, see SessionQuery: ?limit=,
// ?after= and ?kind=.
func (a *api) sessions(w http.ResponseWriter, r *http.Request) {
	query, err := parseSessionQuery(r.URL.Query())
	if err != nil {
		a.writeProblem(w, r, http.StatusBadRequest, err.Error())
		return
	}
	kinds, err := query.kinds()
	if err != nil {
		a.writeProblem(w, r, http.StatusBadRequest, err.Error())
		return
	}
	page, count, restoring := a.cfg.Sessions.List(query.After, query.Limit, kinds...)
	list := SessionList{Sessions: make([]Session, 0, len(page)), Count: count, Restoring: restoring}
	for _, i := range page {
		list.Sessions = append(list.Sessions, newSession(i))
	}
	if query.Limit > 0 && len(page) == query.Limit {
		list.Next = page[len(page)-1].ID
	}
	a.writeJSON(w, r, http.StatusOK, list)
}

func (a *api) session(w http.ResponseWriter, r *http.Request) {
	i, err := a.cfg.Sessions.Info(r.Context(), r.PathValue("sessionId"))
	if err != nil {
		a.sessionProblem(w, r, err)
		return
	}
	a.writeJSON(w, r, http.StatusOK, newSession(i))
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

// sessionProblem answers with an error of the session manager.
func (a *api) sessionProblem(w http.ResponseWriter, r *http.Request, err error) {
	status := http.StatusServiceUnavailable
	if errors.Is(err, session.ErrNotFound) {
		status = http.StatusNotFound
	}
	a.writeProblem(w, r, status, err.Error())
}
