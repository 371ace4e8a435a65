package admin_test

import (
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mcphub-go/mcphub/pkg/session"
)

func TestEveryRouteAnswers(t *testing.T) {
	r := start(t)
	s, _ := r.session(session.Session{ClientName: "probe"})
	for path, kind := range map[string]string{
		"/":                        "text/html; charset=utf-8",
		"/style.css":               "text/css; charset=utf-8",
		"/healthz":                 "application/json",
		"/readyz":                  "application/json",
		"/metrics":                 "text/plain; charset=utf-8",
		"/api/v1/sessions":         "application/json",
		"/api/v1/sessions/" + s.ID: "application/json",
		"/api/v1/upstreams":        "application/json",
		"/api/v1/upstreams/up":     "application/json",
		"/debug/pprof/":            "text/html; charset=utf-8",
		"/debug/pprof/goroutine":   "application/octet-stream",
		"/debug/pprof/symbol":      "text/plain; charset=utf-8",
	} {
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			p := r.do(method, path)
			if p.status != http.StatusOK || p.header.Get("Content-Type") != kind || (method == http.MethodHead) != (p.body == "") {
				t.Errorf("%s %s: %d %q", method, path, p.status, p.header.Get("Content-Type"))
			}
			h := p.header
			if h.Get("X-Content-Type-Options") != "nosniff" || !strings.Contains(h.Get("Content-Security-Policy"), "default-src 'none'") ||
				!strings.Contains(
					h.Get("Content-Security-Policy"),
					"frame-ancestors 'none'",
				) || h.Get("Cache-Control") != "no-store" || h.Get("Referrer-Policy") != "no-referrer" {
				t.Errorf("%s has the headers %v", path, h)
			}
		}
		for _, method := range []string{http.MethodPost, http.MethodPut} {
			if p := r.do(method, path); p.status != http.StatusMethodNotAllowed || !strings.Contains(p.header.Get("Allow"), "GET") {
				t.Errorf("%s %s: %d, Allow: %q", method, path, p.status, p.header.Get("Allow"))
			}
		}
	}
}

func TestUnknownPathsAreNotFound(t *testing.T) {
	r := start(t)
	for _, path := range []string{"/api/v1/sessions/none", "/api/v1/upstreams/none", "/api/v1/none", "/api/v1/sessions/a/b",
		"/api/", "/api/v2/sessions"} {
		var problem struct{ Error string }
		if p := r.get(path, &problem); p.status != http.StatusNotFound || problem.Error == "" {
			t.Errorf("%s: %d %s", path, p.status, p.body)
		}
	}
	for _, path := range []string{"/none", "/index.html", "/page.html", "/debug/", "/debug/pprof/cmdline", "/debug/pprof/none",
		"/debug/vars"} {
		if p := r.do(http.MethodGet, path); p.status != http.StatusNotFound || p.header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %d", path, p.status)
		}
	}
}

func TestSessionIsShownWithoutItsSecrets(t *testing.T) {
	r := start(t)
	s, token := r.session(session.Session{ClientName: "probe", ClientVersion: "1", ProtocolVersion: "2025-11-25", Principal: "ann",
		Capabilities: json.RawMessage(`{"roots":{}}`), UserAgent: "agent", IP: "127.0.0.1", Cwd: "/w", Project: "p", LogLevel: "info",
		Subscriptions: []string{"a://b"}, Metadata: map[string]json.RawMessage{"k": json.RawMessage(`1`)},
		Upstreams: map[string]session.Upstream{"z": {SessionID: "upstream-canary"}, "a": {SessionID: "upstream-canary"}}})
	var one map[string]any
	p := r.get("/api/v1/sessions/"+s.ID, &one)
	want := map[string]any{
		"sessionId":       s.ID,
		"kind":            "protocol",
		"state":           "initializing",
		"clientName":      "probe",
		"clientVersion":   "1",
		"protocolVersion": "2025-11-25",
		"principal":       "ann",
		"capabilities":    map[string]any{"roots": map[string]any{}},
		"userAgent":       "agent",
		"ip":              "127.0.0.1",
		"cwd":             "/w",
		"project":         "p",
		"logLevel":        "info",
		"subscriptions":   []any{"a://b"},
		"upstreams":       []any{"a", "z"},
		"metadata":        map[string]any{"k": 1.0},
		"createdAt":       float64(s.CreatedAt),
		"lastAccessedAt":  float64(s.LastAccessedAt),
		"inFlight":        0.0,
		"requests":        0.0,
		"dirty":           false,
		"expiresAt":       float64(s.LastAccessedAt + 30*60*1000),
	}
	if !reflect.DeepEqual(one, want) {
		t.Errorf("the session is shown as %s", p.body)
	}
	lease, err := r.sessions.Acquire(t.Context(), token, "ann")
	if err != nil {
		t.Fatal(err)
	}
	defer lease.Release()
	var all struct {
		Sessions         []map[string]any
		Count, Restoring int
	}
	p2 := r.get("/api/v1/sessions", &all)
	if all.Count != 1 || len(all.Sessions) != 1 || all.Sessions[0]["inFlight"] != 1.0 {
		t.Errorf("the sessions are shown as %s", p2.body)
	}
	_, verifier, _ := strings.Cut(token, ".")
	shown := p.body + p2.body + r.do(http.MethodGet, "/").body
	for _, secret := range []string{verifier, s.TokenHash, "tokenHash", "upstream-canary"} {
		if strings.Contains(shown, secret) {
			t.Errorf("%q is shown", secret)
		}
	}
}

