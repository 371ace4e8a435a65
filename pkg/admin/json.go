package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
)

// writeJSON answers r with v.
func (a *api) writeJSON(w http.ResponseWriter, r *http.Request, status int, v any) {
	body, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		a.log.ErrorContext(r.Context(), "answer could not be encoded", "err", err)
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(VisibleJSON(body), '\n')) // people read it with curl
}

// writeProblem answers r with an error.
func (a *api) writeProblem(w http.ResponseWriter, r *http.Request, status int, text string) {
	a.writeJSON(w, r, status, Problem{text})
}

// writeBusy answers r, whose stream would be one more than may be open at once.
func (a *api) writeBusy(w http.ResponseWriter, r *http.Request, text string) {
	w.Header().Set("Retry-After", "5") // seconds
	a.writeProblem(w, r, http.StatusServiceUnavailable, text)
}

// notFound answers requests for unknown paths of the API. Programs read the
// answer, so it is JSON.
func (a *api) notFound(w http.ResponseWriter, r *http.Request) {
	a.writeProblem(w, r, http.StatusNotFound, "there is nothing at this path of the API")
}

// objectRules are the rules for the body of a request that is a JSON object.
type objectRules struct {
	mediaTypes []string // allowed; errors name the first one
	maxBytes   int64
	form       string // for errors
}

// readObject reads the body of r. If the body breaks the rules, readObject
// returns an error and the HTTP status for it.
func readObject[V any](
	w http.ResponseWriter, r *http.Request, rules objectRules,
) (object map[string]V, status int, err error) {
	mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || !slices.Contains(rules.mediaTypes, mediaType) {
		return nil, http.StatusUnsupportedMediaType, fmt.Errorf("Content-Type must be %s", rules.mediaTypes[0])
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, rules.maxBytes))
	if tooLong, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, http.StatusRequestEntityTooLarge, tooLong
	}
	if err == nil {
		err = json.Unmarshal(body, &object)
	}
	if err != nil || object == nil {
		return nil, http.StatusBadRequest, errors.New("the body must be " + rules.form)
	}
	return object, 0, nil
}
