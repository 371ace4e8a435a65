package gateway

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/mark3labs/mcp-go/client"
	"github.com/mark3labs/mcp-go/client/transport"
	"github.com/mark3labs/mcp-go/mcp"

	"github.com/mcphub-go/mcphub/pkg/catalog"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

// human answers the questions of servers.
type human struct{ name string }

func (h human) Elicit(context.Context, mcp.ElicitationRequest) (*mcp.ElicitationResult, error) {
	return &mcp.ElicitationResult{ElicitationResponse: mcp.ElicitationResponse{
		Action: mcp.ElicitationResponseActionAccept, Content: map[string]any{"name": h.name}}}, nil
}

func (h human) CreateMessage(context.Context, mcp.CreateMessageRequest) (*mcp.CreateMessageResult, error) {
	return &mcp.CreateMessageResult{Model: "model of " + h.name,
		SamplingMessage: mcp.SamplingMessage{Role: mcp.RoleAssistant, Content: mcp.NewTextContent("Something.")}}, nil
}

// dial connects a client of mcp-go.
func (r *rig) dial(h human, options ...client.ClientOption) (*client.Client, *mcp.InitializeResult) {
	r.t.Helper()
	tr, err := transport.NewStreamableHTTP(r.url, transport.WithContinuousListening(), transport.WithHTTPBasicClient(r.client))
	if err != nil {
		r.t.Fatal(err)
	}
	c := client.NewClient(tr, append(options, client.WithElicitationHandler(h), client.WithSamplingHandler(h))...)
	if err := c.Start(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = c.Close() })
	init, err := c.Initialize(r.t.Context(), mcp.InitializeRequest{Params: mcp.InitializeParams{
		ProtocolVersion: "2025-11-25", ClientInfo: mcp.Implementation{Name: h.name, Version: "1"}}})
	if err != nil {
		r.t.Fatal(err)
	}
	return c, init
}

func callText(t *testing.T, c *client.Client, name string) string {
	t.Helper()
	result, err := c.CallTool(t.Context(), mcp.CallToolRequest{Params: mcp.CallToolParams{Name: name}})
	if err != nil || len(result.Content) != 1 {
		t.Errorf("%s: %+v %v", name, result, err)
		return ""
	}
	text, _ := result.Content[0].(mcp.TextContent)
	return text.Text
}

func TestARealClientIsAtHome(t *testing.T) {
	for name, options := range map[string][]client.ClientOption{
		"tries the modern protocol first": {client.WithProtocolVersion("2026-07-28")},
		"legacy only":                     {client.WithLegacyProtocolOnly()},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, setup{specs: []upstream.Spec{stdio(t, "one")}})
			c, init := r.dial(human{"ann"}, options...)
			if init.ProtocolVersion != "2025-11-25" || init.ServerInfo.Name != "mcphub" || init.Capabilities.Tools == nil || init.Instructions == "" {
				t.Errorf("initialized with %+v", init)
			}
			var changed atomic.Int32
			c.OnNotification(func(n mcp.JSONRPCNotification) {
				if n.Method == "notifications/tools/list_changed" {
					changed.Add(1)
				}
			})
			tools, err := c.ListTools(t.Context(), mcp.ListToolsRequest{})
			if err != nil || len(tools.Tools) != strings.Count(childTools, `"inputSchema"`) {
				t.Errorf("tools: %+v %v", tools, err)
			}
			if _, err := c.CallTool(t.Context(), mcp.CallToolRequest{Params: mcp.CallToolParams{Name: "one__echo"}}); err != nil {
				t.Errorf("echo: %v", err)
			}
			until(t, "the client listens", func() bool { return r.metric("mcphub_streams_active", "stream", "get_sse") == 1 })
			r.gateway.ListChanged([]catalog.Kind{catalog.Tools})
			until(t, "the client hears of a change", func() bool { return changed.Load() == 1 })
			if err := c.Ping(t.Context()); err != nil {
				t.Errorf("ping: %v", err)
			}
			if err := c.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
			until(t, "the session has ended", func() bool { return r.closed("client_delete") == 1 })
		})
	}
}

