package gateway

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/session"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

// ledger is what became of the requests of one hop in one direction.
type ledger struct{ asked, answered, inFlight, cancelled float64 }

func (l ledger) unaccounted() float64 { return l.asked - l.answered - l.inFlight - l.cancelled }

// ledgers reads those of both hops and directions from one scrape.
func (r *rig) ledgers() map[string]ledger {
	r.t.Helper()
	families, err := r.registry.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	books := map[string]ledger{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			have := map[string]string{}
			for _, l := range m.GetLabel() {
				have[l.GetName()] = l.GetValue()
			}
			key, back := have["hop"]+" "+have["direction"], have["hop"]+" "+map[string]string{"in": "out", "out": "in"}[have["direction"]]
			here, there := books[key], books[back]
			switch {
			case f.GetName() == "mcphub_requests_in_flight":
				here.inFlight += m.GetGauge().GetValue()
			case f.GetName() == "mcphub_requests_cancelled_total":
				here.cancelled += m.GetCounter().GetValue()
				if have["reason"] == string(instrument.Unexplained) && m.GetCounter().GetValue() != 0 {
					r.t.Errorf("%s: requests ended for no known reason", key)
				}
			case f.GetName() != "mcphub_messages_total" || have["kind"] == "notification":
				continue
			case have["kind"] == "request":
				here.asked += m.GetCounter().GetValue()
			default:
				there.answered += m.GetCounter().GetValue()
				books[back] = there
				continue
			}
			books[key] = here
		}
	}
	return books
}

// balanced checks the equation of the messages for both hops and directions.
func (r *rig) balanced() map[string]ledger {
	r.t.Helper()
	books := r.ledgers()
	if len(books) != 4 {
		r.t.Errorf("there are ledgers %v", books)
	}
	for key, l := range books {
		if l.unaccounted() != 0 {
			r.t.Errorf("%s: %v requests are unaccounted for: %+v", key, l.unaccounted(), l)
		}
	}
	return books
}

// havoc is one client that does what clients should not, and servers that do.
type havoc struct {
	*rig
	random *rand.Rand
	n      int
	old    *peer
	new    *modernPeer
}

const batchInitialize = `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-03-26",` +
	`"capabilities":{"elicitation":{},"sampling":{}},"clientInfo":{"name":"batch","version":"1"}}}`

var havocServers = []string{"one", "two"}

func (h *havoc) server() string { return havocServers[h.random.IntN(len(havocServers))] }

func (h *havoc) pause() time.Duration { return time.Duration(h.random.IntN(30)) * time.Millisecond }

// try sends a request and takes what comes, for as long as d; 0: to the end.
// Whatever goes wrong is meant to.
func (h *havoc) try(d time.Duration, method, body string, headers ...string) {
	ctx, cancel := context.WithTimeout(h.t.Context(), patience)
	if d > 0 {
		ctx, cancel = context.WithTimeout(h.t.Context(), d)
	}
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, h.url, strings.NewReader(body))
	if err != nil {
		h.t.Error(err)
		return
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Accept", "application/json, text/event-stream")
	for _, header := range headers {
		name, value, _ := strings.Cut(header, ": ")
		request.Header.Add(name, value)
	}
	response, err := h.client.Do(request)
	if err != nil {
		return
	}
	defer func() { _ = response.Body.Close() }()
	h.read(response.Body)
}

// read reads a stream and answers some of the questions on it, twice at times.
func (h *havoc) read(body io.Reader) {
	var seen strings.Builder
	buffer := make([]byte, 4<<10)
	for {
		n, err := body.Read(buffer)
		_, _ = seen.Write(buffer[:n])
		for {
			line, rest, whole := strings.Cut(seen.String(), "\n")
			if !whole {
				break
			}
			seen.Reset()
			_, _ = seen.WriteString(rest)
			if data, ok := strings.CutPrefix(line, "data: "); ok {
				if m, err := jsonrpc.Parse([]byte(data)); err == nil && m.Kind() == jsonrpc.Request {
					h.reply(m)
				}
			}
		}
		if err != nil {
			return
		}
	}
}

