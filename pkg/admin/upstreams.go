package admin

import (
	"net/http"

	"github.com/mcphub-go/mcphub/pkg/upstream"
)

func newUpstream(s upstream.Status) Upstream {
	u := Upstream{
		Name: s.Name, Transport: s.Transport, Isolation: s.Isolation,
		State: s.State, Since: s.Since, Error: s.Error,
		ProtocolVersion: s.ProtocolVersion, ServerInfo: s.ServerInfo, Connections: s.Connections,
		Tools: s.Tools, Prompts: s.Prompts, Resources: s.Resources, Templates: s.Templates, Warnings: []Warning{},
	}
	for _, w := range s.Warnings {
		u.Warnings = append(u.Warnings, Warning(w))
	}
	if !s.NextAttempt.IsZero() {
		u.NextAttempt = &s.NextAttempt
	}
	return u
}

func (a *api) upstreams(w http.ResponseWriter, r *http.Request) {
	list := UpstreamList{Upstreams: []Upstream{}}
	for _, s := range a.cfg.Pool.Servers() {
		list.Upstreams = append(list.Upstreams, newUpstream(s.Status()))
	}
	list.Count = len(list.Upstreams)
	a.writeJSON(w, r, http.StatusOK, list)
}

func (a *api) upstream(w http.ResponseWriter, r *http.Request) {
	s := a.cfg.Pool.Server(r.PathValue("name"))
	if s == nil {
		a.writeProblem(w, r, http.StatusNotFound, "no server of this name is configured")
		return
	}
	a.writeJSON(w, r, http.StatusOK, newUpstream(s.Status()))
}
