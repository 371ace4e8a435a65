package gateway

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
	"github.com/mcphub-go/mcphub/pkg/persist"
	"github.com/mcphub-go/mcphub/pkg/session"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

func TestSessionContinuesAfterARestart(t *testing.T) {
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
	for method, params := range map[string]string{
		"logging/setLevel":    `{"level":"warning"}`,
		"resources/subscribe": `{"uri":"test://one/one"}`,
	} {
		if m := c.call("1", method, params).response(t); m.Error != nil {
			t.Fatalf("%s: %s", method, m.Error)
		}
	}
	if got := string(c.tool("web__count", `{}`)); !strings.Contains(got, `"1"`) {
		t.Fatalf("count returned %s", got)
	}
	bound := web.session("tools/call")
	before, err := r.sessions.Get(t.Context(), c.id)
	if err != nil {
		t.Fatal(err)
	}
	r.stop()
	if web.receivedIn("DELETE", bound) {
		t.Error("the restart ended the session at the server")
	}
	initialized := len(web.seen("POST", "initialize"))

	r = open()
	token := c.token
	c = &peer{rig: r, token: token, id: c.id}
	stream := c.listen() // the client first opens its GET stream again
	hubtest.Eventually(t, "the shared server has level and subscription again", func() bool {
		other := r.connect().state("one")
		return slices.Equal(other.Subscriptions, []string{"test://one/one"}) && other.Level == "warning"
	})
	if got := string(c.tool("web__count", `{}`)); !strings.Contains(got, `"2"`) {
		t.Errorf("the session at the server is a new one: count returned %s", got)
	}
	if got := web.session("tools/call"); got != bound {
		t.Errorf("the server was called in session %q, want %q", got, bound)
	}
	if n := len(web.seen("POST", "initialize")); n != initialized {
		t.Errorf("the server was initialized %d more times after the restart, want none: "+
			"the session continues, and the hub itself uses the modern protocol", n-initialized)
	}
	after, err := r.sessions.Get(t.Context(), c.id)
	if err != nil {
		t.Fatal(err)
	}
	if after.ProtocolVersion != before.ProtocolVersion || after.ClientName != before.ClientName ||
		string(after.Capabilities) != string(before.Capabilities) ||
		after.LogLevel != "warning" || !slices.Equal(after.Subscriptions, before.Subscriptions) || after.State != session.Ready ||
		after.CreatedAt != before.CreatedAt || after.Upstreams["web"].SessionID != bound {
		t.Errorf("before the restart %+v\nafter it %+v", before, after)
	}
	r.gateway.ServerNotification("one", jsonMessage("notifications/resources/updated", `{"uri":"test://one/one"}`))
	if m := stream.message(); m.Method != "notifications/resources/updated" {
		t.Errorf("received %s", m.Encode())
	}
	if p := c.send(http.MethodDelete, "", "Mcp-Session-Id: "+c.token); p.status != http.StatusNoContent {
		t.Errorf("DELETE: %d %s", p.status, p.body)
	}
	hubtest.Eventually(t, "the server's session is deleted", func() bool { return web.receivedIn("DELETE", bound) })
}

func TestRestartedSharedServerGetsLevelAndSubscriptionsAgain(t *testing.T) {
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one")}})
	c := r.connect()
	c.call("1", "logging/setLevel", `{"level":"warning"}`)
	c.call("1", "resources/subscribe", `{"uri":"test://one/one"}`)
	since := r.pool.Server("one").Status().Since
	c.call("1", "tools/call", `{"name":"one__die"}`)
	hubtest.Eventually(t, "the server is up again with level and subscription", func() bool {
		// The hub notices the end of the server shortly after the end of the call.
		if now := r.pool.Server("one").Status(); now.State != upstream.Up || now.Since.Equal(since) {
			return false
		}
		s := c.state("one")
		return s.Level == "warning" && slices.Equal(s.Subscriptions, []string{"test://one/one"})
	})
}

func TestServerThatForgotItsSessionIsInitializedAgain(t *testing.T) {
	web := newWeb(t)
	r := start(t, setup{specs: []upstream.Spec{web.spec("web")}})
	c := r.connect()
	c.tool("web__count", `{}`)
	if m := c.call("1", "logging/setLevel", `{"level":"warning"}`).response(t); m.Error != nil {
		t.Errorf("setLevel: %s", m.Error)
	}
	old := web.session("tools/call")
	web.forget(old)
	if got := string(c.tool("web__count", `{}`)); !strings.Contains(got, `"1"`) {
		t.Errorf("count returned %s", got)
	}
	bound := web.session("tools/call")
	if s, err := r.sessions.Get(t.Context(), c.id); err != nil || bound == old || s.Upstreams["web"].SessionID != bound {
		t.Errorf("the record has %+v, the server was called in session %q: %v", s.Upstreams, bound, err)
	}
	gotLevel := false
	for _, v := range web.seen("POST", "logging/setLevel") {
		gotLevel = gotLevel || v.session == bound
	}
	if !gotLevel {
		t.Error("the new session did not get the log level")
	}
}

