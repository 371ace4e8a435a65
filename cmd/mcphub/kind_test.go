package main

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/admin"
	"github.com/mcphub-go/mcphub/pkg/persist"
	"github.com/mcphub-go/mcphub/pkg/session"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

func TestDerivedSessionsAreListedShownAndKilled(t *testing.T) {
	dir := t.TempDir()
	store, err := persist.OpenDir(dir+"/sessions", persist.DirConfig{})
	if err != nil {
		t.Fatal(err)
	}
	sessions := session.New(store, session.Config{})
	side := httptest.NewServer(admin.New(admin.Config{Sessions: sessions, Pool: upstream.NewPool(nil, upstream.Config{})}))
	defer side.Close()
	work := sessions.AcquireDerived(t.Context(), session.Session{ClientName: "new\x1b[2J", ClientVersion: "3"})
	work.Release()
	derived := work.ID()
	s, _, err := sessions.Create(t.Context(), session.Session{ClientName: "old"})
	if err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) (int, string, string) {
		t.Helper()
		return mcphub(t, "", append(append([]string{"sessions"}, args...), "--admin", side.URL)...)
	}

	for kind, want := range map[string]map[string]string{
		"":         {s.ID: "protocol old", derived: "derived new\\u001b[2J"},
		"protocol": {s.ID: "protocol old"},
		"derived":  {derived: "derived new\\u001b[2J"},
	} {
		args := []string{"list"}
		if kind != "" {
			args = append(args, "--kind", kind)
		}
		status, out, _ := run(args...)
		head, rows, _ := strings.Cut(out, "\n")
		got := map[string]string{}
		for line := range strings.Lines(rows) {
			fields := strings.Fields(line)
			got[fields[0]] = strings.Join(fields[1:3], " ")
		}
		if status != 0 || !strings.HasPrefix(strings.Join(strings.Fields(head), " "), "SESSION KIND CLIENT") || !maps.Equal(got, want) {
			t.Errorf("list of kind %q: %d\n%s", kind, status, out)
		}
	}
	status, out, _ := run("list", "--json", "--kind", "derived")
	var list struct {
		Sessions []struct{ SessionID, Kind string }
	}
	if err := json.Unmarshal([]byte(out), &list); err != nil || status != 0 || len(list.Sessions) != 1 || list.Sessions[0].Kind != "derived" {
		t.Errorf("list --json: %d %v\n%s", status, err, out)
	}
	for id, want := range map[string]string{derived: "derived", s.ID: "protocol"} {
		if status, out, _ := run("show", id); status != 0 || !strings.Contains(out, "kind           "+want) {
			t.Errorf("show: %d\n%s", status, out)
		}
	}
	for _, args := range [][]string{{"list", "--kind", "handle"}, {"kill", "--yes", "--kind", "handle"}} {
		if status, _, errs := run(args...); status != 2 || !strings.Contains(errs, "protocol or derived") {
			t.Errorf("%v: %d %s", args, status, errs)
		}
	}
	if status, out, errs := run("kill", "--kind", "derived", "--yes"); status != 0 || out != derived+"  ended\n" {
		t.Errorf("kill: %d %s%s", status, out, errs)
	}
	if status, out, _ := run("events", derived); status != 0 || !strings.Contains(out, "created") || !strings.Contains(out, "ended") ||
		!strings.Contains(out, "admin") {
		t.Errorf("events: %d\n%s", status, out)
	}
	if !sessions.Has(t.Context(), s.ID) {
		t.Error("the session of the other kind has ended too")
	}

	// A new one is there when the hub stops.
	sessions.AcquireDerived(t.Context(), session.Session{ClientName: "new"}).Release()
	if err := sessions.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if err := store.Close(); err != nil {
		t.Error(err)
	}
	if status, out, errs := mcphub(t, "", "sessions", "export", "--data-dir", dir); status != 0 || strings.Count(out, "\n") != 1 ||
		!strings.Contains(out, s.ID) {
		t.Errorf("export: %d %s%s", status, out, errs)
	}
}

// A hub of another version may not know what ?kind= means.
func TestAFilterByKindEndsNothingOfAHubThatKnowsNoKinds(t *testing.T) {
	side := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			t.Errorf("%s %s", r.Method, r.URL)
		}
		_, _ = w.Write([]byte(`{"sessions":[{"sessionId":"s1"}],"count":1}`))
	}))
	defer side.Close()
	status, out, errs := mcphub(t, "", "sessions", "kill", "--kind", "derived", "--yes", "--admin", side.URL)
	if status != 0 || out != "" || !strings.Contains(errs, "No session matches") {
		t.Errorf("kill: %d %s%s", status, out, errs)
	}
	if _, out, _ := mcphub(t, "", "sessions", "list", "--kind", "protocol", "--admin", side.URL); !strings.Contains(out, "s1  ") {
		t.Errorf("list: %s", out)
	}
}