func (h *havoc) reply(m jsonrpc.Message) {
	member := `"result":{}`
	switch h.random.IntN(4) {
	case 0:
		member = `"error":{"code":-1,"message":"no"}`
	case 1:
		return
	case 2:
		defer h.post(fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":{}}`, m.ID)) // again
	}
	h.post(fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,%s}`, m.ID, member))
}

func (h *havoc) post(body string, headers ...string) {
	h.try(0, http.MethodPost, body, append(headers, "Mcp-Session-Id: "+h.old.token)...)
}

// orderly is asked something and answers.
func (h *havoc) orderly() {
	s := h.old.open(http.MethodPost, request(`"orderly"`, "tools/call", `{"name":"two__ask","arguments":{"method":"elicitation/create","params":{}}}`))
	h.old.answers(s.message(), `"result":{}`)
	s.message()
	s.cancel()
}

// legacy does one thing that a client with a session may do.
func (h *havoc) legacy() {
	h.n++
	id, server := strconv.Itoa(h.n), h.server()
	tool := func(name, arguments string) string {
		return request(id, "tools/call", fmt.Sprintf(`{"name":"%s__%s","arguments":%s,"_meta":{"progressToken":%q}}`, server, name, arguments, id))
	}
	token := "Mcp-Session-Id: " + h.old.token
	ask := fmt.Sprintf(`{"method":%q,"params":{}%s}`, []string{"elicitation/create", "elicitation/create", "sampling/createMessage", "roots/list", "ping", "no/such"}[h.random.IntN(6)],
		[]string{"", `,"size":0`, `,"size":20`}[h.random.IntN(3)]) // some questions are taken back
	cancel := fmt.Sprintf(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":%s}}`, id)
	switch h.random.IntN(15) {
	case 14:
		h.post(request(id, "tools/call", fmt.Sprintf(`{"name":"web__say","arguments":{"say":"x","steps":2,"ask":"sampling/createMessage"},"_meta":{"progressToken":%s}}`, id)))
	case 0:
		h.post(tool("echo", `{}`))
	case 1: // it is never answered
		h.try(h.pause()+1, http.MethodPost, tool("hang", `{}`), token)
	case 2, 3: // taken back, maybe before it is there, and maybe after its end
		body, what := tool("hang", `{}`), h.pause()
		if h.random.IntN(2) == 0 {
			body = tool("work", `{"steps":3}`)
		}
		var other sync.WaitGroup
		other.Go(func() { (&havoc{rig: h.rig, random: rand.New(rand.NewPCG(1, uint64(h.n))), old: h.old}).post(body) })
		time.Sleep(what)
		h.post(cancel)
		other.Wait()
	case 4, 5:
		h.post(tool("ask", ask))
	case 6: // and nobody is there to answer
		h.try(h.pause()+1, http.MethodPost, tool("ask", ask), token)
	case 7:
		if server == "two" || h.random.IntN(4) == 0 { // the other is everybody's
			h.post(tool("die", []string{`{}`, `{"size":9}`}[h.random.IntN(2)]))
		}
	case 8: // the session ends in the middle of a call
		h.try(h.pause()+1, http.MethodPost, tool([]string{"ask", "hang"}[h.random.IntN(2)], ask), token)
		h.try(0, http.MethodDelete, "", token)
		h.post(tool("echo", `{}`)) // of a session that is none
		h.connectAnew()
	case 9:
		h.post(fmt.Sprintf(`[%s,%s,{"jsonrpc":"2.0","method":"notifications/x"},7,{"jsonrpc":"2.0","id":"i","method":"initialize"},%s,%s,%s]`,
			tool("echo", `{}`), request(`"a"`, "ping", `{}`), request(`"b"`, "no/such", `{}`), request(`"b"`, "ping", `{}`), cancel))
	case 10:
		h.malformed()
	case 11: // pings that are answered, refused or not
		h.try(h.pause()+1, http.MethodGet, "", token)
	case 12:
		h.post(fmt.Sprintf(`[%s,%s]`, tool("ask", ask), request(id+"000", "tools/list", `{}`)))
	default:
		h.post(request(id, "resources/"+[]string{"subscribe", "unsubscribe", "read"}[h.random.IntN(3)], fmt.Sprintf(`{"uri":"test://%s/one"}`, server)))
	}
}

