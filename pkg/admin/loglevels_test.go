package admin_test

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/mcphub-go/mcphub/pkg/admin"
)

// levels stands for the log levels of a hub. It accepts every change unless
// refuse is set.
type levels struct {
	set    map[string]string
	d      time.Duration
	calls  int
	refuse error
}

func (l *levels) list() []admin.LogLevel {
	return []admin.LogLevel{{Subsystem: "default", Level: "info", Own: true},
		{Subsystem: "session", Level: "debug", Own: true, Until: time.UnixMilli(1000).UTC(), Then: "default"}}
}

func (l *levels) change(_ context.Context, set map[string]string, d time.Duration) error {
	if l.calls++; l.refuse != nil {
		return l.refuse
	}
	l.set, l.d = set, d
	return nil
}

func (l *levels) do(t *testing.T, method, contentType, body string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, "/api/v1/log-levels", strings.NewReader(body))
	r.Header.Set("Content-Type", contentType)
	w := httptest.NewRecorder()
	admin.New(admin.Config{LogLevels: l.list, SetLogLevels: l.change}).ServeHTTP(w, r)
	return w
}

func TestLogLevelsAreListed(t *testing.T) {
	w := new(levels).do(t, http.MethodGet, "", "")
	want := `{"levels":[{"subsystem":"default","level":"info","own":true},` +
		`{"subsystem":"session","level":"debug","own":true,"until":"1970-01-01T00:00:01Z","then":"default"}]}`
	var got, expected any
	if err := errors.Join(json.Unmarshal(w.Body.Bytes(), &got), json.Unmarshal([]byte(want), &expected)); err != nil {
		t.Fatal(err)
	}
	a, _ := json.Marshal(got)
	b, _ := json.Marshal(expected)
	if w.Code != http.StatusOK || string(a) != string(b) {
		t.Errorf("%d %s, want %s", w.Code, a, b)
	}
}

func TestLogLevelsAreSetWithOrWithoutADuration(t *testing.T) {
	for body, want := range map[string]levels{
		`{"session":"debug","default":"info"}`: {set: map[string]string{"session": "debug", "default": "info"}},
		`{"session":"debug","for":"10m"}`:      {set: map[string]string{"session": "debug"}, d: 10 * time.Minute},
	} {
		l := new(levels)
		w := l.do(t, http.MethodPut, "application/json; charset=utf-8", body)
		if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), `"until"`) || !maps.Equal(l.set, want.set) || l.d != want.d {
			t.Errorf("%s: %d %s, set %v for %s", body, w.Code, w.Body, l.set, l.d)
		}
	}
}

func TestInvalidLogLevelsAreRefusedWithAReason(t *testing.T) {
	for _, test := range []struct {
		contentType, body string
		status            int
		words             string
	}{
		{"text/plain", `{"session":"debug"}`, http.StatusUnsupportedMediaType, "application/json"},
		{"application/json", `{"session":"debug"`, http.StatusBadRequest, "one JSON object of strings"},
		{"application/json", `{"session":1}`, http.StatusBadRequest, "one JSON object of strings"},
		{"application/json", `null`, http.StatusBadRequest, "one JSON object of strings"},
		{"application/json", `{"session":"debug","for":"soon"}`, http.StatusBadRequest, "positive duration"},
		{"application/json", `{"session":"debug","for":"-1m"}`, http.StatusBadRequest, "positive duration"},
		{"application/json", `{"session":"debug","for":"0s"}`, http.StatusBadRequest, "positive duration"},
		{"application/json", `{"x":"` + strings.Repeat("x", 5<<10) + `"}`, http.StatusRequestEntityTooLarge, "too large"},
	} {
		l := new(levels)
		w := l.do(t, http.MethodPut, test.contentType, test.body)
		if w.Code != test.status || !strings.Contains(w.Body.String(), test.words) || l.calls != 0 {
			t.Errorf("%.40s: %d %s, %d calls", test.body, w.Code, w.Body, l.calls)
		}
	}
	l := &levels{refuse: errors.New("subsystem \"sesion\": want one of session")}
	if w := l.do(t, http.MethodPut, "application/json", `{"sesion":"debug"}`); w.Code != http.StatusBadRequest ||
		!strings.Contains(w.Body.String(), "want one of session") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestAPIWithoutLogLevelsAnswersNotFound(t *testing.T) {
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/api/v1/log-levels", nil)
	w := httptest.NewRecorder()
	admin.New(admin.Config{}).ServeHTTP(w, r)
	if w.Code != http.StatusNotFound {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
