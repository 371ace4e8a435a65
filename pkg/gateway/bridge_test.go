package gateway

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

func TestAnswersOfLegacyServersBecomeModern(t *testing.T) {
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one"), stdio(t, "two")}, untraced: true})
	c := r.modern(`{}`).with(`,"io.modelcontextprotocol/logLevel":"error","x/y":1.50`)
	result := c.run("1", "one__weird", `{}`).answer(t).Result
	if has(t, result, "resultType") != `"complete"` || has(t, result, "ttlMs") != "" || !strings.Contains(has(t, result, "_meta"), `"io.modelcontextprotocol/serverInfo":{"name":"mcphub"`) {
		t.Errorf("the result is %s", result)
	}
	for _, part := range []string{`"content": [ {"type":"text","text":"\u00e9\ud83d\ude00 </script>"} ]`, `"n": 1.50`, `"big":12345678901234567890`, `"dup":1, "dup":2`, `"k":{}`} {
		if !strings.Contains(string(result), part) {
			t.Errorf("%s is not in %s", part, result)
		}
	}
	result = c.ask("1", "resources/read", `{"uri":"test://one/one"}`).answer(t).Result
	if has(t, result, "ttlMs") != "0" || has(t, result, "cacheScope") != `"private"` {
		t.Errorf("the resource is %s", result)
	}
	if got := has(t, result, "params"); strings.Contains(got, "io.modelcontextprotocol") || !strings.Contains(got, `"x/y":1.50`) {
		t.Errorf("the legacy server got %s", got)
	}
	p := c.run("1", "one__fail", `{"error":{"code":-32002,"message":"gone","data":{"uri":"x://y", "n":1.50}}}`)
	if p.status != 400 || string(p.answer(t).Error) != `{"code":-32602,"message":"gone","data":{"uri":"x://y", "n":1.50}}` {
		t.Errorf("%d %s", p.status, p.body)
	}
	p = c.run("1", "one__fail", `{"error":{"code":-32042,"message":"open","data":{"elicitations":[]}}}`)
	if e := p.failed(t); p.status != 200 || e.Code != -32603 || !strings.Contains(e.Message, "open a page") {
		t.Errorf("%d %s", p.status, p.body)
	}
	if p = c.ask("1", "resources/read", `{"uri":"nobody://x"}`); p.failed(t).Code != -32602 || !strings.Contains(string(p.failed(t).Data), "nobody://x") {
		t.Errorf("%d %s", p.status, p.body)
	}
	r.conserved(0)
}

// count calls the tool that counts the calls of a session, and returns the number.
func (c *modernPeer) count() string {
	c.t.Helper()
	content := has(c.t, c.run("1", "web__count", `{}`).answer(c.t).Result, "content")
	_, text, _ := strings.Cut(content, `"text":"`)
	number, _, _ := strings.Cut(text, `"`)
	return number
}

func TestSessionsWithLegacyServersFollowThePolicy(t *testing.T) {
	for policy, want := range map[BridgePolicy]string{"": "1 2 1 1 1", BridgePrincipal: "1 2 1 1 1", BridgeRequest: "1 1 1 1 1", BridgeShared: "1 2 3 1 4"} {
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
			able, other := r.modern(canElicit, "X-User: ann").with(who), r.modern(`{}`, "X-User: ann").with(strings.Replace(who, "x", "y", 1))
			got := strings.Join([]string{ann.count(), ann.count(), bob.count(), able.count(), other.count()}, " ")
			if got != want {
				t.Errorf("counted %s, want %s", got, want)
			}
			last := len(web.seen("POST", "initialize"))
			if n := map[BridgePolicy]int{BridgeRequest: 5, BridgeShared: 2}[policy]; n != 0 && last != n+1 { // and the hub's own
				t.Errorf("%d sessions", last)
			}
			if policy == BridgeRequest {
				until(t, "the sessions are ended", func() bool { return len(web.seen("DELETE", "")) == 5 })
			}
			r.gateway.Drain()
			until(t, "all sessions are ended", func() bool { return len(web.seen("DELETE", "")) == last-1 })
			r.conserved(0)
		})
	}
}

func TestALegacyServerLearnsWhoTheModernClientIs(t *testing.T) {
	web := newWeb(t)
	spec := web.spec("web")
	spec.Era = protocol.Legacy
	r := start(t, setup{specs: []upstream.Spec{spec}})
	for more, want := range map[string]string{
		"": `{"name":"unknown","version":""}`,
		`,"io.modelcontextprotocol/clientInfo":{"name":"ann"}`:                        `{"name":"ann","version":""}`,
		`,"io.modelcontextprotocol/clientInfo":{"version":"1","name":"ann","x":1.50}`: `{"version":"1","name":"ann","x":1.50}`,
	} {
		if p := r.modern(canElicit).with(more).run("1", "web__count", `{}`); p.status != 200 || p.answer(t).Error != nil {
			t.Errorf("%d %s", p.status, p.body)
		}
		all := web.seen("POST", "initialize")
		params := all[len(all)-1].params
		if has(t, params, "clientInfo") != want || has(t, params, "capabilities") != canElicit {
			t.Errorf("initialized with %s, want %s", params, want)
		}
	}
}

