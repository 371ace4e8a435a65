package admin

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/mcphub-go/mcphub/pkg/upstream"
)

// upstreamView is a server as the API shows it: nothing of how it is reached
// that could hold a secret.
type upstreamView struct {
	Name            string             `json:"name"`
	Transport       string             `json:"transport"`
	Isolation       upstream.Isolation `json:"isolation"`
	State           upstream.State     `json:"state"`
	Since           time.Time          `json:"since"`
	Error           string             `json:"error,omitempty"`
	NextAttempt     *time.Time         `json:"nextAttempt,omitempty"`
	ProtocolVersion string             `json:"protocolVersion,omitempty"`
	ServerInfo      json.RawMessage    `json:"serverInfo,omitempty"`
	Connections     int                `json:"connections"`
	Tools           int                `json:"tools"`
	Prompts         int                `json:"prompts"`
	Resources       int                `json:"resources"`
	Templates       int                `json:"resourceTemplates"`
}

func upstreamOf(s upstream.Status) upstreamView {
	v := upstreamView{Name: s.Name, Transport: s.Transport, Isolation: s.Isolation, State: s.State, Since: s.Since,
		Error: s.Error, ProtocolVersion: s.ProtocolVersion, ServerInfo: s.ServerInfo, Connections: s.Connections,
		Tools: s.Tools, Prompts: s.Prompts, Resources: s.Resources, Templates: s.Templates}
	if !s.NextAttempt.IsZero() {
		v.NextAttempt = &s.NextAttempt
	}
	return v
}

func (a *api) upstreams(w http.ResponseWriter, r *http.Request) {
	views := []upstreamView{}
	for _, s := range a.cfg.Pool.Servers() {
		views = append(views, upstreamOf(s.Status()))
	}
	a.answer(r.Context(), w, http.StatusOK, map[string]any{"upstreams": views, "count": len(views)})
}

func (a *api) upstream(w http.ResponseWriter, r *http.Request) {
	s := a.cfg.Pool.Server(r.PathValue("name"))
	if s == nil {
		a.answer(r.Context(), w, http.StatusNotFound, problem{"no server of this name is configured"})
		return
	}
	a.answer(r.Context(), w, http.StatusOK, upstreamOf(s.Status()))
}