func TestListShowsDirectoryProjectAndExpiry(t *testing.T) {
	r := start(t)
	s, token := r.session(session.Session{Cwd: "/w", Project: "p", Metadata: map[string]json.RawMessage{"k": json.RawMessage(`{"x":1}`)}})
	shown := func() (map[string]any, int64) {
		t.Helper()
		var all struct{ Sessions []map[string]any }
		if p := r.get("/api/v1/sessions", &all); len(all.Sessions) != 1 {
			t.Fatalf("shown are %s", p.body)
		}
		expires, _ := all.Sessions[0]["expiresAt"].(float64)
		return all.Sessions[0], int64(expires)
	}
	one, expires := shown()
	if one["cwd"] != "/w" || one["project"] != "p" || !reflect.DeepEqual(one["metadata"], map[string]any{"k": map[string]any{"x": 1.0}}) {
		t.Errorf("shown is %v", one)
	}
	if want := s.LastAccessedAt + (30 * time.Minute).Milliseconds(); expires != want {
		t.Errorf("an idle session ends at %d, want %d", expires, want)
	}
	lease, err := r.sessions.Acquire(t.Context(), token, "")
	if err != nil {
		t.Fatal(err)
	}
	defer lease.Release()
	if one, _ := shown(); one["expiresAt"] != nil {
		t.Errorf("a session in use ends at %v; want no end", one["expiresAt"])
	}
}

func TestNoSessionsAreAnEmptyList(t *testing.T) {
	r := start(t)
	if p := r.do(http.MethodGet, "/api/v1/sessions"); !strings.Contains(p.body, `"sessions": []`) {
		t.Errorf("no sessions are shown as %s", p.body)
	}
	if p := r.do(http.MethodGet, "/"); !strings.Contains(p.body, "No client is connected.") {
		t.Errorf("the page is %s", p.body)
	}
}

func TestDeleteEndsOneSession(t *testing.T) {
	r := start(t)
	s, token := r.session(session.Session{})
	other, _ := r.session(session.Session{})
	if p := r.do(http.MethodDelete, "/api/v1/sessions/"+s.ID); p.status != http.StatusNoContent || p.body != "" {
		t.Errorf("DELETE: %d %s", p.status, p.body)
	}
	if p := r.do(http.MethodDelete, "/api/v1/sessions/"+s.ID); p.status != http.StatusNotFound || !strings.Contains(p.body, `"error"`) {
		t.Errorf("DELETE again: %d %s", p.status, p.body)
	}
	if _, err := r.sessions.Acquire(t.Context(), token, ""); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("its token is answered with %v", err)
	}
	if _, ok, err := r.store.Memory.Get(t.Context(), s.ID); ok || err != nil {
		t.Errorf("it is still stored: %v", err)
	}
	if !r.sessions.Has(t.Context(), other.ID) {
		t.Error("the other session is gone too")
	}
	if logs := r.logs.String(); !strings.Contains(logs, s.ID) || !strings.Contains(logs, "through the admin API") {
		t.Errorf("the log says %s", logs)
	}
}