func TestQuestionsOfAServerReachTheClientOfTheCall(t *testing.T) {
	web := newWeb(t)
	r := start(t, setup{specs: []upstream.Spec{web.spec("web"), stdio(t, "one")}})
	for _, name := range []string{"ann", "bob"} {
		c, _ := r.dial(human{name}, client.WithLegacyProtocolOnly())
		if got := callText(t, c, "web__elicit"); got != "accept map[name:"+name+"]" {
			t.Errorf("elicitation for %s returned %q", name, got)
		}
		if got := callText(t, c, "web__sample"); !strings.HasPrefix(got, "model of "+name) {
			t.Errorf("sampling for %s returned %q", name, got)
		}
	}
}

func TestTheFirstAnswerOfTheRightClientCounts(t *testing.T) {
	one := stdio(t, "one")
	one.Isolation = upstream.PerSession
	r := start(t, setup{specs: []upstream.Spec{one}, untraced: true})
	c, other := r.connect(), r.connect()
	const question = `{"message":"\u00e9?", "n":1.50}`
	s := c.open(http.MethodPost, request("1", "tools/call", `{"name":"one__ask","arguments":{"method":"elicitation/create","params":`+question+`}}`))
	m := s.message()
	if m.Method != "elicitation/create" || string(m.Params) != question || m.ID == `"q1"` {
		t.Errorf("asked %s", m.Encode())
	}
	answer := func(id, member string) string { return fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,%s}`, id, member) }
	if p := other.post(answer(string(m.ID), `"result":{"who":"other"}`)); p.status != http.StatusBadRequest {
		t.Errorf("another client's answer: %d", p.status)
	}
	if p := c.post(answer(`"q1"`, `"result":{}`)); p.status != http.StatusBadRequest {
		t.Errorf("an answer with the server's own id: %d", p.status)
	}
	if p := c.post(answer(string(m.ID), `"result":{ "who":"me","n":1.50 }`)); p.status != http.StatusAccepted {
		t.Errorf("the answer: %d %s", p.status, p.body)
	}
	if p := c.post(answer(string(m.ID), `"result":{}`)); p.status != http.StatusAccepted {
		t.Errorf("a second answer: %d", p.status)
	}
	if m := s.message(); string(m.Result) != `{"content":[],"answer":{ "who":"me","n":1.50 }}` {
		t.Errorf("the server got %s", m.Encode())
	}

	s = c.open(http.MethodPost, request("1", "tools/call", `{"name":"one__ask","arguments":{"method":"sampling/createMessage","params":{}}}`))
	c.post(answer(string(s.message().ID), `"error":{"code":-1,"message":"The user said <no>.","data":{"a":1}}`))
	if m := s.message(); !strings.Contains(string(m.Result), `"refused":{"code":-1,"message":"The user said`) || !strings.Contains(string(m.Result), `"data":{"a":1}`) {
		t.Errorf("the server got %s", m.Encode())
	}
}

func TestAQuestionThatNobodyReadsIsRefusedInWords(t *testing.T) {
	one := stdio(t, "one")
	one.Isolation = upstream.PerSession
	r := start(t, setup{specs: []upstream.Spec{one}})
	c := r.connect()
	c.post(pingBody)
	if _, err := c.live().Ask(t.Context(), jsonMessage("custom/ask", `{}`)); err == nil || !strings.Contains(err.Error(), "the request cannot be sent to the client: it has no stream open") {
		t.Errorf("the refusal is %v", err)
	}
	if n := c.asks(); n != 0 {
		t.Errorf("%d questions wait", n)
	}
	// With a stream it is asked there, and the one who asks can give up.
	s := c.listen()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := c.live().Ask(ctx, jsonMessage("custom/ask", `{}`))
		done <- err
	}()
	if m := s.message(); m.Method != "custom/ask" {
		t.Errorf("asked %s", m.Encode())
	}
	cancel()
	if err := <-done; err == nil || !strings.Contains(err.Error(), "the client did not answer") {
		t.Errorf("the refusal is %v", err)
	}
}

func TestQuestionsWaitInBoundedNumber(t *testing.T) {
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
	if _, err := c.live().Ask(ctx, jsonMessage("custom/ask", `{}`)); err == nil || !strings.Contains(err.Error(), "too many requests of servers") {
		t.Errorf("a question too many: %v", err)
	}
	cancel()
	for range maxServerRequests {
		<-done
	}
	if n := c.asks(); n != 0 {
		t.Errorf("%d questions still wait", n)
	}
}
