package gateway

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/mark3labs/mcp-go/client"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

func TestServerRequestsReachTheClientOfTheCall(t *testing.T) {
	web := newWeb(t)
	r := start(t, setup{specs: []upstream.Spec{web.spec("web"), stdio(t, "one")}})
	for _, name := range []string{"ann", "bob"} {
		c, _ := r.connectMCPGo(mcpGoUser{name}, client.WithLegacyProtocolOnly())
		if got := callText(t, c, "web__elicit"); got != "accept map[name:"+name+"]" {
			t.Errorf("elicitation for %s returned %q", name, got)
		}
		if got := callText(t, c, "web__sample"); !strings.HasPrefix(got, "model of "+name) {
			t.Errorf("sampling for %s returned %q", name, got)
		}
	}
}

func TestFirstResponseOfTheRightClientCounts(t *testing.T) {
	one := stdio(t, "one")
	one.Isolation = upstream.PerSession
	r := start(t, setup{specs: []upstream.Spec{one}, untraced: true})
	c, other := r.connect(), r.connect()
	const params = `{"message":"\u00e9?", "n":1.50}`
	s := c.open(http.MethodPost, request("1", "tools/call",
		`{"name":"one__request","arguments":{"method":"elicitation/create","params":`+params+`}}`))
	m := s.message()
	if m.Method != "elicitation/create" || string(m.Params) != params || m.ID == `"q1"` {
		t.Errorf("received %s", m.Encode())
	}
	answer := func(id, member string) string { return fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,%s}`, id, member) }
	if p := other.post(answer(string(m.ID), `"result":{"who":"other"}`)); p.status != http.StatusBadRequest {
		t.Errorf("the response of another client: %d", p.status)
	}
	if p := c.post(answer(`"q1"`, `"result":{}`)); p.status != http.StatusBadRequest {
		t.Errorf("a response with the server's own id: %d", p.status)
	}
	if p := c.post(answer(string(m.ID), `"result":{ "who":"me","n":1.50 }`)); p.status != http.StatusAccepted {
		t.Errorf("the response: %d %s", p.status, p.body)
	}
	if p := c.post(answer(string(m.ID), `"result":{}`)); p.status != http.StatusAccepted {
		t.Errorf("a second response: %d", p.status)
	}
	if m := s.message(); string(m.Result) != `{"content":[],"answer":{ "who":"me","n":1.50 }}` {
		t.Errorf("the server got %s", m.Encode())
	}

	s = c.open(http.MethodPost, request("1", "tools/call",
		`{"name":"one__request","arguments":{"method":"sampling/createMessage","params":{}}}`))
	c.post(answer(string(s.message().ID), `"error":{"code":-1,"message":"The user said <no>.","data":{"a":1}}`))
	if m := s.message(); !strings.Contains(string(m.Result), `"refused":{"code":-1,"message":"The user said`) ||
		!strings.Contains(string(m.Result), `"data":{"a":1}`) {
		t.Errorf("the server got %s", m.Encode())
	}
}

func TestServerRequestWithoutAStreamFailsWithTheReason(t *testing.T) {
	one := stdio(t, "one")
	one.Isolation = upstream.PerSession
	r := start(t, setup{specs: []upstream.Spec{one}})
	c := r.connect()
	c.post(pingBody)
	if _, err := c.live().Ask(t.Context(), jsonMessage("custom/ask", `{}`)); err == nil ||
		!strings.Contains(err.Error(), "the request cannot be sent to the client: it has no stream open") {
		t.Errorf("the error is %v", err)
	}
	if n := c.waitingRequests(); n != 0 {
		t.Errorf("%d server requests wait", n)
	}
	// With a GET stream the request is sent, and the server can cancel it.
	s := c.listen()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := c.live().Ask(ctx, jsonMessage("custom/ask", `{}`))
		done <- err
	}()
	if m := s.message(); m.Method != "custom/ask" {
		t.Errorf("received %s", m.Encode())
	}
	cancel()
	if err := <-done; err == nil || !strings.Contains(err.Error(), "the client did not answer") {
		t.Errorf("the error is %v", err)
	}
}

