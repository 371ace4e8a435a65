package gateway

import (
	"encoding/json"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
	"github.com/mcphub-go/mcphub/pkg/persist"
	"github.com/mcphub-go/mcphub/pkg/session"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

func TestSessionEventsDescribeItsSessionsWithServers(t *testing.T) {
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
	c.tool("one__echo", `{}`) // over the shared connection
	for range 2 {
		c.tool("web__count", `{}`)
	}
	want := []string{"created probe", "initialised", "upstream_initialised web"}
	if got := c.events(); !slices.Equal(got, want) {
		t.Errorf("the events are %q, want %q", got, want)
	}
	web.forget(web.session("tools/call"))
	c.tool("web__count", `{}`)
	want = append(want, "upstream_reinitialised web")
	if got := c.events(); !slices.Equal(got, want) {
		t.Errorf("the events are %q, want %q", got, want)
	}
	r.stop()

	r = open()
	c = &peer{rig: r, token: c.token, id: c.id}
	c.tool("web__count", `{}`) // continues the session with the server
	if got, want := c.events(), []string{"restored"}; !slices.Equal(got, want) {
		t.Errorf("the events are %q, want %q", got, want)
	}
	web.forget(web.session("tools/call"))
	c.tool("web__count", `{}`)
	if got, want := c.events(), []string{"restored", "upstream_reinitialised web"}; !slices.Equal(got, want) {
		t.Errorf("the events are %q, want %q", got, want)
	}
}

func TestSessionWithAServerThatCannotBeStoredIsNoEvent(t *testing.T) {
	web := newWeb(t)
	store := &flakyStore{}
	r := start(t, setup{store: store, specs: []upstream.Spec{web.spec("web")}})
	c := r.connect()
	store.fails.Store(true)
	if e := c.call("1", "tools/call", `{"name":"web__count"}`).rpcError(t); !strings.Contains(e.Message, "could not be kept") {
		t.Errorf("answered %v", e)
	}
	store.fails.Store(false)
	upstreamEvents := func() (n int) {
		for _, what := range c.events() {
			if strings.HasPrefix(what, "upstream_") {
				n++
			}
		}
		return n
	}
	if upstreamEvents() != 0 {
		t.Errorf("the events are %q", c.events())
	}
	hubtest.Eventually(t, "the server is tried again", func() bool {
		return c.call("1", "tools/call", `{"name":"web__count"}`).response(t).Error == nil
	})
	if upstreamEvents() != 1 {
		t.Errorf("the events are %q", c.events())
	}
}

// Events and logs must not contain anything that opens the session, or its sessions with servers.
func TestEventsAndLogsContainNothingThatOpensASession(t *testing.T) {
	web := newWeb(t)
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one"), web.spec("web")},
		sessions: func(c *session.Config) { c.MaxSessions = 1 },
		gateway:  func(c *Config) { c.Principal = func(*http.Request) string { return "ann" } }})
	watch := r.sessions.WatchEvents(64)
	defer watch.Close()
	c := r.connectWithRoots()
	s := c.listen()
	c.respond(s.rootsRequest(), oneRoot)
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
	s.waitForEnd()
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
			t.Errorf("%q is missing: was anything recorded?", m)
		}
	}
	for _, secret := range secrets {
		if i := strings.Index(shown, secret); secret == "" || i >= 0 {
			t.Errorf("%q is shown: %.300s", secret, shown[max(0, i-150):])
		}
	}
}
