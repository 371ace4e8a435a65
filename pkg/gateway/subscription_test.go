package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/catalog"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

// listens opens a subscription and returns its stream and what was agreed to.
func (c *modernPeer) listens(id, filter string) (*reader, string) {
	c.t.Helper()
	s := c.stream(id, "subscriptions/listen", `{"notifications":`+filter+`}`)
	m := s.message()
	if m.Method != "notifications/subscriptions/acknowledged" || tag(c.t, m) != id {
		c.t.Errorf("the stream begins with %s", m.Encode())
	}
	return s, has(c.t, m.Params, "notifications")
}

// tag is the subscription that a message belongs to.
func tag(t *testing.T, m jsonrpc.Message) string {
	t.Helper()
	params := m.Params
	if m.Method == "" {
		params = m.Result
	}
	return has(t, json.RawMessage(has(t, params, "_meta")), "io.modelcontextprotocol/subscriptionId")
}

// hears checks that the next message is that notification, under that id.
func (s *reader) hears(id, method, uri string) {
	s.t.Helper()
	m := s.message()
	got, _ := jsonrpc.StringField(m.Params, "uri")
	if m.Method != method || got != uri || tag(s.t, m) != id {
		s.t.Errorf("heard %s, want %s %s", m.Encode(), method, uri)
	}
}

const (
	toolsChanged = "notifications/tools/list_changed"
	updated      = "notifications/resources/updated"
)

func TestASubscriptionAgreesToWhatThereIsToHear(t *testing.T) {
	st := newStub(t)
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one"), st.spec("two", "")}})
	c := r.modern(`{}`)
	for _, x := range []struct{ id, filter, agreed string }{
		{"7", `{}`, `{}`},
		{`"\u00e9 7"`, `{"toolsListChanged":true,"promptsListChanged":true,"resourcesListChanged":true,"odd":1}`,
			`{"toolsListChanged":true,"promptsListChanged":true,"resourcesListChanged":true}`},
		{`"7"`, `{"toolsListChanged":false,"resourceSubscriptions":["stub://one","nobody://x","test://one/one","stub://one","test://one/item/refused"]}`,
			`{"resourceSubscriptions":["stub://one","test://one/one"]}`},
	} {
		if s, agreed := c.listens(x.id, x.filter); agreed != x.agreed {
			t.Errorf("%s: agreed to %s", x.filter, agreed)
		} else {
			s.cancel()
		}
	}
	for _, params := range []string{`{"notifications":[]}`, `{"notifications":{"resourceSubscriptions":"x"}}`,
		`{"notifications":{"resourceSubscriptions":["x"` + strings.Repeat(`,"x"`, maxSubscriptionURIs) + `]}}`} {
		if p := c.ask("1", "subscriptions/listen", params); p.status != 400 || p.failed(t).Code != -32602 {
			t.Errorf("%.60s: %d %s", params, p.status, p.body)
		}
	}
	r.conserved(3)
}

func TestATransparentHubAgreesToWhatItsServerTells(t *testing.T) {
	st := newStub(t)
	st.says("server/discover", `"result":{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{},"resources":{"listChanged":true}}}`)
	r := start(t, setup{specs: []upstream.Spec{st.spec("two", "")}, naming: catalog.Bare, gateway: func(c *Config) { c.Transparent = true }})
	if _, agreed := r.modern(`{}`).listens("1", `{"toolsListChanged":true,"promptsListChanged":true,"resourcesListChanged":true}`); agreed != `{"resourcesListChanged":true}` {
		t.Errorf("agreed to %s", agreed)
	}
}

func TestUpdatesReachTheSubscriptionsThatAskedForThem(t *testing.T) {
	for _, isolation := range []upstream.Isolation{upstream.Shared, upstream.PerSession} {
		t.Run(string(isolation), func(t *testing.T) {
			st := newStub(t)
			one := stdio(t, "one")
			one.Isolation = isolation
			r := start(t, setup{specs: []upstream.Spec{one, st.spec("two", isolation)}, gateway: quickBeat})
			c := r.modern(`{}`)
			before := st.listening()
			both, _ := c.listens(`"both"`, `{"resourceSubscriptions":["test://one/item/now","stub://one"]}`)
			both.hears(`"both"`, updated, "test://one/item/now") // was told before it was agreed to
			legacy, _ := c.listens("1", `{"toolsListChanged":true,"resourceSubscriptions":["test://one/item/now"]}`)
			legacy.hears("1", updated, "test://one/item/now")
			if isolation == upstream.Shared {
				both.hears(`"both"`, updated, "test://one/item/now")
			}
			st.tell(updated, `,"uri":"stub://other"`)
			st.tell(updated, `,"uri":"stub://one/part","n":1.50`)
			m := both.message()
			if uri, _ := jsonrpc.StringField(m.Params, "uri"); uri != "stub://one/part" || tag(t, m) != `"both"` || has(t, m.Params, "n") != "1.50" {
				t.Errorf("heard %s", m.Encode())
			}
			c.run("1", "one__grow", `{}`)
			both.cancel()
			both.ended()
			legacy.cancel()
			until(t, "the servers are told that it is over", func() bool {
				return st.listening() == before && len(c.seen("one").Subscriptions) == 0 && r.pool.Server("one").Status().Connections <= 2
			})
		})
	}
}