func TestLogLevelsAreRaisedAndFilteredPerRequest(t *testing.T) {
	for _, isolation := range []upstream.Isolation{upstream.Shared, upstream.PerSession} {
		t.Run(string(isolation), func(t *testing.T) {
			one, two := stdio(t, "one"), stdio(t, "two")
			one.Isolation, two.Isolation = isolation, isolation
			r := start(t, setup{specs: []upstream.Spec{one, two}})
			silent := r.modern(`{}`)
			at := func(level string) *modernPeer {
				return silent.with(`,"io.modelcontextprotocol/logLevel":"` + level + `"`)
			}
			for _, server := range []string{"one", "two"} {
				for _, x := range []struct {
					c       *modernPeer
					logs    int
					level   string
					whoever string
				}{{silent, 0, "", "silent"}, {at("error"), 0, "error", "error"}, {at("info"), 1, "info", "info"}, {at("error"), 0, "info", "error again"},
					{at("debug"), 2, "debug", "debug"}, {silent, 0, "debug", "silent again"}} {
					p := x.c.run("1", server+"__log", `{"size":2}`)
					if n := max(0, len(p.events)-1); n != x.logs || p.answer(t).Error != nil {
						t.Errorf("%s, %s: %d log messages: %s", server, x.whoever, n, p.body)
					}
					if got := silent.seen(server).Level; got != x.level {
						t.Errorf("%s, %s: the level is %q, want %q", server, x.whoever, got, x.level)
					}
				}
			}
		})
	}
}

func TestANewSessionWithAServerHearsOfTheLogLevelAgain(t *testing.T) {
	for _, isolation := range []upstream.Isolation{upstream.Shared, upstream.PerSession} {
		t.Run(string(isolation), func(t *testing.T) {
			one := stdio(t, "one")
			one.Isolation = isolation
			r := start(t, setup{specs: []upstream.Spec{one}})
			c := r.modern(`{}`)
			c.with(`,"io.modelcontextprotocol/logLevel":"info"`).run("1", "one__log", `{}`)
			c.run("2", "one__die", `{}`)
			until(t, "the level is told again", func() bool {
				p := c.run("3", "one__state", `{}`)
				return p.answer(t).Error == nil && strings.Contains(string(p.answer(t).Result), `"level":"info"`)
			})
		})
	}
}

// count is how many sessions are open.
func (b *bridges) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.open)
}

func (b *bridges) has(br *bridge) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.open[br.key] == br
}

// clientNumber is a client that shares its sessions with no other.
func clientNumber(n int) modernClient {
	return modernClient{principal: fmt.Sprint(n), identity: upstream.Identity{Capabilities: []byte(`{}`)}}
}

func TestBridgesAreClosedWhenIdleAndBoundedInNumber(t *testing.T) {
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
			t.Error("a second request has another session")
		}
		first.leave()
		time.Sleep(2 * bridgeIdle)
		if b.count() != 1 {
			t.Error("a session was closed while it was used")
		}
		first.leave()
		time.Sleep(bridgeIdle - time.Second)
		if enter(1) != first {
			t.Error("the session was not kept")
		}
		first.leave()
		time.Sleep(bridgeIdle - time.Second)
		if b.count() != 1 {
			t.Error("its use did not count")
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if b.count() != 0 {
			t.Error("an idle session stays open")
		}
		kept := make([]*bridge, maxBridges)
		for i := range kept {
			kept[i] = enter(i)
		}
		if _, err := b.enter(server, clientNumber(-1)); err == nil || jsonrpc.AsError(err).Code != jsonrpc.CodeInternal {
			t.Errorf("a session too many: %v", err)
		}
		kept[7].leave()
		time.Sleep(time.Second)
		kept[3].leave()
		enter(-1) // takes the place of the one that is idle longest
		if b.count() != maxBridges || b.has(kept[7]) || !b.has(kept[3]) {
			t.Errorf("%d are open", b.count())
		}
		r.gateway.Drain()
		if b.count() != maxBridges-1 {
			t.Errorf("%d are open while they are used, after the idle one was closed", b.count())
		}
		if _, err := b.enter(server, clientNumber(-2)); err == nil || !strings.Contains(err.Error(), "restarted") {
			t.Errorf("a new session while the hub stops: %v", err)
		}
		for _, br := range kept {
			if b.has(br) {
				br.leave()
			}
		}
		if b.count() != 1 {
			t.Errorf("%d are open after the last request", b.count())
		}
	})
}
