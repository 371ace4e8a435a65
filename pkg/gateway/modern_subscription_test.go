package gateway

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/catalog"
	"github.com/mcphub-go/mcphub/pkg/hubtest"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

// subscribe opens a subscription and returns its stream and the acknowledged filter.
func (c *modernPeer) subscribe(id, filter string) (*reader, string) {
	c.t.Helper()
	s := c.stream(id, "subscriptions/listen", `{"notifications":`+filter+`}`)
	m := s.message()
	if m.Method != "notifications/subscriptions/acknowledged" || tag(c.t, m) != id {
		c.t.Errorf("the stream begins with %s", m.Encode())
	}
	return s, has(c.t, m.Params, "notifications")
}

// tag returns the id of the subscription that a message belongs to.
func tag(t *testing.T, m jsonrpc.Message) string {
	t.Helper()
	params := m.Params
	if m.Method == "" {
		params = m.Result
	}
	return has(t, json.RawMessage(has(t, params, "_meta")), "io.modelcontextprotocol/subscriptionId")
}

// expectNotification checks that the next message is that notification of the subscription id.
func (s *reader) expectNotification(id, method, uri string) {
	s.t.Helper()
	m := s.message()
	got, _ := jsonrpc.StringField(m.Params, "uri")
	if m.Method != method || got != uri || tag(s.t, m) != id {
		s.t.Errorf("received %s, want %s %s", m.Encode(), method, uri)
	}
}

const (
	toolsChanged = "notifications/tools/list_changed"
	updated      = "notifications/resources/updated"
)

func TestSubscriptionIsAcknowledgedWithWhatServersReport(t *testing.T) {
	st := newStub(t)
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one"), st.spec("two", "")}})
	c := r.modern(`{}`)
	for _, x := range []struct{ id, filter, agreed string }{
		{"7", `{}`, `{}`},
		{`"\u00e9 7"`, `{"toolsListChanged":true,"promptsListChanged":true,"resourcesListChanged":true,"odd":1}`,
			`{"toolsListChanged":true,"promptsListChanged":true,"resourcesListChanged":true}`},
		{`"7"`, `{"toolsListChanged":false,"resourceSubscriptions":["stub://one","nobody://x","test://one/one","stub://one",` +
			`"test://one/item/refused"]}`,
			`{"resourceSubscriptions":["stub://one","test://one/one"]}`},
	} {
		if s, agreed := c.subscribe(x.id, x.filter); agreed != x.agreed {
			t.Errorf("%s: acknowledged %s", x.filter, agreed)
		} else {
			s.cancel()
		}
	}
	for _, params := range []string{`{"notifications":[]}`, `{"notifications":{"resourceSubscriptions":"x"}}`,
		`{"notifications":{"resourceSubscriptions":["x"` + strings.Repeat(`,"x"`, maxSubscriptionURIs) + `]}}`} {
		if p := c.call("1", "subscriptions/listen", params); p.status != 400 || p.rpcError(t).Code != -32602 {
			t.Errorf("%.60s: %d %s", params, p.status, p.body)
		}
	}
	r.conserved(3)
}

func TestTransparentHubAcknowledgesWhatItsServerReports(t *testing.T) {
	st := newStub(t)
	st.setAnswer("server/discover", `"result":{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{},`+
		`"resources":{"listChanged":true}}}`)
	r := start(t, setup{specs: []upstream.Spec{st.spec("two", "")}, naming: catalog.Bare,
		gateway: func(c *Config) { c.Transparent = true }})
	if _, agreed := r.modern(`{}`).subscribe("1",
		`{"toolsListChanged":true,"promptsListChanged":true,"resourcesListChanged":true}`); agreed != `{"resourcesListChanged":true}` {
		t.Errorf("acknowledged %s", agreed)
	}
}