func TestServersAreShownWithoutAddressesAndSecrets(t *testing.T) {
	r := start(t)
	var all struct {
		Upstreams []struct {
			Name, Transport, Isolation, State, Error, ProtocolVersion string
			Connections, Tools                                        int
			NextAttempt                                               *string
			ServerInfo                                                struct{ Name string }
		}
		Count int
	}
	p := r.get("/api/v1/upstreams", &all)
	if all.Count != 2 || len(all.Upstreams) != 2 {
		t.Fatalf("shown are %s", p.body)
	}
	up, down := all.Upstreams[0], all.Upstreams[1]
	if up.Name != "up" || up.Transport != "http" || up.Isolation != "session" || up.State != "up" || up.Tools != 1 || up.Connections != 1 ||
		up.Error != "" || up.NextAttempt != nil || up.ServerInfo.Name != payload || up.ProtocolVersion != "2026-07-28" {
		t.Errorf("shown is %+v", up)
	}
	if down.Name != "down" || down.Transport != "stdio" || down.Isolation != "shared" || down.State != "down" ||
		!strings.Contains(down.Error, "could not be started") ||
		down.NextAttempt == nil {
		t.Errorf("shown is %+v", down)
	}
	one := r.do(http.MethodGet, "/api/v1/upstreams/up").body + r.do(http.MethodGet, "/api/v1/upstreams/down").body
	if shown := p.body + one + r.do(http.MethodGet, "/").body; strings.Contains(shown, "canary") {
		t.Errorf("a secret is shown: %s", shown)
	}
}

func TestReadinessDoesNotDependOnServers(t *testing.T) {
	r := start(t)
	var v struct {
		Status, Reason string
		UpstreamsNotUp []string
	}
	if p := r.get("/readyz", &v); p.status != http.StatusOK || v.Status != "ready" || !slices.Equal(v.UpstreamsNotUp, []string{"down"}) {
		t.Errorf("%d %s", p.status, p.body)
	}
	r.setReady(errors.New("sessions are being restored"))
	if p := r.get("/readyz", &v); p.status != http.StatusServiceUnavailable || v.Status != "not ready" ||
		v.Reason != "sessions are being restored" {
		t.Errorf("%d %s", p.status, p.body)
	}
	if p := r.do(http.MethodGet, "/healthz"); p.status != http.StatusOK {
		t.Errorf("not ready is not dead: %d", p.status)
	}
	r.setReady(nil)
	if p := r.get("/readyz", &v); p.status != http.StatusOK {
		t.Errorf("%d %s", p.status, p.body)
	}
}

func TestInvalidIdsAreNotFoundAndNotLookedUp(t *testing.T) {
	r := start(t)
	s, _ := r.session(session.Session{})
	before := len(r.store.keys())
	for _, id := range []string{"../x", "..", "%2e%2e", "%2e%2e%2fx", "..%2f..%2fetc%2fpasswd", "%00", "a%00b", "index", "INDEX", ".lock",
		"quarantine", "CON", "a%0d%0aX-Evil:%201", "%ff", "%3cscript%3e", strings.Repeat("a", 300), strings.Repeat("%61", 3000),
		s.ID + ".x", s.ID + "%2f..", " ", "*"} {
		for _, method := range []string{http.MethodGet, http.MethodDelete} {
			path := "/api/v1/sessions/" + strings.ReplaceAll(id, " ", "%20")
			p := r.do(method, path)
			for range 3 { // the router cleans paths
				if p.status/100 == 3 {
					p = r.do(method, p.header.Get("Location"))
				}
			}
			if p.status != http.StatusNotFound && (method != http.MethodDelete || p.status != http.StatusMethodNotAllowed) ||
				p.header.Get("X-Evil") != "" {
				t.Errorf("%s %.60q: %d %s", method, id, p.status, p.body)
			}
		}
	}
	if keys := r.store.keys(); len(keys) != before {
		t.Errorf("the store was asked for %q", keys[before:])
	}
	if !r.sessions.Has(t.Context(), s.ID) {
		t.Error("the session is gone")
	}
}

func TestForeignHostsAndOriginsAreRefused(t *testing.T) {
	r := start(t)
	s, _ := r.session(session.Session{})
	for _, header := range []string{"Host: evil.example", "Origin: http://evil.example", "Origin: null"} {
		for method, path := range map[string]string{http.MethodGet: "/metrics", http.MethodDelete: "/api/v1/sessions/" + s.ID} {
			if p := r.do(method, path, header); p.status != http.StatusForbidden || strings.Contains(p.body, "metrics 1") {
				t.Errorf("%s %s with %s: %d %s", method, path, header, p.status, p.body)
			}
		}
	}
	if !r.sessions.Has(t.Context(), s.ID) {
		t.Error("the session is gone")
	}
}

func TestListIsInTheOrderOfIds(t *testing.T) {
	r := start(t)
	want := map[string]bool{}
	for range 20 {
		s, _ := r.session(session.Session{})
		want[s.ID] = true
	}
	var all struct{ Sessions []struct{ SessionID string } }
	r.get("/api/v1/sessions", &all)
	var got []string
	for _, s := range all.Sessions {
		got = append(got, s.SessionID)
	}
	if !slices.Equal(got, slices.Sorted(maps.Keys(want))) {
		t.Errorf("listed are %q", got)
	}
}
