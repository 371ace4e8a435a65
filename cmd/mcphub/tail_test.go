package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
	"github.com/mcphub-go/mcphub/pkg/session"
	"github.com/mcphub-go/mcphub/test/peers"
)

// tailing is a running mcphub sessions tail.
type tailing struct {
	t         *testing.T
	out, errs *hubtest.Buffer
	cancel    context.CancelFunc
	ended     chan int
}

// tail runs the command until it follows the session.
func tail(t *testing.T, h *hubtest.Hub, id string, args ...string) *tailing {
	t.Helper()
	before, _ := strconv.Atoi(h.Metric("mcphub_session_tails_active"))
	ctx, cancel := context.WithCancel(t.Context())
	x := &tailing{t: t, out: &hubtest.Buffer{}, errs: &hubtest.Buffer{}, cancel: cancel, ended: make(chan int, 1)}
	args = append([]string{"sessions", "tail", id, "--admin", h.AdminListen}, args...)
	go func() { x.ended <- run(ctx, args, strings.NewReader(""), x.out, x.errs) }()
	hubtest.Eventually(t, "somebody follows the session", func() bool {
		select {
		case status := <-x.ended:
			t.Fatalf("tail ended with %d: %s", status, x.errs)
		default:
		}
		return h.Metric("mcphub_session_tails_active") == fmt.Sprint(before+1)
	})
	t.Cleanup(cancel)
	return x
}

// messages returns what --json printed, when the last message is as wanted.
func (x *tailing) messages(last string) (all []session.Message) {
	x.t.Helper()
	hubtest.Eventually(x.t, "the last message is "+last, func() bool {
		all = all[:0]
		for line := range strings.Lines(x.out.String()) {
			var m session.Message
			if err := json.Unmarshal([]byte(line), &m); err != nil {
				return false // half a line
			}
			if m.Kind != "" {
				all = append(all, m)
			}
		}
		return len(all) > 0 && inShort(all[len(all)-1]) == last
	})
	return all
}

// wait waits for the end of the command and returns its status.
func (x *tailing) wait() int {
	x.t.Helper()
	status := -1
	hubtest.Eventually(x.t, "tail ends", func() bool {
		select {
		case status = <-x.ended:
			return true
		default:
			return false
		}
	})
	return status
}

// inShort is what of a message is the same each time.
func inShort(m session.Message) string {
	text := m.Hop
	if m.Server != "" {
		text = m.Server
	}
	return strings.TrimSpace(fmt.Sprintf("%s %s %s %s %s", text, m.Direction, m.Kind, m.Method, m.Outcome))
}

func shorts(all []session.Message) (texts []string) {
	for _, m := range all {
		texts = append(texts, inShort(m))
	}
	return texts
}

// counted returns mcphub_messages_total by hop, direction and kind.
func counted(h *hubtest.Hub) map[string]int {
	_, body := h.Get("/metrics")
	counts := map[string]int{}
	for line := range strings.Lines(body) {
		name, value, _ := strings.Cut(line, " ")
		if rest, ok := strings.CutPrefix(name, "mcphub_messages_total{"); ok {
			labels := map[string]string{}
			for pair := range strings.SplitSeq(strings.TrimSuffix(rest, "}"), ",") {
				k, v, _ := strings.Cut(pair, "=")
				labels[k] = strings.Trim(v, `"`)
			}
			n, _ := strconv.Atoi(strings.TrimSpace(value))
			counts[labels["hop"]+" "+labels["direction"]+" "+labels["kind"]] = n
		}
	}
	return counts
}

// once checks that each message of the hops was shown once: as many as were
// counted since.
func once(t *testing.T, h *hubtest.Hub, before map[string]int, all []session.Message, hops ...string) {
	t.Helper()
	shown := map[string]int{}
	for _, m := range all {
		shown[m.Hop+" "+m.Direction+" "+m.Kind]++
	}
	for what, n := range counted(h) {
		hop, _, _ := strings.Cut(what, " ")
		if got := shown[what]; slices.Contains(hops, hop) && got != n-before[what] {
			t.Errorf("%s: %d of %d were shown\n%s", what, got, n-before[what], strings.Join(shorts(all), "\n"))
		}
	}
}

const (
	oneTrace     = "0af7651916cd43dd8448eb211c80319c"
	anotherTrace = "1af7651916cd43dd8448eb211c80319c"
)

func traceparent(trace string) string { return "00-" + trace + "-b7ad6b7169203331-01" }

