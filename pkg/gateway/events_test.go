package gateway

import (
	"encoding/json"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/persist"
	"github.com/mcphub-go/mcphub/pkg/session"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

func TestASessionNotesWhatBecameOfItsServers(t *testing.T) {
	web := newWeb(t)
	dir := filepath.Join(t.TempDir(), "sessions")
	open := func() *rig {
		store, err := persist.OpenDir(dir, persist.DirConfig{})
		if err != nil {
			t.Fatal(err)
		}
		return start(t, setup{store: store, specs: []upstream.Spec{stdio(t, "one"), web.spec("web")}})
	}
	r := open()
	c := r.connect()
	c.tool("one__echo", `{}`) // over the connection that all share
	for range 2 {
		c.tool("web__count", `{}`)
	}
	want := []string{"created probe", "initialised", "upstream_initialised web"}
	if got := c.happened(); !slices.Equal(got, want) {
		t.Errorf("noted was %q, want %q", got, want)
	}
	web.forget(web.session("tools/call"))
	c.tool("web__count", `{}`)
	want = append(want, "upstream_reinitialised web")
	if got := c.happened(); !slices.Equal(got, want) {
		t.Errorf("noted was %q, want %q", got, want)
	}
	r.stop()

	r = open()
	c = &peer{rig: r, token: c.token, id: c.id}
	c.tool("web__count", `{}`) // goes on with the session at the server
	if got, want := c.happened(), []string{"restored"}; !slices.Equal(got, want) {
		t.Errorf("noted was %q, want %q", got, want)
	}
	web.forget(web.session("tools/call"))
	c.tool("web__count", `{}`)
	if got, want := c.happened(), []string{"restored", "upstream_reinitialised web"}; !slices.Equal(got, want) {
		t.Errorf("noted was %q, want %q", got, want)
	}
}

func TestAServerWhoseSessionCannotBeKeptIsNotNoted(t *testing.T) {
	web := newWeb(t)
	store := &moody{}
	r := start(t, setup{store: store, specs: []upstream.Spec{web.spec("web")}})
	c := r.connect()
	store.fails.Store(true)
	if e := c.call("1", "tools/call", `{"name":"web__count"}`).failed(t); !strings.Contains(e.Message, "could not be kept") {
		t.Errorf("answered %v", e)
	}
	store.fails.Store(false)
	noted := func() (n int) {
		for _, what := range c.happened() {
			if strings.HasPrefix(what, "upstream_") {
				n++
			}
		}
		return n
	}
	if noted() != 0 {
		t.Errorf("noted was %q", c.happened())
	}
	until(t, "the server is tried again", func() bool {
		return c.call("1", "tools/call", `{"name":"web__count"}`).answer(t).Error == nil
	})
	if noted() != 1 {
		t.Errorf("noted was %q", c.happened())
	}
}

// What people are shown of a session must not be enough to take it, nor the
// sessions that servers gave it.
func TestEventsAndLogsShowNothingThatOpensASession(t *testing.T) {
	web := newWeb(t)
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one"), web.spec("web")},
		sessions: func(c *session.Config) { c.MaxSessions = 1 }, gateway: func(c *Config) { c.Principal = func(*http.Request) string { return "ann" } }})
	watch := r.sessions.WatchEvents(64)
	defer watch.Close()
	c := r.rooted()
	s := c.listen()
	c.answers(s.asked(), oneRoot)
	c.tool("web__count", `{}`)
	secrets := []string{web.session("tools/call")}
	web.forget(secrets[0])
	c.tool("web__count", `{}`)
	secrets = append(secrets, web.session("tools/call"))
	record, err := r.sessions.Get(t.Context(), c.id)
	if err != nil {
		t.Fatal(err)
	}
	_, verifier, _ := strings.Cut(c.token, ".")
	secrets = append(secrets, verifier, record.TokenHash)
	shown := r.send(http.MethodPost, initializeBody).body
	c.send(http.MethodDelete, "", "Mcp-Session-Id: "+c.token)
	s.ended()
	r.stop()

	b, err := json.Marshal(r.sessions.Events(c.id))
	if err != nil {
		t.Fatal(err)
	}
	shown += string(b) + r.logs.String()
	for len(watch.C) > 0 {
		b, _ := json.Marshal(<-watch.C)
		shown += string(b)
	}
	for _, m := range append([]string{"upstream_reinitialised", "ended"}, c.id) {
		if !strings.Contains(shown, m) {
			t.Errorf("%q is nowhere; was anything noted?", m)
		}
	}
	for _, secret := range secrets {
		if i := strings.Index(shown, secret); secret == "" || i >= 0 {
			t.Errorf("%q is shown: %.300s", secret, shown[max(0, i-150):])
		}
	}
}