func (h *havoc) malformed() {
	token := "Mcp-Session-Id: " + h.old.token
	for _, x := range []struct {
		body    string
		headers []string
	}{
		{`{`, []string{token}},
		{`{"jsonrpc":"1.0","id":1,"method":"ping"}`, []string{token}},
		{`{"jsonrpc":"2.0","id":{},"method":"ping"}`, []string{token}},
		{`{"jsonrpc":"2.0","id":"nobody","result":{}}`, []string{token}},
		{`{"jsonrpc":"2.0","id":"nobody","result":{}}`, nil},
		{`{"jsonrpc":"2.0","id":7,"error":{"code":1,"message":""}}`, []string{"Mcp-Protocol-Version: 2026-07-28"}},
		{`{"jsonrpc":"2.0","method":"notifications/x"}`, []string{"Mcp-Session-Id: unknown.unknown"}},
		{request("1", "ping", `{}`), []string{"Mcp-Session-Id: unknown.unknown"}},
		{request("1", "ping", `{}`), nil},
		{request("1", "ping", `{}`), []string{token, token}},
		{request("1", "ping", `{}`), []string{token, "Mcp-Protocol-Version: 2001-01-01"}},
		{request("1", "initialize", `{}`), nil},
		{request("1", "tools/call", `{}`), []string{token}},
		{request("1", "tools/call", `[]`), []string{token}},
		{request("1", "tools/list", `{"_meta":7}`), []string{"Mcp-Protocol-Version: 2026-07-28"}},
		{request("1", "tools/list", futureMeta), []string{"Mcp-Protocol-Version: 2099-01-01"}},
		{`[]`, []string{token}}, {`[1]`, []string{token}}, {`[` + request("1", "ping", `{}`) + `]`, nil},
	} {
		h.try(0, http.MethodPost, x.body, x.headers...)
	}
}

// modernly does one thing that a client without a session may do.
func (h *havoc) modernly() {
	h.n++
	id, server := strconv.Itoa(h.n), h.server()
	try := func(d time.Duration, method, params string) {
		h.try(d, http.MethodPost, h.new.body(id, method, params), h.new.mirrored(method, params)...)
	}
	call := func(d time.Duration, server, tool, arguments string) {
		try(d, "tools/call", fmt.Sprintf(`{"name":"%s__%s","arguments":%s}`, server, tool, arguments))
	}
	switch h.random.IntN(9) {
	case 0:
		call(0, server, "echo", `{}`)
	case 1:
		call(h.pause()+1, server, "hang", `{}`)
	case 2: // in time or not
		call(0, server, "hang", `{}`)
	case 3: // parked, and left
		call(0, server, "asks", `{"rounds":[[{}]]}`)
	case 4: // left before it is parked
		call(h.pause()+1, server, "ask", `{"method":"elicitation/create","params":{}}`)
	case 5:
		try(h.pause()+1, "subscriptions/listen", `{"notifications":{"toolsListChanged":true,"resourceSubscriptions":["test://one/one","test://two/one","stub://one"]}}`)
	case 6:
		try(0, "server/discover", `{}`)
	case 7:
		call(0, "new", "echo", `{}`)
	default:
		call(h.pause()+1, "new", "hang", `{}`)
	}
}

func (h *havoc) connectAnew() {
	h.old = h.connectWith([]string{initializeBody, batchInitialize}[h.random.IntN(2)])
}

// havocSeed is printed; MCPHUB_HAVOC_SEED repeats a run.
func havocSeed(t *testing.T) uint64 {
	seed := rand.Uint64()
	if n, err := strconv.ParseUint(os.Getenv("MCPHUB_HAVOC_SEED"), 10, 64); err == nil {
		seed = n
	}
	t.Logf("MCPHUB_HAVOC_SEED=%d", seed)
	return seed
}

