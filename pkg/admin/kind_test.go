package admin_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/session"
)

// derived serves one request without a session and returns the id of its derived
// session.
func (r *rig) derived(s session.Session) string {
	r.t.Helper()
	w := r.sessions.AcquireDerived(r.t.Context(), s)
	defer w.Release()
	return w.ID()
}

func TestSessionsAreListedByKind(t *testing.T) {
	r := start(t)
	want := map[string][]string{}
	for i := range 5 {
		s, _ := r.session(session.Session{ClientName: "probe"})
		want["protocol"] = append(want["protocol"], s.ID)
		want["derived"] = append(want["derived"], r.derived(session.Session{ClientName: fmt.Sprint(i)}))
	}
	want[""] = slices.Concat(want["protocol"], want["derived"])
	for kind, ids := range want {
		slices.Sort(ids)
		var got []string
		for path := "/api/v1/sessions?limit=2&kind=" + kind; path != ""; {
			var page struct {
				Sessions []struct{ SessionID, Kind string }
				Count    int
				Next     string
			}
			p := r.get(path, &page)
			for _, s := range page.Sessions {
				got = append(got, s.SessionID)
				if !slices.Contains(want[s.Kind], s.SessionID) {
					t.Errorf("%s is shown as %q", s.SessionID, s.Kind)
				}
			}
			if page.Count != len(ids) {
				t.Errorf("%q: %s", kind, p.body)
			}
			path = ""
			if page.Next != "" {
				path = "/api/v1/sessions?limit=2&kind=" + kind + "&after=" + page.Next
			}
		}
		if !slices.Equal(got, ids) {
			t.Errorf("kind %q: listed are %q, want %q", kind, got, ids)
		}
	}
	var problem struct{ Error string }
	if p := r.get("/api/v1/sessions?kind=handle", &problem); p.status != http.StatusBadRequest ||
		!strings.Contains(problem.Error, "protocol or derived") {
		t.Errorf("an unknown kind: %d %s", p.status, p.body)
	}
}

func TestDerivedSessionCanBeShownAndEndedButNotChanged(t *testing.T) {
	r := start(t)
	id := r.derived(session.Session{Principal: "ann", ClientName: "probe", ClientVersion: "1", Cwd: "/w", ProtocolVersion: "2026-07-28"})
	path := "/api/v1/sessions/" + id
	var one map[string]any
	p := r.get(path, &one)
	for name, want := range map[string]any{"sessionId": id, "kind": "derived", "state": "ready", "principal": "ann", "clientName": "probe",
		"clientVersion": "1", "cwd": "/w", "protocolVersion": "2026-07-28", "inFlight": 0.0, "requests": 1.0, "dirty": false} {
		if one[name] != want {
			t.Errorf("%s is %v, want %v in %s", name, one[name], want, p.body)
		}
	}
	if p := r.send(http.MethodPatch, path+"/metadata", `{"k":1}`, "Content-Type: application/json"); p.status != http.StatusConflict ||
		!strings.Contains(p.body, "derived") {
		t.Errorf("a change of its metadata: %d %s", p.status, p.body)
	}
	for _, want := range []int{http.StatusNoContent, http.StatusNotFound} {
		if p := r.do(http.MethodDelete, path); p.status != want {
			t.Errorf("DELETE: %d %s, want %d", p.status, p.body, want)
		}
	}
	var list struct{ Events []session.Event }
	if p := r.get(path+"/events", &list); len(list.Events) != 2 || list.Events[1].Detail != "admin" {
		t.Errorf("its events are %s", p.body)
	}
	if keys := r.store.keys(); len(keys) != 0 {
		t.Errorf("the store was asked for %q", keys)
	}
}

// Anybody can make many derived sessions.
func TestPageShowsDerivedSessionsLast(t *testing.T) {
	r := start(t)
	for i := range 250 {
		r.derived(session.Session{ClientName: fmt.Sprintf("many%d-%s", i, payload)})
	}
	s, _ := r.session(session.Session{ClientName: "probe"})
	p := r.do(http.MethodGet, "/")
	if n := strings.Count(p.body, "<td>derived</td>"); n != 199 || strings.Contains(p.body, "<script") {
		t.Errorf("%d derived sessions are on the page", n)
	}
	if !strings.Contains(p.body, s.ID+"</code></td><td>protocol</td>") || !strings.Contains(p.body, "<small>251") {
		t.Errorf("the page lacks %s or the number of sessions", s.ID)
	}
}
