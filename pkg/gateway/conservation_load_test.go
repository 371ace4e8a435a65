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
	"testing"
	"time"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

// requestCounts are the requests of one hop in one direction, by outcome.
type requestCounts struct{ sent, answered, inFlight, cancelled float64 }

func (l requestCounts) unaccounted() float64 { return l.sent - l.answered - l.inFlight - l.cancelled }

// requestCounts reads the counts of both hops and directions from one scrape.
func (r *rig) requestCounts() map[string]requestCounts {
	r.t.Helper()
	families, err := r.registry.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	counts := map[string]requestCounts{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			have := map[string]string{}
			for _, l := range m.GetLabel() {
				have[l.GetName()] = l.GetValue()
			}
			key, back := have["hop"]+" "+have["direction"], have["hop"]+" "+map[string]string{"in": "out", "out": "in"}[have["direction"]]
			here, there := counts[key], counts[back]
			switch {
			case f.GetName() == "mcphub_requests_in_flight":
				here.inFlight += m.GetGauge().GetValue()
			case f.GetName() == "mcphub_requests_cancelled_total":
				here.cancelled += m.GetCounter().GetValue()
				if have["reason"] == string(instrument.Unexplained) && m.GetCounter().GetValue() != 0 {
					r.t.Errorf("%s: requests were cancelled for an unknown reason", key)
				}
			case f.GetName() != "mcphub_messages_total" || have["kind"] == "notification":
				continue
			case have["kind"] == "request":
				here.sent += m.GetCounter().GetValue()
			default:
				there.answered += m.GetCounter().GetValue()
				counts[back] = there
				continue
			}
			counts[key] = here
		}
	}
	return counts
}

// checkRequestCounts checks for both hops and directions that each request is answered, in flight or cancelled.
func (r *rig) checkRequestCounts() map[string]requestCounts {
	r.t.Helper()
	counts := r.requestCounts()
	if len(counts) != 4 {
		r.t.Errorf("there are counts of %v", counts)
	}
	for key, l := range counts {
		if l.unaccounted() != 0 {
			r.t.Errorf("%s: %v requests are unaccounted for: %+v", key, l.unaccounted(), l)
		}
	}
	return counts
}

// chaosClient is one client that misbehaves at random, and calls tools of servers that do.
type chaosClient struct {
	*rig
	random       *rand.Rand
	n            int
	session      *peer
	modernClient *modernPeer
}

const batchInitialize = `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-03-26",` +
	`"capabilities":{"elicitation":{},"sampling":{}},"clientInfo":{"name":"batch","version":"1"}}}`

var chaosServers = []string{"one", "two"}

func (h *chaosClient) server() string { return chaosServers[h.random.IntN(len(chaosServers))] }

func (h *chaosClient) pause() time.Duration {
	return time.Duration(h.random.IntN(30)) * time.Millisecond
}

// try sends a request and reads the response for the time d; 0: to its end. Errors are expected.
func (h *chaosClient) try(d time.Duration, method, body string, headers ...string) {
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

// read reads a stream and answers some of the server requests on it, sometimes twice.
func (h *chaosClient) read(body io.Reader) {
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
					h.respond(m)
				}
			}
		}
		if err != nil {
			return
		}
	}
}