func TestUpdatesReachTheSubscriptionsThatAskedForThem(t *testing.T) {
	for _, isolation := range []upstream.Isolation{upstream.Shared, upstream.PerSession} {
		t.Run(string(isolation), func(t *testing.T) {
			st := newStub(t)
			one := stdio(t, "one")
			one.Isolation = isolation
			r := start(t, setup{specs: []upstream.Spec{one, st.spec("two", isolation)}, gateway: shortHeartbeat})
			c := r.modern(`{}`)
			before := st.listening()
			both, _ := c.subscribe(`"both"`, `{"resourceSubscriptions":["test://one/item/now","stub://one"]}`)
			both.expectNotification(`"both"`, updated, "test://one/item/now") // sent before the acknowledgement
			legacy, _ := c.subscribe("1", `{"toolsListChanged":true,"resourceSubscriptions":["test://one/item/now"]}`)
			legacy.expectNotification("1", updated, "test://one/item/now")
			if isolation == upstream.Shared {
				both.expectNotification(`"both"`, updated, "test://one/item/now")
			}
			st.notify(updated, `,"uri":"stub://other"`)
			st.notify(updated, `,"uri":"stub://one/part","n":1.50`)
			m := both.message()
			if uri, _ := jsonrpc.StringField(m.Params, "uri"); uri != "stub://one/part" || tag(t, m) != `"both"` ||
				has(t, m.Params, "n") != "1.50" {
				t.Errorf("received %s", m.Encode())
			}
			c.tool("1", "one__grow", `{}`)
			both.cancel()
			both.waitForEnd()
			legacy.cancel()
			hubtest.Eventually(t, "the servers have no subscription any more", func() bool {
				return st.listening() == before && len(c.state("one").Subscriptions) == 0 && r.pool.Server("one").Status().Connections <= 2
			})
		})
	}
}

func TestListChangesReachTheSubscriptionsThatAskedForThem(t *testing.T) {
	st := newStub(t)
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one"), st.spec("two", "")}})
	c := r.modern(`{}`)
	first, _ := c.subscribe("1", `{"toolsListChanged":true}`)
	second, _ := c.subscribe("2", `{"toolsListChanged":true,"promptsListChanged":true}`)
	third, _ := c.subscribe("3", `{"resourcesListChanged":true}`)
	c.tool("1", "one__grow", `{}`)
	first.expectNotification("1", toolsChanged, "")
	second.expectNotification("2", toolsChanged, "")
	if p := c.call("4", "tools/list", `{}`); !strings.Contains(p.body, "one__grown") {
		t.Error("the notification was sent before the hub had the new list")
	}
	st.setAnswer("prompts/list", `"result":{"resultType":"complete","ttlMs":0,"cacheScope":"public","prompts":[]}`)
	st.notify("notifications/prompts/list_changed", "")
	second.expectNotification("2", "notifications/prompts/list_changed", "")
	st.setAnswer("resources/list", `"result":{"resultType":"complete","ttlMs":0,"cacheScope":"public","resources":[]}`)
	st.notify("notifications/resources/list_changed", "")
	third.expectNotification("3", "notifications/resources/list_changed", "") // and nothing before it
	r.gateway.Drain()
	for id, s := range map[string]*reader{"1": first, "2": second, "3": third} {
		m := s.message()
		if string(m.ID) != id || has(t, m.Result, "resultType") != `"complete"` || tag(t, m) != id {
			t.Errorf("the last message is %s", m.Encode())
		}
		s.waitForEnd()
	}
	late, agreed := c.subscribe("9", `{"toolsListChanged":true}`) // while the hub stops, a subscription is acknowledged and ends
	if m := late.message(); string(m.ID) != "9" || agreed == "" {
		t.Errorf("the last message is %s", m.Encode())
	}
	late.waitForEnd()
	r.conserved(0)
}

func TestSlowSubscriptionAloneLosesMessages(t *testing.T) {
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one")}})
	c := r.modern(`{}`)
	const filter = `{"resourceSubscriptions":["test://one/one"]}`
	const params = `{"notifications":` + filter + `}`
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	slow := c.do(ctx, http.MethodPost, c.body("1", "subscriptions/listen", params), c.mirrored("subscriptions/listen", params)...)
	defer func() { _ = slow.Body.Close() }()
	good, _ := c.subscribe("2", filter)
	m := jsonMessage(updated, `{"uri":"test://one/one","x":"`+strings.Repeat("x", 32<<10)+`"}`)
	for n := 0; r.dropped("slow_reader") == 0; n++ {
		if n == 2000 {
			t.Fatal("nothing is dropped")
		}
		r.gateway.ServerNotification("one", m)
		good.expectNotification("2", updated, "test://one/one")
	}
	for _, s := range r.gateway.modern.subscriptions.all() {
		if n := len(s.out); string(s.id) == "1" && n != subscriptionQueue {
			t.Errorf("%d messages are queued", n)
		}
	}
}