// Whatever clients of both eras and their servers do, at every scrape a request
// is answered, in flight or cancelled, on both hops and in both roles; and in the end none
// is in flight.
func TestEveryRequestIsAnsweredInFlightOrCancelled(t *testing.T) {
	const clients, rounds = 6, 40
	one, two := stdio(t, "one"), stdio(t, "two")
	two.Isolation = upstream.PerSession
	one.CallTimeout, two.CallTimeout = 300*time.Millisecond, time.Second
	web := upstream.Spec{Name: "web", URL: parrotOverHTTP(t, false), Isolation: upstream.PerSession, CallTimeout: 300 * time.Millisecond}
	r := start(t, setup{specs: []upstream.Spec{one, two, web, newStub(t).spec("new", upstream.Shared)}, quiet: true,
		gateway: func(c *Config) { c.Heartbeat, c.Patience = 5*time.Millisecond, 5*time.Millisecond }})
	seed := havocSeed(t)
	stop, scraped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(scraped)
		for {
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
				r.balanced()
			}
		}
	}()
	var wg sync.WaitGroup
	for n := range clients {
		h := &havoc{rig: r, random: rand.New(rand.NewPCG(seed, uint64(n))), n: 1000 * (n + 1), new: r.modern(canElicit)}
		h.connectAnew()
		h.orderly()
		wg.Go(func() {
			for range rounds {
				if h.random.IntN(3) > 0 {
					h.legacy()
				} else {
					h.modernly()
				}
			}
			h.try(0, http.MethodDelete, "", "Mcp-Session-Id: "+h.old.token)
		})
	}
	wg.Wait()
	r.gateway.Drain() // those who left calls parked do not come back
	until(t, "nothing is in flight but the hub's own streams of changes", func() bool {
		for key, l := range r.ledgers() {
			if l.inFlight > map[string]float64{"backend out": 1}[key] {
				return false
			}
		}
		return true
	})
	close(stop)
	<-scraped
	for key, l := range r.balanced() {
		if l.asked == 0 || l.answered == 0 || l.cancelled == 0 {
			t.Errorf("%s: too little to prove anything: %+v", key, l)
		}
		t.Logf("%s: %+v", key, l)
	}
	if r.metric("mcp_client_operation_duration_seconds", "mcphub_backend", "", "mcp_method_name", "elicitation/create") == 0 ||
		r.metric("mcp_server_operation_duration_seconds", "network_transport", "pipe", "mcp_method_name", "elicitation/create") == 0 {
		t.Error("questions are not measured where the roles are reversed")
	}
	r.stop()
	for key, l := range r.balanced() {
		if l.inFlight != 0 {
			t.Errorf("%s: %v requests are in flight of a hub that has stopped", key, l.inFlight)
		}
	}
}

// orphans reads how many connections outlive their session.
func (r *rig) orphans() float64 { return r.metric("mcphub_backend_sessions_orphaned") }

func TestAConnectionThatOutlivesItsSessionIsAnOrphan(t *testing.T) {
	two, three := stdio(t, "two"), upstream.Spec{Name: "three", URL: parrotOverHTTP(t, false)}
	two.Isolation, three.Isolation = upstream.PerSession, upstream.PerSession
	var lost atomic.Value // the session that the table has lost without closing it
	lost.Store("")
	var table *session.Manager
	r := start(t, setup{specs: []upstream.Spec{two, three}, upstream: func(c *upstream.Config) {
		c.OrphanGrace = time.Nanosecond // no reading but the first may be wrong
		c.HasSession = func(id string) bool { return id != lost.Load() && table.Has(context.Background(), id) }
	}})
	table = r.sessions
	c, other := r.connect(), r.connect()
	for _, p := range []*peer{c, other} {
		p.tool("two__echo", `{}`)
		p.tool("three__say", `{"say":"x"}`)
	}
	r.modern(`{}`).run("1", "two__echo", `{}`) // whose connection belongs to no session
	for range 3 {
		if n := r.orphans(); n != 0 {
			t.Fatalf("%v connections of sessions that are there are orphans", n)
		}
	}
	lost.Store(c.id)
	_ = r.orphans() // notes since when
	until(t, "both connections of the lost session are orphans", func() bool { return r.orphans() == 2 })
	if n := r.metric("mcphub_backend_sessions_orphaned", "mcphub_backend", "two"); n != 1 {
		t.Errorf("two has %v orphans", n)
	}
	r.send(http.MethodDelete, "", "Mcp-Session-Id: "+c.token)
	until(t, "nothing is left of the connections", func() bool { return r.orphans() == 0 })
	if other.tool("two__echo", `{}`) == nil {
		t.Error("the other session has lost its connection")
	}
}

func TestAConnectionThatIsBeingClosedIsNoOrphan(t *testing.T) {
	two := stdio(t, "two")
	two.Isolation = upstream.PerSession
	var table *session.Manager
	r := start(t, setup{specs: []upstream.Spec{two}, upstream: func(c *upstream.Config) {
		c.HasSession = func(id string) bool { return table.Has(context.Background(), id) }
	}})
	table = r.sessions
	for range 10 {
		c := r.connect()
		c.tool("two__echo", `{}`)
		r.send(http.MethodDelete, "", "Mcp-Session-Id: "+c.token)
		if n := r.orphans(); n != 0 {
			t.Errorf("%v orphans", n)
		}
	}
}