func TestWaitingServerRequestsAreLimited(t *testing.T) {
	r := start(t, setup{})
	c := r.connect()
	s := c.listen()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, maxServerRequests)
	for range maxServerRequests {
		go func() {
			_, err := c.live().Ask(ctx, jsonMessage("custom/ask", `{}`))
			done <- err
		}()
		s.message()
	}
	if _, err := c.live().Ask(ctx, jsonMessage("custom/ask", `{}`)); err == nil ||
		!strings.Contains(err.Error(), "too many requests of servers") {
		t.Errorf("a server request beyond the limit: %v", err)
	}
	cancel()
	for range maxServerRequests {
		<-done
	}
	if n := c.waitingRequests(); n != 0 {
		t.Errorf("%d server requests still wait", n)
	}
}

// callSendingRequest begins a call during which the server sends a request, and returns the stream and the request.
func (c *peer) callSendingRequest(server, method, params string) (*reader, jsonrpc.Message) {
	c.t.Helper()
	s := c.open(http.MethodPost, request(`"`+server+`"`, "tools/call",
		`{"name":"`+server+`__request","arguments":{"method":"`+method+`","params":`+params+`}}`))
	m := s.message()
	if m.Method != method {
		c.t.Errorf("received %s", m.Encode())
	}
	return s, m
}

// sharedAndIsolated returns a shared server and an isolated one.
func sharedAndIsolated(t *testing.T) []upstream.Spec {
	own := stdio(t, "own")
	own.Isolation = upstream.PerSession
	return []upstream.Spec{stdio(t, "one"), own}
}

func TestServerRequestsAndResponsesKeepTheirBytes(t *testing.T) {
	r := start(t, setup{specs: sharedAndIsolated(t), untraced: true})
	c := r.connect()
	for _, server := range []string{"one", "own"} {
		for _, x := range []struct{ method, params, answer string }{
			{"sampling/createMessage", `{"messages":[{"role":"user","content":[{"type":"tool_result","toolUseId":"t","content":[ ]}]}],` +
				`"maxTokens":1e2,"includeContext":"thisServer",` +
				`"tools":[{"name":"w","inputSchema":{"type":"object","n":1.50}}],"toolChoice":{"mode":"required"},` +
				`"x-unknown":{"a":[1.0]}, "_meta":{"z":0}}`,
				`{"role":"assistant","content":[{"type":"tool_use","id":"t","name":"w","input":{"n":1.50}}],"model":"m",` +
					`"stopReason":"toolUse","x-unknown":[ 1e2 ]}`},
			{"elicitation/create", `{"mode":"form","message":"\u00e9","requestedSchema":{"type":"object",` +
				`"properties":{"n":{"type":"number","default":95.50},"b":{"type":"boolean","default":true},` +
				`"s":{"type":"string","default":"<John>"},"e":{"type":"array","items":{"anyOf":[{"const":"#F00","title":"Red"}]},` +
				`"default":["#F00"]}}},"x":null}`,
				`{"action":"accept","content":{},"y":[ ]}`},
			{"elicitation/create", `{"message":"m","requestedSchema":{}}`, `{"action":"decline", "z":1.0}`},
		} {
			s, m := c.callSendingRequest(server, x.method, x.params)
			if string(m.Params) != x.params {
				t.Errorf("%s: %s became\n%s", server, x.params, m.Params)
			}
			c.respond(m, `"result":`+x.answer)
			if m := s.message(); string(m.Result) != `{"content":[],"answer":`+x.answer+`}` {
				t.Errorf("%s: %s became\n%s", server, x.answer, m.Result)
			}
		}
	}
}

