package gateway

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mcphub-go/mcphub/pkg/persist"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

func TestAToolOfAServerThatWasNeverUpFailsAtOnceAndSaysWhy(t *testing.T) {
	r := start(t, setup{specs: []upstream.Spec{absent("dead"), stdio(t, "one")}})
	c := r.connect()
	begun := time.Now()
	e := c.call("1", "tools/call", `{"name":"dead__x"}`).failed(t)
	if took := time.Since(begun); took > patience/2 {
		t.Errorf("it took %s", took)
	}
	for _, want := range []string{`server "dead" is down`, "could not be started", "next attempt in"} {
		if !strings.Contains(e.Message, want) {
			t.Errorf("the error is %q, without %q", e.Message, want)
		}
	}
	if e := c.call("2", "tools/call", `{"name":"one__x"}`).failed(t); !strings.Contains(e.Message, `unknown tool: "one__x"`) {
		t.Errorf("the error of a server that is up is %q", e.Message)
	}
}

func TestAnUpdateOfAPartOfAResourceReachesItsSubscriber(t *testing.T) {
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one")}})
	c := r.connect()
	hears := c.listen()
	if m := c.call("1", "resources/subscribe", `{"uri":"res://a"}`).answer(t); m.Error != nil {
		t.Fatalf("subscribe: %s", m.Error)
	}
	for _, uri := range []string{"res://ab", "res://", "res://b/res://a", "res://a/sub", "res://a"} {
		r.gateway.ServerNotification("one", jsonMessage("notifications/resources/updated", `{"uri":"`+uri+`"}`))
	}
	for _, want := range []string{"res://a/sub", "res://a"} {
		if m := hears.message(); string(m.Params) != `{"uri":"`+want+`"}` {
			t.Errorf("heard %s, want %s", m.Params, want)
		}
	}
}

// It hears what it has subscribed to, although it asks for nothing.
func TestAClientThatOnlyListensAfterARestartIsConnectedAgain(t *testing.T) {
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
	until(t, "the server's stream is open", func() bool { return in(http.MethodGet) > 0 })
	r.stop()
	gets, posts := in(http.MethodGet), in(http.MethodPost)

	r = open()
	if in(http.MethodGet) != gets {
		t.Error("the session is connected although its client is not there")
	}
	c := &peer{rig: r, token: before.token, id: before.id}
	c.listen()
	until(t, "the server's stream is open again", func() bool { return in(http.MethodGet) > gets })
	if n := in(http.MethodPost); n != posts {
		t.Errorf("the server was sent %d messages", n-posts)
	}
}