func TestTheMessagesOfASessionAreFollowedOnBothHops(t *testing.T) {
	t.Setenv("OTEL_TRACES_EXPORTER", "otlp")
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://"+hubtest.FreeAddress(t))
	hub := hubtest.StartHub(t, hubtest.Options{Config: hubtest.DemoConfig})
	c, other := hubtest.Connect(t, hub.URL()), hubtest.Connect(t, hub.URL())
	c.Request("tools/call", `{"name":"demo__echo","arguments":{"text":"before"}}`) // the server is up
	before := counted(hub)
	x := tail(t, hub, c.Token, "--json") // as sessions show takes it
	post := func(message, trace string) {
		t.Helper()
		message = strings.ReplaceAll(message, "TRACE", `"_meta":{"traceparent":"`+traceparent(trace)+`"}`)
		if status, body := c.Post(message); status/100 != 2 {
			t.Fatalf("%s: %d %s", message, status, body)
		}
	}
	post(`{"jsonrpc":"2.0","id":1,"method":"ping"}`, "")
	post(`{"jsonrpc":"2.0","id":"two","method":"tools/call","params":{"name":"demo__echo","arguments":{"text":"canary"},TRACE}}`, oneTrace)
	post(`{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"demo__fail","arguments":{},TRACE}}`, anotherTrace)
	post(`{"jsonrpc":"2.0","id":4,"method":"tools/call","params":{"name":"none","arguments":{}}}`, "")
	post(
		`{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"demo__slow","arguments":{"seconds":0.3,"steps":2},`+
			`"_meta":{"progressToken":"p"}}}`,
		"",
	)
	all := x.messages("downstream out response tools/call ok")
	want := []string{
		"downstream in request ping", "downstream out response ping ok",
		"downstream in request tools/call", "demo out request tools/call", "demo in response tools/call ok",
		"downstream out response tools/call ok",
		"downstream in request tools/call", "demo out request tools/call", "demo in response tools/call tool_error", "downstream out response " +
			"tools/call tool_error",
		"downstream in request tools/call", "downstream out error tools/call -32602",
		"downstream in request tools/call", "demo out request tools/call",
		"demo in notification notifications/progress", "downstream out notification notifications/progress",
		"demo in notification notifications/progress", "downstream out notification notifications/progress",
		"demo in response tools/call ok", "downstream out response tools/call ok",
	}
	isLog := func(m session.Message) bool { return m.Method == "notifications/message" } // the demo server logs each call, when it likes
	quiet := slices.DeleteFunc(slices.Clone(all), isLog)
	if got := shorts(quiet); !slices.Equal(got, want) {
		t.Fatalf("shown was\n%s", strings.Join(shorts(all), "\n"))
	}
	once(t, hub, before, all, "downstream", "backend")
	checkEach(t, all, c.SessionID())
	for i, id := range map[int]string{0: "1", 1: "1", 2: `"two"`, 5: `"two"`, 6: "3", 9: "3", 10: "4", 11: "4", 12: "5", 19: "5"} {
		if got := string(quiet[i].ID); got != id {
			t.Errorf("message %d, %s, has the id %s, want %s", i, inShort(quiet[i]), got, id)
		}
	}
	for i, m := range quiet[2:10] {
		if trace := []string{oneTrace, anotherTrace}[i/4]; m.TraceID != trace {
			t.Errorf("%s has the trace %q, want %q", inShort(m), m.TraceID, trace)
		}
	}
	if a, b := quiet[3], quiet[4]; string(a.ID) != string(b.ID) || a.Target != "echo" || quiet[5].Target != "demo__echo" ||
		quiet[8].Fault != "tool" ||
		quiet[11].Fault != "client" {
		t.Errorf("%+v\n%+v\n%+v\n%+v", a, b, quiet[8], quiet[11])
	}
	if a, b := *quiet[19].Seconds, *quiet[18].Seconds; b < 0.3 || a < b || a > 10 {
		t.Errorf("a call of 0.3 s took %v downstream and %v at the server", a, b)
	}
	_, verifier, _ := strings.Cut(c.Token, ".")
	if text := x.out.String(); strings.Contains(text, "canary") || strings.Contains(text, "payload") || strings.Contains(text, verifier) {
		t.Errorf("it shows too much:\n%s", text)
	}
	other.Request("ping", "{}") // which is not shown
	if response, err := c.Do(t.Context(), http.MethodDelete, ""); err != nil || response.StatusCode != http.StatusNoContent {
		t.Fatal(response, err)
	}
	if status := x.wait(); status != 0 || !strings.HasSuffix(x.out.String(), `{"event":"end","reason":"client_delete"}`+"\n") ||
		x.errs.String() != "" {
		t.Errorf("tail ended with %d: %s%s", status, x.out, x.errs)
	}
	if more := x.messages("downstream out response tools/call ok"); len(more) != len(all) {
		t.Errorf("messages of another session were shown: %q", shorts(more[len(all):]))
	}
	if n := len(hub.Logged("somebody follows the messages of a session")) + len(hub.Logged("the messages of a session "+
		"are not followed any more")); n != 2 {
		t.Errorf("%d records tell of it", n)
	}
}

