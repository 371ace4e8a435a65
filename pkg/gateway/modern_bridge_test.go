package gateway

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

func TestResponsesOfLegacyServersBecomeModern(t *testing.T) {
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one"), stdio(t, "two")}, untraced: true})
	c := r.modern(`{}`).with(`,"io.modelcontextprotocol/logLevel":"error","x/y":1.50`)
	result := c.tool("1", "one__weird", `{}`).response(t).Result
	if has(t, result, "resultType") != `"complete"` || has(t, result, "ttlMs") != "" ||
		!strings.Contains(has(t, result, "_meta"), `"io.modelcontextprotocol/serverInfo":{"name":"mcphub"`) {
		t.Errorf("the result is %s", result)
	}
	for _, part := range []string{`"content": [ {"type":"text","text":"\u00e9\ud83d\ude00 </script>"} ]`, `"n": 1.50`,
		`"big":12345678901234567890`, `"dup":1, "dup":2`, `"k":{}`} {
		if !strings.Contains(string(result), part) {
			t.Errorf("%s is not in %s", part, result)
		}
	}
	result = c.call("1", "resources/read", `{"uri":"test://one/one"}`).response(t).Result
	if has(t, result, "ttlMs") != "0" || has(t, result, "cacheScope") != `"private"` {
		t.Errorf("the resource is %s", result)
	}
	if got := has(t, result, "params"); strings.Contains(got, "io.modelcontextprotocol") || !strings.Contains(got, `"x/y":1.50`) {
		t.Errorf("the legacy server got %s", got)
	}
	p := c.tool("1", "one__fail", `{"error":{"code":-32002,"message":"gone","data":{"uri":"x://y", "n":1.50}}}`)
	if p.status != 400 || string(p.response(t).Error) != `{"code":-32602,"message":"gone","data":{"uri":"x://y", "n":1.50}}` {
		t.Errorf("%d %s", p.status, p.body)
	}
	p = c.tool("1", "one__fail", `{"error":{"code":-32042,"message":"open","data":{"elicitations":[]}}}`)
	if e := p.rpcError(t); p.status != 200 || e.Code != -32603 || !strings.Contains(e.Message, "open a page") {
		t.Errorf("%d %s", p.status, p.body)
	}
	if p = c.call("1", "resources/read", `{"uri":"nobody://x"}`); p.rpcError(t).Code != -32602 ||
		!strings.Contains(string(p.rpcError(t).Data), "nobody://x") {
		t.Errorf("%d %s", p.status, p.body)
	}
	r.conserved(0)
}

// count calls the tool count, which counts the calls of a session, and returns the number.
func (c *modernPeer) count() string {
	c.t.Helper()
	content := has(c.t, c.tool("1", "web__count", `{}`).response(c.t).Result, "content")
	_, text, _ := strings.Cut(content, `"text":"`)
	number, _, _ := strings.Cut(text, `"`)
	return number
}

func TestSessionsWithLegacyServersFollowTheBridgePolicy(t *testing.T) {
	for policy, want := range map[BridgePolicy]string{"": "1 2 1 1 1", BridgePrincipal: "1 2 1 1 1", BridgeRequest: "1 1 1 1 1",
		BridgeShared: "1 2 3 1 4"} {
		t.Run(string(policy), func(t *testing.T) {
			web := newWeb(t)
			spec := web.spec("web")
			spec.Era = protocol.Legacy
			r := start(t, setup{specs: []upstream.Spec{spec}, gateway: func(c *Config) {
				c.Bridge = map[string]BridgePolicy{"web": policy}
				c.Principal = func(r *http.Request) string { return r.Header.Get("X-User") }
			}})
			const who = `,"io.modelcontextprotocol/clientInfo":{"name":"x","version":"1"}`
			ann, bob := r.modern(`{}`, "X-User: ann").with(who), r.modern(`{}`, "X-User: bob").with(who)
			able := r.modern(canElicit, "X-User: ann").with(who)
			other := r.modern(`{}`, "X-User: ann").with(strings.Replace(who, "x", "y", 1))
			got := strings.Join([]string{ann.count(), ann.count(), bob.count(), able.count(), other.count()}, " ")
			if got != want {
				t.Errorf("counted %s, want %s", got, want)
			}
			last := len(web.seen("POST", "initialize"))
			if n := map[BridgePolicy]int{BridgeRequest: 5, BridgeShared: 2}[policy]; n != 0 && last != n+1 { // with the hub's own
				t.Errorf("%d sessions", last)
			}
			if policy == BridgeRequest {
				hubtest.Eventually(t, "the sessions are ended", func() bool { return len(web.seen("DELETE", "")) == 5 })
			}
			r.gateway.Drain()
			hubtest.Eventually(t, "all sessions are ended", func() bool { return len(web.seen("DELETE", "")) == last-1 })
			r.conserved(0)
		})
	}
}

func TestLegacyServerGetsTheIdentityOfTheModernClient(t *testing.T) {
	web := newWeb(t)
	spec := web.spec("web")
	spec.Era = protocol.Legacy
	r := start(t, setup{specs: []upstream.Spec{spec}})
	for more, want := range map[string]string{
		"": `{"name":"unknown","version":""}`,
		`,"io.modelcontextprotocol/clientInfo":{"name":"ann"}`:                        `{"name":"ann","version":""}`,
		`,"io.modelcontextprotocol/clientInfo":{"version":"1","name":"ann","x":1.50}`: `{"version":"1","name":"ann","x":1.50}`,
	} {
		if p := r.modern(canElicit).with(more).tool("1", "web__count", `{}`); p.status != 200 || p.response(t).Error != nil {
			t.Errorf("%d %s", p.status, p.body)
		}
		all := web.seen("POST", "initialize")
		params := all[len(all)-1].params
		if has(t, params, "clientInfo") != want || has(t, params, "capabilities") != canElicit {
			t.Errorf("initialized with %s, want %s", params, want)
		}
	}
}

