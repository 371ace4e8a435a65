package admin

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"

	"github.com/mcphub-go/mcphub/pkg/session"
)

// maxPatch bounds the body of a change of metadata, in bytes.
const maxPatch = 128 << 10

// patchMetadata merges a JSON object into a session's metadata; null removes a
// key (RFC 7396, for the top level).
func (a *api) patchMetadata(w http.ResponseWriter, r *http.Request) {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || (kind != "application/json" && kind != "application/merge-patch+json") {
		a.answer(r.Context(), w, http.StatusUnsupportedMediaType, problem{"Content-Type must be application/json"})
		return
	}
	var patch map[string]json.RawMessage
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxPatch))
	if err == nil {
		err = json.Unmarshal(body, &patch)
	}
	if tooLong, ok := errors.AsType[*http.MaxBytesError](err); ok {
		a.answer(r.Context(), w, http.StatusRequestEntityTooLarge, problem{tooLong.Error()})
		return
	} else if err != nil || patch == nil {
		a.answer(r.Context(), w, http.StatusBadRequest, problem{"the body must be one JSON object"})
		return
	}
	id := r.PathValue("sessionId")
	switch err := a.cfg.Sessions.UpdateMetadata(r.Context(), id, patch); {
	case errors.Is(err, session.ErrMetadata):
		a.answer(r.Context(), w, http.StatusUnprocessableEntity, problem{err.Error()})
	case errors.Is(err, session.ErrDerived):
		a.answer(r.Context(), w, http.StatusConflict, problem{err.Error()})
	case err != nil:
		a.sessionProblem(w, r, err)
	default:
		a.session(w, r)
	}
}
