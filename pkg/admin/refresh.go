package admin

import (
	"context"
	"net/http"
	"time"
)

// refreshTimeout bounds a request to read the lists of a server again. It is shorter than the callTimeout of Client.
const refreshTimeout = 25 * time.Second

// refresh has the lists of a server read again, and answers with the server as it is then. A list that could not be
// read is one of its warnings.
func (a *api) refresh(w http.ResponseWriter, r *http.Request) {
	s := a.cfg.Pool.Server(r.PathValue("name"))
	if s == nil {
		a.writeProblem(w, r, http.StatusNotFound, "no server of this name is configured")
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), refreshTimeout)
	defer cancel()
	if err := s.Refresh(ctx); err != nil {
		status, text := http.StatusBadGateway, "the lists could not be read again: "+err.Error()
		if ctx.Err() != nil {
			status, text = http.StatusGatewayTimeout, "the server has not answered in "+refreshTimeout.String()+"; the hub still waits"
		}
		a.writeProblem(w, r, status, text)
		return
	}
	a.log.InfoContext(r.Context(), "the lists of a server were read again for an operator", "upstream", s.Name())
	a.writeJSON(w, r, http.StatusOK, newUpstream(s.Status()))
}