func TestLogLevelsAreRaisedAndFilteredForEachRequest(t *testing.T) {
	for _, isolation := range []upstream.Isolation{upstream.Shared, upstream.PerSession} {
		t.Run(string(isolation), func(t *testing.T) {
			one, two := stdio(t, "one"), stdio(t, "two")
			one.Isolation, two.Isolation = isolation, isolation
			r := start(t, setup{specs: []upstream.Spec{one, two}})
			noLevel := r.modern(`{}`)
			at := func(level string) *modernPeer {
				return noLevel.with(`,"io.modelcontextprotocol/logLevel":"` + level + `"`)
			}
			for _, server := range []string{"one", "two"} {
				for _, x := range []struct {
					c      *modernPeer
					logs   int
					level  string
					client string
				}{{noLevel, 0, "", "without a level"}, {at("error"), 0, "error", "error"}, {at("info"), 1, "info", "info"},
					{at("error"), 0, "info", "error again"},
					{at("debug"), 2, "debug", "debug"}, {noLevel, 0, "debug", "without a level again"}} {
					p := x.c.tool("1", server+"__log", `{"size":2}`)
					if n := max(0, len(p.events)-1); n != x.logs || p.response(t).Error != nil {
						t.Errorf("%s, %s: %d log messages: %s", server, x.client, n, p.body)
					}
					if got := noLevel.state(server).Level; got != x.level {
						t.Errorf("%s, %s: the level is %q, want %q", server, x.client, got, x.level)
					}
				}
			}
		})
	}
}

func TestNewSessionWithAServerGetsTheLogLevelAgain(t *testing.T) {
	for _, isolation := range []upstream.Isolation{upstream.Shared, upstream.PerSession} {
		t.Run(string(isolation), func(t *testing.T) {
			one := stdio(t, "one")
			one.Isolation = isolation
			r := start(t, setup{specs: []upstream.Spec{one}})
			c := r.modern(`{}`)
			c.with(`,"io.modelcontextprotocol/logLevel":"info"`).tool("1", "one__log", `{}`)
			c.tool("2", "one__die", `{}`)
			hubtest.Eventually(t, "the server gets the level again", func() bool {
				p := c.tool("3", "one__state", `{}`)
				return p.response(t).Error == nil && strings.Contains(string(p.response(t).Result), `"level":"info"`)
			})
		})
	}
}

// count returns the number of open bridges.
func (b *bridges) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.open)
}

func (b *bridges) isOpen(br *bridge) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.open[br.key] == br
}

// clientNumber returns a client that shares no bridge with another number.
func clientNumber(n int) modernClient {
	return modernClient{principal: fmt.Sprint(n), identity: upstream.Identity{Capabilities: []byte(`{}`)}}
}

func TestBridgesAreClosedWhenIdleAndLimitedInNumber(t *testing.T) {
	spec := upstream.Spec{Name: "one", Command: "/nonexistent", Isolation: upstream.PerSession}
	inBubble(t, setup{specs: []upstream.Spec{spec}}, func(t *testing.T, r *rig, _ *pipes) {
		b, server := r.gateway.modern.bridges, r.pool.Server("one")
		enter := func(n int) *bridge {
			br, err := b.enter(server, clientNumber(n))
			if err != nil {
				t.Fatal(err)
			}
			return br
		}
		first := enter(1)
		if enter(1) != first || first.users != 2 {
			t.Error("a second request got another bridge")
		}
		first.leave()
		time.Sleep(2 * bridgeIdle)
		if b.count() != 1 {
			t.Error("a bridge in use was closed")
		}
		first.leave()
		time.Sleep(bridgeIdle - time.Second)
		if enter(1) != first {
			t.Error("an idle bridge was closed too early")
		}
		first.leave()
		time.Sleep(bridgeIdle - time.Second)
		if b.count() != 1 {
			t.Error("the use of a bridge did not restart the idle time")
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if b.count() != 0 {
			t.Error("an idle bridge stays open")
		}
		kept := make([]*bridge, maxBridges)
		for i := range kept {
			kept[i] = enter(i)
		}
		if _, err := b.enter(server, clientNumber(-1)); err == nil || jsonrpc.AsError(err).Code != jsonrpc.CodeInternal {
			t.Errorf("a bridge beyond the limit: %v", err)
		}
		kept[7].leave()
		time.Sleep(time.Second)
		kept[3].leave()
		enter(-1) // evicts the bridge that has been idle longest
		if b.count() != maxBridges || b.isOpen(kept[7]) || !b.isOpen(kept[3]) {
			t.Errorf("%d bridges are open", b.count())
		}
		r.gateway.Drain()
		if b.count() != maxBridges-1 {
			t.Errorf("%d bridges are open, want those in use", b.count())
		}
		if _, err := b.enter(server, clientNumber(-2)); err == nil || !strings.Contains(err.Error(), "restarted") {
			t.Errorf("a new bridge while the hub stops: %v", err)
		}
		for _, br := range kept {
			if b.isOpen(br) {
				br.leave()
			}
		}
		if b.count() != 1 {
			t.Errorf("%d bridges are open after the last request", b.count())
		}
	})
}
