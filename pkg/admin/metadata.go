package admin

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/mcphub-go/mcphub/pkg/session"
)

var metadataRules = objectRules{
	mediaTypes: []string{"application/json", "application/merge-patch+json"},
	maxBytes:   128 << 10,
	form:       "one JSON object",
}

// patchMetadata merges a JSON object into the metadata of a session. A member
// that is null removes its key (RFC 7396, for the top level only).
func (a *api) patchMetadata(w http.ResponseWriter, r *http.Request) {
	patch, status, err := readObject[json.RawMessage](w, r, metadataRules)
	if err != nil {
		a.writeProblem(w, r, status, err.Error())
		return
	}
	switch err := a.cfg.Sessions.UpdateMetadata(r.Context(), r.PathValue("sessionId"), patch); {
	case errors.Is(err, session.ErrMetadata):
		a.writeProblem(w, r, http.StatusUnprocessableEntity, err.Error())
	case errors.Is(err, session.ErrDerived):
		a.writeProblem(w, r, http.StatusConflict, err.Error())
	case err != nil:
		a.sessionProblem(w, r, err)
	default:
		a.session(w, r)
	}
}
