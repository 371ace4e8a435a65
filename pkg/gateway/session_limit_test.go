package gateway

import (
	"net/http"
	"strings"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/session"
)

// startLimited starts a hub with limited sessions, whose clients name themselves in X-User.
func startLimited(t *testing.T, limit func(*session.Config)) *rig {
	t.Helper()
	return start(t, setup{sessions: limit,
		gateway: func(c *Config) { c.Principal = func(r *http.Request) string { return r.Header.Get("X-User") } }})
}

// expectRefusal checks that initialize is refused with the reason.
func (r *rig) expectRefusal(message string, headers ...string) {
	r.t.Helper()
	stored, open := len(r.stored()), len(r.gateway.legacy.all())
	all, _ := r.sessions.All()
	p := r.send(http.MethodPost, initializeBody, headers...)
	if p.status != http.StatusServiceUnavailable || p.header.Get("Retry-After") == "" || p.header.Get("Mcp-Session-Id") != "" {
		r.t.Errorf("answered %d %v", p.status, p.header)
	}
	if e := p.rpcError(r.t); e.Code != -32603 || e.Message != message+"; try again later" || string(p.response(r.t).ID) != "0" {
		r.t.Errorf("answered %s", p.body)
	}
	after, _ := r.sessions.All()
	if len(after) != len(all) || len(r.stored()) != stored || len(r.gateway.legacy.all()) != open {
		r.t.Errorf("there were %d sessions and are %d", len(all), len(after))
	}
}

func TestSessionBeyondTheLimitIsRefusedWithTheReason(t *testing.T) {
	r := startLimited(t, func(c *session.Config) { c.MaxSessions = 2 })
	first := r.connect("X-User: ann")
	r.connect("X-User: bob")
	for range 3 {
		r.expectRefusal("the hub has 2 sessions already, which is the limit", "X-User: eve")
	}
	if p := first.post(pingBody); p.status != http.StatusOK {
		t.Errorf("an open session: %d", p.status)
	}
	first.send(http.MethodDelete, "", "Mcp-Session-Id: "+first.token, "X-User: ann")
	r.connect("X-User: eve")
	if got := r.metric("mcphub_sessions_limited_total", "scope", "global", "action", "refused"); got != 3 {
		t.Errorf("%v refusals were counted", got)
	}
	r.conserved(0)
}

func TestClientBeyondItsLimitIsRefusedAndNoOther(t *testing.T) {
	r := startLimited(t, func(c *session.Config) { c.MaxSessionsPerClient = 1 })
	r.connect("X-User: ann")
	r.expectRefusal("the client has 1 sessions already, which is the limit", "X-User: ann")
	r.connect("X-User: bob")
	// without a principal: the client is known by its address and name
	if p := r.send(http.MethodPost, initializeBody); p.status != http.StatusOK {
		t.Errorf("a client without a principal: %d", p.status)
	}
	r.expectRefusal("the client has 1 sessions already, which is the limit")
	r.conserved(0)
}

func TestFullHubThatEvictsEndsTheSessionIdleLongest(t *testing.T) {
	r := startLimited(t, func(c *session.Config) { c.MaxSessions, c.AtLimit = 2, session.Evict })
	busy, idle := r.connect("X-User: ann"), r.connect("X-User: bob")
	busy.open(http.MethodGet, "", "X-User: ann").next()
	next := r.connect("X-User: eve")
	if p := idle.post(pingBody); p.status != http.StatusNotFound {
		t.Errorf("the evicted session answers %d", p.status)
	}
	for _, c := range []*peer{busy, next} {
		if p := c.post(pingBody); p.status != http.StatusOK {
			t.Errorf("a session that was not evicted answers %d", p.status)
		}
	}
	if got := r.closed("evicted"); got != 1 {
		t.Errorf("%v sessions were evicted", got)
	}
	if got := idle.events(); got[len(got)-1] != "ended evicted" {
		t.Errorf("the events are %q", got)
	}
	next.open(http.MethodGet, "", "X-User: eve").next()
	r.expectRefusal("the hub has 2 sessions already, which is the limit", "X-User: bob") // no session is idle
}

func TestClientAtItsLimitMayInitializeAgain(t *testing.T) {
	for name, limit := range map[string]func(*session.Config){
		"per client": func(c *session.Config) { c.MaxSessionsPerClient = 1 },
		"global":     func(c *session.Config) { c.MaxSessions = 1 },
	} {
		t.Run(name, func(t *testing.T) {
			r := startLimited(t, limit)
			c := r.connect("X-User: ann")
			again := r.connect("X-User: ann", "Mcp-Session-Id: "+c.token)
			if p := c.post(pingBody); p.status != http.StatusNotFound {
				t.Errorf("the old session answers %d", p.status)
			}
			if p := again.post(pingBody); p.status != http.StatusOK {
				t.Errorf("the new session answers %d", p.status)
			}
			if got := r.closed("disconnect"); got != 1 {
				t.Errorf("%v sessions ended as disconnected", got)
			}
			// A token that is not the client's own makes no room.
			id, _, _ := strings.Cut(again.token, ".")
			for _, token := range []string{id, again.token + "x", c.token} {
				if p := r.send(http.MethodPost, initializeBody, "X-User: ann",
					"Mcp-Session-Id: "+token); p.status != http.StatusServiceUnavailable {
					t.Errorf("with an invalid token: %d", p.status)
				}
			}
			if p := again.post(pingBody); p.status != http.StatusOK {
				t.Errorf("the session answers %d", p.status)
			}
			r.conserved(0)
		})
	}
}
