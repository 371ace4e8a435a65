package admin

import (
	"net/http"
	"time"
)

var logLevelRules = objectRules{
	mediaTypes: []string{"application/json"},
	maxBytes:   4 << 10,
	form:       `one JSON object of strings, such as {"session":"debug","for":"10m"}`,
}

// durationMember is the member of a change that says for how long it holds.
// The others are names of subsystems.
const durationMember = "for"

func (a *api) logLevels(w http.ResponseWriter, r *http.Request) {
	a.writeJSON(w, r, http.StatusOK, LogLevelList{Levels: a.cfg.LogLevels()})
}

// setLogLevels sets levels by subsystem, such as {"session":"debug","for":"10m"},
// and answers with the levels of all subsystems after the change.
func (a *api) setLogLevels(w http.ResponseWriter, r *http.Request) {
	levels, status, err := readObject[string](w, r, logLevelRules)
	if err != nil {
		a.writeProblem(w, r, status, err.Error())
		return
	}
	var d time.Duration
	if text, ok := levels[durationMember]; ok {
		if d, err = time.ParseDuration(text); err != nil || d <= 0 {
			a.writeProblem(w, r, http.StatusBadRequest, `"for" must be a positive duration, such as "10m"`)
			return
		}
		delete(levels, durationMember)
	}
	if err := a.cfg.SetLogLevels(r.Context(), levels, d); err != nil {
		a.writeProblem(w, r, http.StatusBadRequest, err.Error())
		return
	}
	a.logLevels(w, r)
}