func TestCancellationOfAServerRequestHasTheIDThatTheClientGot(t *testing.T) {
	r := start(t, setup{specs: sharedAndIsolated(t), untraced: true})
	c := r.connect()
	for _, server := range []string{"one", "own"} {
		s, m := c.callSendingRequest(server, "sampling/createMessage", `{}`)
		c.tool(server+"__notify", `{"method":"notifications/cancelled","params":{"requestId":"q1","reason":"enough"}}`)
		if got := s.message(); got.Method != "notifications/cancelled" || string(got.Params) != `{"requestId":`+string(m.ID)+`}` {
			t.Errorf("%s: received %s, the id of the request is %s", server, got.Encode(), m.ID)
		}
		hubtest.Eventually(t, "no request waits for a response", func() bool { return c.waitingRequests() == 0 })
		if status := c.respond(m, `"result":{}`); status != http.StatusAccepted {
			t.Errorf("%s: a late response: %d", server, status)
		}
		c.post(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"` + server + `"}}`)
	}
}

func TestProgressOfAResponseReachesTheServerThatSentTheRequest(t *testing.T) {
	r := start(t, setup{specs: sharedAndIsolated(t), untraced: true})
	ann, bob := r.connect(), r.connect()
	progress := func(c *peer, token string) {
		t.Helper()
		if p := c.post(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progress":1.50,"progressToken":` + token +
			`, "x":"` + c.id + `"}}`); p.status != http.StatusAccepted {
			t.Errorf("progress: %d %s", p.status, p.body)
		}
	}
	tokens, sent := map[string]bool{}, map[string]jsonrpc.Message{}
	streams := map[string]*reader{}
	for _, server := range []string{"one", "own"} { // both servers use the same token
		streams[server], sent[server] = ann.callSendingRequest(server, "sampling/createMessage",
			`{"n":1.50,"_meta":{"a":[ ],"progressToken":7},"progressToken":8}`)
		fields, _ := jsonrpc.Fields(sent[server].Params, "_meta")
		meta, _ := jsonrpc.Fields(fields[0], "progressToken")
		token := string(meta[0])
		if want := `{"n":1.50,"_meta":{"a":[ ],"progressToken":` + token + `},"progressToken":8}`; string(sent[server].Params) != want ||
			token == "7" || tokens[token] {
			t.Errorf("%s sent %s", server, sent[server].Params)
		}
		tokens[token] = true
		progress(bob, token) // not the recipient of the request
		progress(ann, token)
	}
	progress(ann, "7")
	want := `{"progress":1.50,"progressToken":7, "x":"` + ann.id + `"}`
	for server, s := range streams {
		hubtest.Eventually(t, "the server receives the progress", func() bool { return len(ann.state(server).Progress) > 0 })
		if got := ann.state(server).Progress; len(got) != 1 || !jsonEqual(string(got[0]), want) {
			t.Errorf("%s received %s", server, got)
		}
		ann.respond(sent[server], `"result":{}`)
		s.message()
	}
	if n := len(bob.state("own").Progress); n != 0 {
		t.Errorf("the server of another client received %d", n)
	}
	for token := range tokens {
		progress(ann, token) // too late
	}
	progress(ann, `{}`)
	hubtest.Eventually(t, "progress that matches no request is counted", func() bool { return r.dropped("unsupported") == 2+1+2+1 })
	for _, server := range []string{"one", "own"} {
		if n := len(ann.state(server).Progress); n != 1 {
			t.Errorf("%s received %d", server, n)
		}
	}
	requests := &ann.live().requests
	requests.mu.Lock()
	defer requests.mu.Unlock()
	if len(requests.progress) != 0 {
		t.Errorf("%d tokens are kept", len(requests.progress))
	}
}

// jsonEqual reports whether a is b without spaces: the state of the child process is compacted JSON.
func jsonEqual(a, b string) bool { return a == strings.ReplaceAll(b, ", ", ",") }

func TestElicitationInAnUndeclaredModeIsRefused(t *testing.T) {
	for _, x := range []struct{ capabilities, params, refusal string }{
		{`{"elicitation":{}}`, `{}`, ""},
		{`{"elicitation":{}}`, `{"mode":"form"}`, ""},
		{`{"elicitation":{"form":{},"url":{}}}`, `{"mode":"form"}`, ""},
		{`{"elicitation":{"url":{}}}`, `{"mode":"url"}`, ""},
		{`{"elicitation":{"url":{}}}`, `{}`, "by form"},
		{`{"elicitation":{"form":{}}}`, `{"mode":"url"}`, "by URL"},
		{`{"sampling":{}}`, `{}`, "has not declared"},
	} {
		err := checkSupported([]byte(x.capabilities), jsonMessage("elicitation/create", x.params))
		if (err == nil) != (x.refusal == "") || (err != nil && !strings.Contains(err.Error(), x.refusal)) {
			t.Errorf("%s, elicitation %s: %v", x.capabilities, x.params, err)
		}
	}
}
