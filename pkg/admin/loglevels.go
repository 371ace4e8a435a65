package admin

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"time"
)

// maxLevels bounds the body of a change of log levels, in bytes.
const maxLevels = 4 << 10

// LogLevel is the log level of one subsystem.
type LogLevel struct {
	Subsystem string    `json:"subsystem"`      // or default
	Level     string    `json:"level"`          // that holds now
	Own       bool      `json:"own"`            // false: it is the default's
	Until     time.Time `json:"until,omitzero"` // when Then takes over
	Then      string    `json:"then,omitempty"` // a level, or default
}

func (a *api) logLevels(w http.ResponseWriter, r *http.Request) {
	a.answer(r.Context(), w, http.StatusOK, map[string]any{"levels": a.cfg.LogLevels()})
}

// setLogLevels takes levels by subsystem, such as {"session":"debug","for":"10m"},
// and answers with all levels as they are then.
func (a *api) setLogLevels(w http.ResponseWriter, r *http.Request) {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		a.answer(r.Context(), w, http.StatusUnsupportedMediaType, problem{"Content-Type must be application/json"})
		return
	}
	var levels map[string]string
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxLevels))
	if err == nil {
		err = json.Unmarshal(body, &levels)
	}
	if tooLong, ok := errors.AsType[*http.MaxBytesError](err); ok {
		a.answer(r.Context(), w, http.StatusRequestEntityTooLarge, problem{tooLong.Error()})
		return
	} else if err != nil || levels == nil {
		a.answer(r.Context(), w, http.StatusBadRequest, problem{`the body must be one JSON object of strings, such as {"session":"debug","for":"10m"}`})
		return
	}
	var d time.Duration
	if text, ok := levels["for"]; ok {
		if d, err = time.ParseDuration(text); err != nil || d <= 0 {
			a.answer(r.Context(), w, http.StatusBadRequest, problem{`"for" must be a positive duration, such as "10m"`})
			return
		}
		delete(levels, "for")
	}
	if err := a.cfg.SetLogLevels(r.Context(), levels, d); err != nil {
		a.answer(r.Context(), w, http.StatusBadRequest, problem{err.Error()})
		return
	}
	a.logLevels(w, r)
}