func (h *chaosClient) respond(m jsonrpc.Message) {
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

func (h *chaosClient) post(body string, headers ...string) {
	h.try(0, http.MethodPost, body, append(headers, "Mcp-Session-Id: "+h.session.token)...)
}

// answerOneRequest gets one server request and answers it.
func (h *chaosClient) answerOneRequest() {
	s := h.session.open(http.MethodPost, request(`"regular"`, "tools/call",
		`{"name":"two__request","arguments":{"method":"elicitation/create","params":{}}}`))
	h.session.respond(s.message(), `"result":{}`)
	s.message()
	s.cancel()
}

// legacyStep does one random thing that a client with a session may do.
func (h *chaosClient) legacyStep() {
	h.n++
	id, server := strconv.Itoa(h.n), h.server()
	tool := func(name, arguments string) string {
		return request(id, "tools/call", fmt.Sprintf(`{"name":"%s__%s","arguments":%s,"_meta":{"progressToken":%q}}`, server, name,
			arguments, id))
	}
	token := "Mcp-Session-Id: " + h.session.token
	arguments := fmt.Sprintf(`{"method":%q,"params":{}%s}`,
		[]string{"elicitation/create", "elicitation/create", "sampling/createMessage", "roots/list", "ping", "no/such"}[h.random.IntN(6)],
		[]string{"", `,"size":0`, `,"size":20`}[h.random.IntN(3)]) // some server requests are cancelled by the server
	cancel := fmt.Sprintf(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":%s}}`, id)
	switch h.random.IntN(15) {
	case 14:
		h.post(request(id, "tools/call", fmt.Sprintf(`{"name":"web__say","arguments":{"say":"x","steps":2,`+
			`"request":"sampling/createMessage"},"_meta":{"progressToken":%s}}`, id)))
	case 0:
		h.post(tool("echo", `{}`))
	case 1: // the call is never answered
		h.try(h.pause()+1, http.MethodPost, tool("hang", `{}`), token)
	case 2, 3: // cancelled, perhaps before the call has begun or after it has ended
		body, what := tool("hang", `{}`), h.pause()
		if h.random.IntN(2) == 0 {
			body = tool("work", `{"steps":3}`)
		}
		var other sync.WaitGroup
		other.Go(func() {
			(&chaosClient{rig: h.rig, random: rand.New(rand.NewPCG(1, uint64(h.n))), session: h.session}).post(body)
		})
		time.Sleep(what)
		h.post(cancel)
		other.Wait()
	case 4, 5:
		h.post(tool("request", arguments))
	case 6: // the client disconnects before it answers
		h.try(h.pause()+1, http.MethodPost, tool("request", arguments), token)
	case 7:
		if server == "two" || h.random.IntN(4) == 0 { // server one is shared with the other clients
			h.post(tool("die", []string{`{}`, `{"size":9}`}[h.random.IntN(2)]))
		}
	case 8: // the session ends in the middle of a call
		h.try(h.pause()+1, http.MethodPost, tool([]string{"request", "hang"}[h.random.IntN(2)], arguments), token)
		h.try(0, http.MethodDelete, "", token)
		h.post(tool("echo", `{}`)) // the session has ended
		h.reconnect()
	case 9:
		h.post(fmt.Sprintf(`[%s,%s,{"jsonrpc":"2.0","method":"notifications/x"},7,{"jsonrpc":"2.0","id":"i","method":"initialize"},%s,`+
			`%s,%s]`,
			tool("echo", `{}`), request(`"a"`, "ping", `{}`), request(`"b"`, "no/such", `{}`), request(`"b"`, "ping", `{}`), cancel))
	case 10:
		h.sendMalformed()
	case 11: // pings that are answered, refused or not
		h.try(h.pause()+1, http.MethodGet, "", token)
	case 12:
		h.post(fmt.Sprintf(`[%s,%s]`, tool("request", arguments), request(id+"000", "tools/list", `{}`)))
	default:
		h.post(request(id, "resources/"+[]string{"subscribe", "unsubscribe", "read"}[h.random.IntN(3)],
			fmt.Sprintf(`{"uri":"test://%s/one"}`, server)))
	}
}

func (h *chaosClient) sendMalformed() {
	token := "Mcp-Session-Id: " + h.session.token
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

// modernStep does one random thing that a client without a session may do.
func (h *chaosClient) modernStep() {
	h.n++
	id, server := strconv.Itoa(h.n), h.server()
	try := func(d time.Duration, method, params string) {
		h.try(d, http.MethodPost, h.modernClient.body(id, method, params), h.modernClient.mirrored(method, params)...)
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
	case 3: // the call is suspended and is abandoned
		call(0, server, "requests", `{"rounds":[[{}]]}`)
	case 4: // disconnected before the call is suspended
		call(h.pause()+1, server, "request", `{"method":"elicitation/create","params":{}}`)
	case 5:
		try(h.pause()+1, "subscriptions/listen",
			`{"notifications":{"toolsListChanged":true,"resourceSubscriptions":["test://one/one","test://two/one","stub://one"]}}`)
	case 6:
		try(0, "server/discover", `{}`)
	case 7:
		call(0, "new", "echo", `{}`)
	default:
		call(h.pause()+1, "new", "hang", `{}`)
	}
}

func (h *chaosClient) reconnect() {
	h.session = h.connectWith([]string{initializeBody, batchInitialize}[h.random.IntN(2)])
}

// chaosSeed returns the seed of a run and logs it. MCPHUB_CHAOS_SEED repeats a run.
func chaosSeed(t *testing.T) uint64 {
	seed := rand.Uint64()
	if n, err := strconv.ParseUint(os.Getenv("MCPHUB_CHAOS_SEED"), 10, 64); err == nil {
		seed = n
	}
	t.Logf("MCPHUB_CHAOS_SEED=%d", seed)
	return seed
}

// Clients of both eras and their servers misbehave at random. At every scrape, each request is answered, in flight or
// cancelled, on both hops and in both roles. At the end none is in flight.
func TestEveryRequestIsAnsweredInFlightOrCancelled(t *testing.T) {
	const clients, rounds = 6, 40
	one, two := stdio(t, "one"), stdio(t, "two")
	two.Isolation = upstream.PerSession
	one.CallTimeout, two.CallTimeout = 300*time.Millisecond, time.Second
	web := upstream.Spec{Name: "web", URL: parrotOverHTTP(t, false), Isolation: upstream.PerSession, CallTimeout: 300 * time.Millisecond}
	r := start(t, setup{specs: []upstream.Spec{one, two, web, newStub(t).spec("new", upstream.Shared)}, quiet: true,
		gateway: func(c *Config) { c.Heartbeat, c.Patience = 5*time.Millisecond, 5*time.Millisecond }})
	seed := chaosSeed(t)
	stop, scraped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(scraped)
		for {
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
				r.checkRequestCounts()
			}
		}
	}()
	var wg sync.WaitGroup
	for n := range clients {
		h := &chaosClient{rig: r, random: rand.New(rand.NewPCG(seed, uint64(n))), n: 1000 * (n + 1), modernClient: r.modern(canElicit)}
		h.reconnect()
		h.answerOneRequest()
		wg.Go(func() {
			for range rounds {
				if h.random.IntN(3) > 0 {
					h.legacyStep()
				} else {
					h.modernStep()
				}
			}
			h.try(0, http.MethodDelete, "", "Mcp-Session-Id: "+h.session.token)
		})
	}
	wg.Wait()
	r.gateway.Drain() // the abandoned suspended calls get no retry
	hubtest.Eventually(t, "nothing is in flight except the hub's own subscription streams", func() bool {
		for key, l := range r.requestCounts() {
			if l.inFlight > map[string]float64{"backend out": 1}[key] {
				return false
			}
		}
		return true
	})
	close(stop)
	<-scraped
	for key, l := range r.checkRequestCounts() {
		if l.sent == 0 || l.answered == 0 || l.cancelled == 0 {
			t.Errorf("%s: too few requests for a meaningful test: %+v", key, l)
		}
		t.Logf("%s: %+v", key, l)
	}
	if r.metric("mcp_client_operation_duration_seconds", "mcphub_backend", "", "mcp_method_name", "elicitation/create") == 0 ||
		r.metric("mcp_server_operation_duration_seconds", "network_transport", "pipe", "mcp_method_name", "elicitation/create") == 0 {
		t.Error("server requests are not measured")
	}
	r.stop()
	for key, l := range r.checkRequestCounts() {
		if l.inFlight != 0 {
			t.Errorf("%s: %v requests are in flight after the hub has stopped", key, l.inFlight)
		}
	}
}
