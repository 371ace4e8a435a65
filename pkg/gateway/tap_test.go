package gateway

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
	"github.com/mcphub-go/mcphub/pkg/protocol"
	"github.com/mcphub-go/mcphub/pkg/session"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

// tapRecorder collects the tapped messages of a session.
type tapRecorder struct {
	r        *rig
	tail     *session.Tail
	messages []session.Message
	before   map[string]float64
}

func (r *rig) tail(id string) *tapRecorder {
	r.t.Helper()
	tail, err := r.sessions.Tail(r.t.Context(), id, session.TailConfig{Buffer: 1000, IncludePayload: true})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(tail.Close)
	return &tapRecorder{r: r, tail: tail, before: r.messageCounts()}
}

// messageCounts returns the counters of messages between clients and hub.
func (r *rig) messageCounts() map[string]float64 {
	counts := map[string]float64{}
	for _, direction := range []string{"in", "out"} {
		for _, kind := range []string{"request", "notification", "response", "error"} {
			counts[direction+" "+kind] = r.metric("mcphub_messages_total", "hop", "downstream", "direction", direction, "kind", kind)
		}
	}
	return counts
}

// has reports whether a tapped message contains a text.
func (x *tapRecorder) has(like string) bool {
	for len(x.tail.C) > 0 {
		x.messages = append(x.messages, <-x.tail.C)
	}
	return slices.ContainsFunc(x.messages, func(m session.Message) bool { return strings.Contains(x.text(m), like) })
}

func (x *tapRecorder) text(m session.Message) string {
	return strings.Join([]string{m.Hop, m.Server, m.Direction, m.Kind, m.Method, m.Outcome, m.Fault, string(m.ID), string(m.Payload)}, " ")
}

// checkCounted checks that as many messages were tapped as counted. Unmatched responses have a counter of their own.
func (x *tapRecorder) checkCounted() {
	x.r.t.Helper()
	x.has("")
	tapped := map[string]float64{}
	var all []string
	for _, m := range x.messages {
		if all = append(all, x.text(m)); m.Hop == "downstream" && m.Outcome != "unmatched" {
			tapped[m.Direction+" "+m.Kind]++
		}
	}
	for what, n := range x.r.messageCounts() {
		if tapped[what] != n-x.before[what] {
			x.r.t.Errorf("%s: %v of %v were tapped\n%s", what, tapped[what], n-x.before[what], strings.Join(all, "\n"))
		}
	}
}

func TestEachMessageOfASessionIsTappedOnce(t *testing.T) {
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one")}})
	c := r.connectWith(strings.Replace(initializeBody, "2025-11-25", protocol.BatchVersion, 1))
	x := r.tail(c.id)
	c.post(batchOf(request("1", "ping", `{}`), `{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}`,
		request("2", "no/such", `{}`), request("3", "initialize", `{}`), request("4", "ping", `{}`), request("4", "ping", `{}`)))
	c.post(`{"jsonrpc":"2.0","id":"nobody asked","result":{}}`)
	s := c.open(http.MethodPost, request(`"a"`, "tools/call",
		`{"name":"one__request","arguments":{"method":"custom/ask","params":{"api_key":"canary","n":1.50}}}`))
	c.respond(s.message(), `"error":{"code":-7,"message":"no"}`)
	s.waitForEnd()
	for _, like := range []string{
		"backend one in request custom/ask", `{"api_key":"[redacted]","n":1.50}`,
		"downstream  out request custom/ask", "downstream  in error custom/ask -7",
		"backend one out error custom/ask -7", "downstream  in response  unmatched  \"nobody asked\"",
		"downstream  out error initialize -32600",
	} {
		if !x.has(like) {
			t.Errorf("not tapped: %s", like)
		}
	}
	x.checkCounted()
	if x.has("canary") {
		t.Error("a secret was tapped")
	}
}

// The event of a request without a response of its server has the reason.
func TestOutcomeOfAFailedCallIsTapped(t *testing.T) {
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one")}})
	c := r.connect()
	x := r.tail(c.id)
	c.call("1", "tools/call", `{"name":"one__die","arguments":{}}`)
	if !x.has("downstream  out error tools/call connection_lost backend 1") {
		t.Errorf("tapped: %+v", x.messages)
	}
	x.checkCounted()
}

// A notification of a shared connection is tapped for each client that asked for it, on both hops.
func TestNotificationOfASharedServerIsTappedForItsRecipients(t *testing.T) {
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one")}})
	ann, bob := r.connect(), r.connect()
	for _, c := range []*peer{ann, bob} {
		s := c.listen()
		defer s.cancel()
	}
	ann.call("1", "resources/subscribe", `{"uri":"test://one/one"}`)
	x, nothing := r.tail(ann.id), r.tail(bob.id)
	sub := r.modern(`{}`).stream(`"s"`, "subscriptions/listen", `{"notifications":{"resourceSubscriptions":["test://one/one"]}}`)
	defer sub.cancel()
	sub.message()
	var derived string
	hubtest.Eventually(t, "the derived session exists", func() bool {
		page, _, _ := r.sessions.List("", 0, session.Derived)
		if len(page) == 1 {
			derived = page[0].ID
		}
		return derived != ""
	})
	modern := r.tail(derived)
	r.connect().call("1", "tools/call", `{"name":"one__update","arguments":{}}`)
	for who, x := range map[string]*tapRecorder{"legacy": x, "modern": modern} {
		for _, like := range []string{"backend one in notification notifications/resources/updated",
			"downstream  out notification notifications/resources/updated"} {
			hubtest.Eventually(t, who+": tapped "+like, func() bool { return x.has(like) })
		}
		n := 0
		for _, m := range x.messages {
			if m.Method == "notifications/resources/updated" {
				n++
			}
		}
		if n != 2 {
			t.Errorf("%s: tapped %d times", who, n)
		}
	}
	if nothing.has("updated") {
		t.Errorf("tapped for a client without a subscription: %+v", nothing.messages)
	}
}

func TestTappedMessageIsLimitedInSize(t *testing.T) {
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one")}})
	c := r.connect()
	x := r.tail(c.id)
	_, verifier, _ := strings.Cut(c.token, ".")
	long := strings.Repeat("m/", 10_000)
	c.call(fmt.Sprintf("%q", verifier), long+verifier, `{"v":"`+verifier+`","long":"`+long+`"}`)
	if !x.has("downstream  in request m/") || x.has(verifier) {
		t.Errorf("tapped: %.500s", fmt.Sprint(x.messages))
	}
	for _, m := range x.messages {
		if n := len(x.text(m)); n > 16<<10 {
			t.Errorf("%d bytes are tapped of a message", n)
		}
	}
}