// checkEach checks what holds for every message.
func checkEach(t *testing.T, all []session.Message, id string) {
	t.Helper()
	for i, m := range all {
		answers := m.Kind == "response" || m.Kind == "error"
		if m.Seq != int64(i+1) || m.SessionID != id || m.Time.IsZero() || (i > 0 && m.Time.Before(all[i-1].Time)) ||
			answers != (m.Seconds != nil) || (answers && m.Outcome == "") || (m.Kind == "request" && len(m.ID) == 0) ||
			(m.Hop == "backend") != (m.Server != "") || m.Method == "" {
			t.Errorf("message %d is %+v", i, m)
		}
	}
}

func TestACancellationIsFollowedToTheServer(t *testing.T) {
	hub := hubtest.StartHub(t, hubtest.Options{Config: hubtest.DemoConfig})
	c := hubtest.Connect(t, hub.URL())
	x := tail(t, hub, c.SessionID(), "--json")
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.Post(`{"jsonrpc":"2.0","id":"x","method":"tools/call","params":{"name":"demo__slow","arguments":{"seconds":60}}}`)
	}()
	x.messages("demo out request tools/call")
	again := hubtest.NewLegacyClient(t, c.URL)
	again.Token = c.Token
	again.Post(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"x"}}`)
	<-done
	all := x.messages("demo out notification notifications/cancelled cancelled")
	request, there := all[len(all)-2], all[len(all)-1]
	if inShort(request) != "downstream in notification notifications/cancelled cancelled" || string(request.ID) != `"x"` ||
		string(there.ID) != string(all[1].ID) {
		t.Errorf("shown was %+v\n%+v", request, there)
	}
	if status, _, errs := mcphub(t, "", "sessions", "tail", "nosuchsession", "--admin", hub.AdminListen); status != 1 ||
		!strings.Contains(errs, "session not found") {
		t.Errorf("an unknown session: %d %s", status, errs)
	}
	if status, _, errs := mcphub(t, "", "sessions", "tail", c.SessionID(), "--payload", "--admin", hub.AdminListen); status != 1 ||
		!strings.Contains(errs, "admin.payloads: true") {
		t.Errorf("payloads that are not allowed: %d %s", status, errs)
	}
	x.cancel() // as Ctrl-C does
	if status := x.wait(); status != 0 || x.errs.String() != "" {
		t.Errorf("interrupted, tail ended with %d: %s", status, x.errs)
	}
	hubtest.Eventually(t, "nobody follows any more", func() bool { return hub.Metric("mcphub_session_tails_active") == "0" })
	ends := tail(t, hub, c.SessionID())
	if status := hub.Terminate(15 * time.Second); status != 0 {
		t.Errorf("the hub ended with %d", status)
	}
	if status := ends.wait(); status != 0 ||
		!strings.HasSuffix(ends.out.String(), "the hub stops; the session may go on after its restart\n") {
		t.Errorf("when the hub stopped, tail ended with %d: %s%s", status, ends.out, ends.errs)
	}
}

func TestPayloadsAreShownRedactedAndCut(t *testing.T) {
	hub := hubtest.StartHub(t, hubtest.Options{Config: "admin: {payloads: true}\n" + hubtest.DemoConfig})
	c := hubtest.Connect(t, hub.URL())
	_, verifier, _ := strings.Cut(c.Token, ".")
	x, text := tail(
		t,
		hub,
		c.SessionID(),
		"--payload",
		"--json",
		"--method",
		"tools/call",
	), tail(
		t,
		hub,
		c.SessionID(),
		"--payload",
		"--errors",
	)
	call := func(value string) {
		t.Helper()
		arguments, _ := json.Marshal(map[string]any{"text": value, "password": "canary", "inner": map[string]string{"API-Key": "canary"}})
		c.Request("tools/call", `{"name":"demo__echo","arguments":`+string(arguments)+`}`)
	}
	call("visible, Bearer canary.canary, and " + verifier + ` {"token": "canary"}`)
	call("begins " + strings.Repeat("long ", 100_000))
	c.Request("tools/call", `{"name":"demo__fail","arguments":{"message":"visible\u001b[2J secret=canary"}}`)
	all := x.messages("downstream out response tools/call tool_error")
	shown := x.out.String() + text.out.String()
	if strings.Contains(shown, "canary") || strings.Contains(shown, verifier) {
		t.Errorf("a secret is shown:\n%s", shown)
	}
	for i, want := range []string{"in", "out", "in", "out"} {
		if m := all[i]; m.Direction != want || m.PayloadCut ||
			!strings.Contains(string(m.Payload), "visible, Bearer [redacted], and [redacted]") {
			t.Errorf("message %d is %+v: %s", i, m, m.Payload)
		}
		if m := all[4+i]; !m.PayloadCut || m.Size < 500_000 || len(m.Payload) > 10<<10 || !strings.Contains(string(m.Payload), "begins long") ||
			!strings.Contains(string(m.Payload), "[cut, ") {
			t.Errorf("message %d is %+v: %d bytes", 4+i, m, len(m.Payload))
		}
	}
	hubtest.Eventually(t, "the failure is printed", func() bool { return strings.Count(text.out.String(), "\n") >= 5 })
	lines := strings.Split(strings.ReplaceAll(text.out.String(), "µs", "us"), "\n") // a column is a character, not a byte
	for i, want := range map[int]string{0: "TRACE", 1: "tool_error (tool)", 2: "    {", 3: "tool_error (tool)"} {
		if !strings.Contains(lines[i], want) || strings.Contains(lines[i], "\x1b") {
			t.Errorf("line %d is %q", i, lines[i])
		}
	}
	if outcome := strings.Index(lines[0], "OUTCOME"); outcome < 0 || !strings.HasPrefix(lines[1][outcome:], "tool_error") ||
		!strings.HasPrefix(lines[3][outcome:], "tool_error") {
		t.Errorf("the columns are not aligned:\n%s", text.out)
	}
}

func TestTheMessagesOfADerivedSessionAreFollowed(t *testing.T) {
	t.Setenv("OTEL_TRACES_EXPORTER", "otlp")
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://"+hubtest.FreeAddress(t))
	hub := hubtest.StartHub(t, hubtest.Options{Config: hubtest.DemoConfig})
	ann, bob := hubtest.NewModernClient(t, hub.URL(), "ann"), hubtest.NewModernClient(t, hub.URL(), "bob")
	ann.Traceparent = traceparent(oneTrace)
	ann.Request("tools/list", "", "")
	_, list, _ := mcphub(t, "", "sessions", "list", "--kind", "derived", "--json", "--admin", hub.AdminListen)
	var found struct{ Sessions []struct{ SessionID string } }
	if err := json.Unmarshal([]byte(list), &found); err != nil || len(found.Sessions) != 1 {
		t.Fatal(list, err)
	}
	id := found.Sessions[0].SessionID
	before := counted(hub)
	x := tail(t, hub, id, "--json")
	ann.Request("server/discover", "", "")
	ann.Request("tools/call", "demo__echo", `"name":"demo__echo","arguments":{"text":"canary"}`)
	ann.Request("tools/call", "none", `"name":"none","arguments":{}`)
	all := slices.DeleteFunc(
		x.messages("downstream out error tools/call -32602"),
		func(m session.Message) bool { return m.Method == "notifications/message" },
	)
	once(t, hub, before, all, "downstream")
	want := []string{
		"downstream in request server/discover", "downstream out response server/discover ok",
		"downstream in request tools/call", "demo out request tools/call", "demo in response tools/call ok",
		"downstream out response tools/call ok",
		"downstream in request tools/call", "downstream out error tools/call -32602",
	}
	if got := shorts(all); !slices.Equal(got, want) {
		t.Errorf("shown was\n%s", strings.Join(got, "\n"))
	}
	for _, m := range all {
		if m.SessionID != id || m.TraceID != oneTrace {
			t.Errorf("%+v", m)
		}
	}
	bob.Request("tools/call", "demo__echo", `"name":"demo__echo","arguments":{"text":"canary"}`) // which is not shown
	if status, _, errs := mcphub(t, "", "sessions", "kill", id, "--yes", "--admin", hub.AdminListen); status != 0 {
		t.Fatal(errs)
	}
	if status := x.wait(); status != 0 || !strings.HasSuffix(x.out.String(), `{"event":"end","reason":"admin"}`+"\n") ||
		strings.Contains(x.out.String(), "canary") {
		t.Errorf("tail ended with %d: %s%s", status, x.out, x.errs)
	}
}

// A server request is shown on each hop, whatever the eras of the client and the server, and each message is shown once.
func TestServerRequestsAreShownOnEachHop(t *testing.T) {
	upstreams := slices.DeleteFunc(peers.Upstreams(), func(u peers.Upstream) bool { return u.Name == "sse" })
	hub := peers.StartHub(t, "prefix", upstreams)
	for _, revision := range []string{hubtest.LegacyVersion, hubtest.ModernVersion} {
		for _, u := range upstreams {
			t.Run(fmt.Sprintf("%s client, %s %s server", peers.Era(revision), peers.Era(u.Revision), u.Transport), func(t *testing.T) {
				answers := counted(hub)["downstream in response"]
				c := peers.Connect(t, hub.URL(), revision, "tailed_"+u.Name+"_"+peers.Era(revision))
				c.Call(u.Name+"__era", peers.Arguments{}) // the session and its connection are there
				if !c.Modern() {
					hubtest.Eventually(t, "the hub knows the roots", func() bool { return counted(hub)["downstream in response"] == answers+1 })
				}
				id, want := idOf(t, hub, c.Name), shownRequestsOf(u, c.Modern())
				before := counted(hub)
				x := tail(t, hub, id, "--json")
				c.Call(u.Name+"__sample", peers.Arguments{Tag: "canary"})
				var all []session.Message
				hubtest.Eventually(t, "every message is shown", func() bool {
					all = x.messages("downstream out response tools/call ok")
					return len(all) >= len(want)
				})
				once(t, hub, before, all, "downstream")
				checkEach(t, all, id)
				got := shorts(all)
				if slices.Sort(got); !slices.Equal(got, want) {
					t.Errorf("shown was\n%s\nwant in any order\n%s", strings.Join(shorts(all), "\n"), strings.Join(want, "\n"))
				}
				checkWays(t, all)
			})
		}
	}
}

// shownRequestsOf returns the messages of a call during which a server sends two requests, sorted.
func shownRequestsOf(u peers.Upstream, modernClient bool) (want []string) {
	add := func(n int, texts ...string) {
		for range n {
			want = append(want, texts...)
		}
	}
	rounds := func(modern bool) int { // the requests of a modern call come in its result
		if modern {
			return 2
		}
		return 1
	}
	modernServer := u.Revision >= hubtest.ModernVersion
	add(rounds(modernClient), "downstream in request tools/call", "downstream out response tools/call ok")
	add(rounds(modernServer), u.Name+" out request tools/call", u.Name+" in response tools/call ok")
	if !modernClient {
		add(2, "downstream out request sampling/createMessage", "downstream in response sampling/createMessage ok")
	}
	if !modernServer {
		add(2, u.Name+" in request sampling/createMessage", u.Name+" out response sampling/createMessage ok")
	}
	slices.Sort(want)
	return want
}

// checkWays checks that a server request and its response are shown on their second hop, if there is one, after their
// first.
func checkWays(t *testing.T, all []session.Message) {
	t.Helper()
	seen := map[string]int{}
	twoHops := slices.ContainsFunc(all, func(m session.Message) bool { return m.Method == "sampling/createMessage" && m.Hop == "backend" }) &&
		slices.ContainsFunc(all, func(m session.Message) bool { return m.Method == "sampling/createMessage" && m.Hop == "downstream" })
	for _, m := range all {
		seen[m.Direction+" "+m.Kind+" "+m.Method]++
		for _, kind := range []string{"request", "response"} {
			if q := kind + " sampling/createMessage"; twoHops && seen["in "+q] < seen["out "+q] {
				t.Fatalf("%s is shown before it came\n%s", inShort(m), strings.Join(shorts(all), "\n"))
			}
		}
	}
	if first, last := inShort(all[0]), inShort(all[len(all)-1]); first != "downstream in request tools/call" ||
		last != "downstream out response tools/call ok" {
		t.Errorf("the first is %s, the last %s", first, last)
	}
}

// idOf is the id of the session of a client.
func idOf(t *testing.T, h *hubtest.Hub, client string) string {
	t.Helper()
	_, list, _ := mcphub(t, "", "sessions", "list", "--client", client, "--json", "--admin", h.AdminListen)
	var found struct{ Sessions []struct{ SessionID string } }
	if err := json.Unmarshal([]byte(list), &found); err != nil || len(found.Sessions) != 1 {
		t.Fatal(list, err)
	}
	return found.Sessions[0].SessionID
}