func TestChangesOfListsReachTheSubscriptionsThatAskedForThem(t *testing.T) {
	st := newStub(t)
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one"), st.spec("two", "")}})
	c := r.modern(`{}`)
	first, _ := c.listens("1", `{"toolsListChanged":true}`)
	second, _ := c.listens("2", `{"toolsListChanged":true,"promptsListChanged":true}`)
	deaf, _ := c.listens("3", `{"resourcesListChanged":true}`)
	c.run("1", "one__grow", `{}`)
	first.hears("1", toolsChanged, "")
	second.hears("2", toolsChanged, "")
	if p := c.ask("4", "tools/list", `{}`); !strings.Contains(p.body, "one__grown") {
		t.Error("the change was told before the hub knew of it")
	}
	st.says("prompts/list", `"result":{"resultType":"complete","ttlMs":0,"cacheScope":"public","prompts":[]}`)
	st.tell("notifications/prompts/list_changed", "")
	second.hears("2", "notifications/prompts/list_changed", "")
	st.says("resources/list", `"result":{"resultType":"complete","ttlMs":0,"cacheScope":"public","resources":[]}`)
	st.tell("notifications/resources/list_changed", "")
	deaf.hears("3", "notifications/resources/list_changed", "") // and nothing before
	r.gateway.Drain()
	for id, s := range map[string]*reader{"1": first, "2": second, "3": deaf} {
		m := s.message()
		if string(m.ID) != id || has(t, m.Result, "resultType") != `"complete"` || tag(t, m) != id {
			t.Errorf("the last word is %s", m.Encode())
		}
		s.ended()
	}
	late, agreed := c.listens("9", `{"toolsListChanged":true}`) // while the hub stops: acknowledged, and over
	if m := late.message(); string(m.ID) != "9" || agreed == "" {
		t.Errorf("the last word is %s", m.Encode())
	}
	late.ended()
	r.conserved(0)
}

func TestASlowReaderIsBoundedAlone(t *testing.T) {
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one")}})
	c := r.modern(`{}`)
	const filter = `{"resourceSubscriptions":["test://one/one"]}`
	const params = `{"notifications":` + filter + `}`
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	slow := c.do(ctx, http.MethodPost, c.body("1", "subscriptions/listen", params), c.mirrored("subscriptions/listen", params)...)
	defer func() { _ = slow.Body.Close() }()
	good, _ := c.listens("2", filter)
	m := jsonMessage(updated, `{"uri":"test://one/one","x":"`+strings.Repeat("x", 32<<10)+`"}`)
	for n := 0; r.dropped("slow_reader") == 0; n++ {
		if n == 2000 {
			t.Fatal("nothing is dropped")
		}
		r.gateway.ServerNotification("one", m)
		good.hears("2", updated, "test://one/one")
	}
	for _, s := range r.gateway.modern.subscriptions.all() {
		if n := len(s.out); string(s.id) == "1" && n != subscriptionQueue {
			t.Errorf("%d messages wait", n)
		}
	}
}

func TestSubscriptionsAreBoundedInNumber(t *testing.T) {
	r := start(t, setup{})
	c := r.modern(`{}`)
	subscriptions := r.gateway.modern.subscriptions
	subscriptions.mu.Lock()
	for range maxSubscriptionStreams {
		subscriptions.open[&subscription{core: r.gateway.core}] = true
	}
	subscriptions.mu.Unlock()
	if p := c.ask("1", "subscriptions/listen", `{"notifications":{}}`); p.status != 503 || p.header.Get("Retry-After") == "" || string(p.answer(t).ID) != "1" {
		t.Errorf("%d %s", p.status, p.body)
	}
	subscriptions.mu.Lock()
	clear(subscriptions.open)
	subscriptions.mu.Unlock()
	s, _ := c.listens("2", `{}`)
	s.cancel()
	r.conserved(1)
}

func TestAServerThatComesBackIsSubscribedToAgain(t *testing.T) {
	st := newStub(t)
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one"), st.spec("two", upstream.PerSession)}})
	c := r.modern(`{}`)
	s, _ := c.listens("1", `{"resourceSubscriptions":["test://one/one","stub://one"]}`)
	c.run("1", "one__die", `{}`)
	until(t, "the shared server is told again", func() bool {
		p := c.run("2", "one__state", `{}`)
		return strings.Contains(p.body, `"subscriptions":["test://one/one"]`)
	})
	c.run("3", "one__update", `{}`)
	s.hears("1", updated, "test://one/one")
	opened := st.value(&st.opened)
	st.mu.Lock()
	for events := range st.streams {
		close(events)
		delete(st.streams, events)
	}
	st.mu.Unlock()
	until(t, "the streams are there again", func() bool { return st.listening() == 2 && st.value(&st.opened) >= opened+2 })
	st.tell(updated, `,"uri":"stub://one"`)
	s.hears("1", updated, "stub://one")
}

func TestAnOwnSessionThatALegacyServerForgotIsSubscribedAgain(t *testing.T) {
	web := newWeb(t)
	spec := web.spec("web")
	spec.Era = protocol.Legacy
	r := start(t, setup{specs: []upstream.Spec{spec}, gateway: quickBeat})
	_, agreed := r.modern(`{}`).listens("1", `{"resourceSubscriptions":["web://page"]}`)
	if agreed != `{"resourceSubscriptions":["web://page"]}` {
		t.Errorf("agreed to %s", agreed)
	}
	first := web.session("resources/subscribe")
	until(t, "the server can tell", func() bool { return web.saw(http.MethodGet, first) })
	web.forget(first)
	web.http.CloseClientConnections()
	until(t, "it is subscribed again in a new session", func() bool { return web.session("resources/subscribe") != first })
	if n := fmt.Sprint(len(web.seen("", "resources/subscribe"))); n != "2" {
		t.Errorf("subscribed %s times", n)
	}
}