func TestEndOfASubscriptionStreamMakesRoomForAnother(t *testing.T) {
	t.Parallel()
	x := newSubscriptions(nil)
	var first *subscription
	for range maxSubscriptionStreams {
		s := &subscription{}
		if first = cmp.Or(first, s); !x.add(s) {
			t.Fatal("a stream within the limit was refused")
		}
	}
	if x.add(&subscription{}) || len(x.all()) != maxSubscriptionStreams {
		t.Errorf("a stream beyond the limit was accepted: %d are open", len(x.all()))
	}
	x.remove(first)
	if !x.add(&subscription{}) || x.add(&subscription{}) {
		t.Error("the end of a stream does not make room for exactly one")
	}
}

func TestSubscriptionStreamsAreLimited(t *testing.T) {
	r := start(t, setup{})
	c := r.modern(`{}`)
	subscriptions := r.gateway.modern.subscriptions
	subscriptions.mu.Lock()
	for range maxSubscriptionStreams {
		subscriptions.open[&subscription{core: r.gateway.core}] = true
	}
	subscriptions.mu.Unlock()
	if p := c.call("1", "subscriptions/listen", `{"notifications":{}}`); p.status != 503 || p.header.Get("Retry-After") == "" ||
		string(p.response(t).ID) != "1" {
		t.Errorf("%d %s", p.status, p.body)
	}
	subscriptions.mu.Lock()
	clear(subscriptions.open)
	subscriptions.mu.Unlock()
	s, _ := c.subscribe("2", `{}`)
	s.cancel()
	r.conserved(1)
}

func TestReconnectedServerIsSubscribedToAgain(t *testing.T) {
	st := newStub(t)
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one"), st.spec("two", upstream.PerSession)}})
	c := r.modern(`{}`)
	s, _ := c.subscribe("1", `{"resourceSubscriptions":["test://one/one","stub://one"]}`)
	c.tool("1", "one__die", `{}`)
	hubtest.Eventually(t, "the shared server has the subscription again", func() bool {
		p := c.tool("2", "one__state", `{}`)
		return strings.Contains(p.body, `"subscriptions":["test://one/one"]`)
	})
	c.tool("3", "one__update", `{}`)
	s.expectNotification("1", updated, "test://one/one")
	opened := st.value(&st.opened)
	st.mu.Lock()
	for events := range st.streams {
		close(events)
		delete(st.streams, events)
	}
	st.mu.Unlock()
	hubtest.Eventually(t, "the streams are open again", func() bool { return st.listening() == 2 && st.value(&st.opened) >= opened+2 })
	st.notify(updated, `,"uri":"stub://one"`)
	s.expectNotification("1", updated, "stub://one")
}

func TestSubscriptionIsRenewedInANewSessionWithALegacyServer(t *testing.T) {
	web := newWeb(t)
	spec := web.spec("web")
	spec.Era = protocol.Legacy
	r := start(t, setup{specs: []upstream.Spec{spec}, gateway: shortHeartbeat})
	_, agreed := r.modern(`{}`).subscribe("1", `{"resourceSubscriptions":["web://page"]}`)
	if agreed != `{"resourceSubscriptions":["web://page"]}` {
		t.Errorf("acknowledged %s", agreed)
	}
	first := web.session("resources/subscribe")
	hubtest.Eventually(t, "the server can send notifications", func() bool { return web.receivedIn(http.MethodGet, first) })
	web.forget(first)
	web.http.CloseClientConnections()
	hubtest.Eventually(t, "the subscription is renewed in a new session", func() bool { return web.session("resources/subscribe") != first })
	if n := fmt.Sprint(len(web.seen("", "resources/subscribe"))); n != "2" {
		t.Errorf("subscribed %s times", n)
	}
}