func TestDrainClosesTheStreamsThatWouldStayOpen(t *testing.T) {
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one")}})
	c := r.connect()
	call := c.open(http.MethodPost, request("1", "tools/call", `{"name":"one__hang","_meta":{"progressToken":1}}`))
	call.message()
	stream := c.listen()
	r.gateway.Drain()
	r.gateway.Drain()
	stream.waitForEnd()
	if p := c.post(pingBody); p.status != http.StatusOK {
		t.Errorf("a request while draining: %d", p.status)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := r.gateway.Wait(ctx); err == nil {
		t.Error("Wait did not wait for the call")
	}
	c.post(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}`)
	if err := r.gateway.Wait(t.Context()); err != nil {
		t.Errorf("Wait: %v", err)
	}
}

func TestShutdownReportsThatTheOutcomeIsUnknown(t *testing.T) {
	web := newWeb(t)
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one"), web.spec("web")}})
	c := r.connect()
	call := c.open(http.MethodPost, request("1", "tools/call", `{"name":"one__hang","_meta":{"progressToken":1}}`))
	call.message()
	answer := make(chan reply, 1)
	go func() { answer <- c.call("2", "tools/call", `{"name":"web__elicit"}`) }()
	hubtest.Eventually(t, "the client has the server request", func() bool { return c.waitingRequests() == 1 })
	began := time.Now()
	r.stop()
	if took := time.Since(began); took > 8*time.Second {
		t.Errorf("stopping took %s", took)
	}
	if m := call.message(); !strings.Contains(string(m.Error), "whether the request was carried out is not known") {
		t.Errorf("the call was answered with %s", m.Encode())
	}
	if p := <-answer; !strings.Contains(p.rpcError(t).Message, "not known") {
		t.Errorf("the call with the server request was answered with %s", p.body)
	}
}

func TestManySessionsAreEndedAtOnce(t *testing.T) {
	web := newWeb(t)
	r := start(t, setup{specs: []upstream.Spec{web.spec("web")}})
	var bound []string
	for range 20 {
		c := r.connect()
		c.tool("web__count", `{}`)
		s, err := r.sessions.Get(t.Context(), c.id)
		if err != nil {
			t.Fatal(err)
		}
		bound = append(bound, s.Upstreams["web"].SessionID)
	}
	all, _ := r.sessions.All()
	for _, s := range all {
		if _, err := r.sessions.End(t.Context(), s.ID, session.Admin); err != nil {
			t.Error(err)
		}
	}
	if err := r.gateway.Wait(t.Context()); err != nil {
		t.Error(err)
	}
	for _, id := range bound {
		if !web.receivedIn("DELETE", id) {
			t.Errorf("the server's session %s was not ended", id)
		}
	}
	if n := r.pool.Server("web").Status().Connections; n != 1 {
		t.Errorf("%s", fmt.Sprintf("%d connections are left, want the hub's own", n))
	}
}

// The client gets the updates that it has subscribed to, although it sends no request.
func TestClientThatOnlyListensIsReconnectedAfterARestart(t *testing.T) {
	web := newWeb(t)
	dir := filepath.Join(t.TempDir(), "sessions")
	open := func() *rig {
		store, err := persist.OpenDir(dir, persist.DirConfig{})
		if err != nil {
			t.Fatal(err)
		}
		return start(t, setup{store: store, specs: []upstream.Spec{web.spec("web"), stdio(t, "one")}})
	}
	r := open()
	before := r.connect()
	before.tool("web__count", `{}`)
	bound := web.session("tools/call")
	in := func(verb string) (n int) {
		for _, v := range web.seen(verb, "") {
			if v.session == bound {
				n++
			}
		}
		return n
	}
	hubtest.Eventually(t, "the server's stream is open", func() bool { return in(http.MethodGet) > 0 })
	r.stop()
	gets, posts := in(http.MethodGet), in(http.MethodPost)

	r = open()
	if in(http.MethodGet) != gets {
		t.Error("the session is connected although its client is not")
	}
	c := &peer{rig: r, token: before.token, id: before.id}
	c.listen()
	hubtest.Eventually(t, "the server's stream is open again", func() bool { return in(http.MethodGet) > gets })
	if n := in(http.MethodPost); n != posts {
		t.Errorf("the server received %d messages", n-posts)
	}
}

// The hub knows the server of a subscription only when the catalog has the lists of that server.
func TestServerThatStartsAfterTheHubGetsTheSubscriptionsOfRestoredSessions(t *testing.T) {
	t.Parallel()
	web := newWeb(t)
	one := stdio(t, "one")
	program := filepath.Join(t.TempDir(), "one")
	link := func() {
		if err := os.Symlink(one.Command, program); err != nil {
			t.Fatal(err)
		}
	}
	dir := filepath.Join(t.TempDir(), "sessions")
	open := func() *rig {
		store, err := persist.OpenDir(dir, persist.DirConfig{})
		if err != nil {
			t.Fatal(err)
		}
		late := one
		late.Command = program
		return start(t, setup{store: store, specs: []upstream.Spec{late, web.spec("web")}})
	}
	link()
	r := open()
	c := r.connect()
	if m := c.call("1", "resources/subscribe", `{"uri":"test://one/one"}`).response(t); m.Error != nil {
		t.Fatalf("subscribe: %s", m.Error)
	}
	r.stop()

	if err := os.Remove(program); err != nil {
		t.Fatal(err)
	}
	r = open() // the first attempt to start the server fails
	c = &peer{rig: r, token: c.token, id: c.id}
	c.listen() // opens the session
	link()
	hubtest.Eventually(t, "the tools of the server are offered", func() bool {
		_, ok := r.catalog.Snapshot().Tool("one__state")
		return ok
	})
	hubtest.Eventually(t, "the server has the subscription", func() bool {
		return slices.Equal(r.connect().state("one").Subscriptions, []string{"test://one/one"})
	})
}
