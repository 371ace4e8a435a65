package admin

import (
	"net/http"

	"github.com/mcphub-go/mcphub/pkg/upstream"
)

// health reports that the process can answer requests.
func (a *api) health(w http.ResponseWriter, r *http.Request) {
	a.writeJSON(w, r, http.StatusOK, Health{Status: "ok"})
}

// ready reports whether the hub takes requests. A server that is down does not
// make the hub unready: clients can use the others. With ?verbose the answer
// has all servers.
func (a *api) ready(w http.ResponseWriter, r *http.Request) {
	if a.cfg.Ready != nil {
		if err := a.cfg.Ready(); err != nil {
			a.writeJSON(w, r, http.StatusServiceUnavailable, Readiness{Status: "not ready", Reason: err.Error()})
			return
		}
	}
	answer := Readiness{Status: "ready", UpstreamsNotUp: []string{}}
	verbose := r.URL.Query().Has("verbose")
	for _, s := range a.cfg.Pool.Servers() {
		st := s.Status()
		if st.State != upstream.Up {
			answer.UpstreamsNotUp = append(answer.UpstreamsNotUp, st.Name)
		}
		if verbose {
			answer.Upstreams = append(answer.Upstreams,
				UpstreamState{Name: st.Name, State: st.State, Since: st.Since, Error: st.Error, Warnings: len(st.Warnings)})
		}
	}
	a.writeJSON(w, r, http.StatusOK, answer)
}
