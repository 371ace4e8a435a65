package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
)

const mirrored = `{"name":"a ü","inputSchema":{"type":"object","properties":{"region":{"type":"string","x-mcp-header":"Region"},` +
	`"deep":{"type":"object","properties":{"n":{"type":"integer","x-mcp-header":"N"}}}}}}`

func TestModernRequestsHaveTheirHeadersAndNothingOfTheLegacyProtocol(t *testing.T) {
	t.Parallel()
	s := newModernScript(t, changing)
	s.tools = append(s.tools, mirrored)
	r := run(t, []Spec{s.spec()}).settled(t)
	l := r.link(t, "web", LinkConfig{Identity: client})
	for _, req := range []Request{
		{Method: "tools/call", Target: "a ü", Params: json.RawMessage(`{"name":"a ü","arguments":{"region":" north","deep":{"n":1e2}}}`)},
		{Method: "prompts/get", Params: json.RawMessage(`{"name":"=?base64?eA==?="}`)},
		{Method: "resources/read", Params: json.RawMessage(`{"uri":"file:///a"}`)},
		{Method: "logging/setLevel", Params: json.RawMessage(`{"level":"info"}`)},
		{Method: "resources/subscribe", Params: json.RawMessage(`{"uri":"file:///a"}`)},
		{Method: "ping"},
		{Method: "completion/complete", Params: json.RawMessage(`{"_meta":{"own":1,"io.modelcontextprotocol/clientInfo":"forged"}}`)},
	} {
		if _, err := l.Call(t.Context(), req); err != nil {
			t.Errorf("%s: %v", req.Method, err)
		}
	}
	for _, n := range []string{"notifications/initialized", "notifications/roots/list_changed", "notifications/cancelled", "notifications/x"} {
		if err := l.Notify(t.Context(), n, nil); err != nil {
			t.Errorf("%s: %v", n, err)
		}
	}
	l.Close(true)
	r.stop()

	s.mu.Lock()
	requests := slices.Clone(s.requests)
	s.mu.Unlock()
	for _, r := range requests {
		m, err := jsonrpc.Parse([]byte(r.body))
		if err != nil || r.method != http.MethodPost {
			t.Fatalf("%s %q: %v", r.method, r.body, err)
		}
		if got := r.header.Get(protocol.HeaderProtocolVersion); got != protocol.ModernVersion {
			t.Errorf("%s: the version is %q", m.Method, got)
		}
		if got := r.header[protocol.HeaderMethod]; len(got) != 1 || got[0] != m.Method {
			t.Errorf("%s: Mcp-Method is %q", m.Method, got)
		}
		if r.header.Get(protocol.HeaderSessionID) != "" || r.header.Get(protocol.HeaderLastEventID) != "" {
			t.Errorf("%s: headers of the old protocol: %v", m.Method, r.header)
		}
		if m.Kind() == jsonrpc.Notification {
			if m.Method != "notifications/x" {
				t.Errorf("%s was sent", m.Method)
			}
			continue
		}
		if got := metaOf(t, m, "io.modelcontextprotocol/protocolVersion"); got != `"`+protocol.ModernVersion+`"` {
			t.Errorf("%s: the version in the body is %s", m.Method, got)
		}
		who, caps := metaOf(t, m, "io.modelcontextprotocol/clientInfo"), metaOf(t, m, "io.modelcontextprotocol/clientCapabilities")
		if own := string(client.ClientInfo); who == own {
			if caps != `{"elicitation":{},"roots":{}}` {
				t.Errorf("%s: the capabilities are %s", m.Method, caps)
			}
		} else if who != string(hub.ClientInfo) || caps != `{}` {
			t.Errorf("%s: the client is %s with %s", m.Method, who, caps)
		}
	}
	for method, want := range map[string]http.Header{
		"tools/call": {protocol.HeaderName: {"=?base64?YSDDvA==?="}, "Mcp-Param-Region": {"=?base64?IG5vcnRo?="},
			"Mcp-Param-N": {"100"}},
		"prompts/get":         {protocol.HeaderName: {"=?base64?PT9iYXNlNjQ/ZUE9PT89?="}},
		"resources/read":      {protocol.HeaderName: {"file:///a"}},
		"completion/complete": {},
	} {
		r := s.sent("POST", `"method":"`+method+`"`)
		if len(r) != 1 {
			t.Fatalf("%s was sent %d times", method, len(r))
		}
		got := http.Header{}
		for name, values := range r[0].header {
			if name == protocol.HeaderName || strings.HasPrefix(name, protocol.HeaderParamPrefix) {
				got[name] = values
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s carries %v, want %v", method, got, want)
		}
	}
	if got := metaOf(t, s.calls("completion/complete")[0], "io.modelcontextprotocol/logLevel"); got != `"info"` {
		t.Errorf("the log level is %s", got)
	}
	if got := metaOf(t, s.calls("completion/complete")[0], "own"); got != `1` {
		t.Errorf("the client's own _meta is %s", got)
	}
	for _, m := range append(s.calls("resources/read"), s.calls("tools/list")...) { // before the level was set
		if got := metaOf(t, m, "io.modelcontextprotocol/logLevel"); got != "" {
			t.Errorf("%s has the log level %s", m.Method, got)
		}
	}
	for _, gone := range []string{"initialize", "logging/setLevel", "resources/subscribe", "ping"} {
		if n := len(s.calls(gone)); n != 0 {
			t.Errorf("%s was sent %d times", gone, n)
		}
	}
}

func TestBrokenModernStreamIsALostCallAtOnce(t *testing.T) {
	t.Parallel()
	s := newModernScript(t)
	s.on["broken"] = func(w http.ResponseWriter, _ *http.Request, _ jsonrpc.Message) {
		startStream(w)
		writeEvent(w, "7", `{"jsonrpc":"2.0","method":"notifications/message","params":{}}`)
		panic(http.ErrAbortHandler)
	}
	c := newEnv(t, s.spec()).connect(t, nil)
	within(t, 5*time.Second, "the call", func() {
		if _, err := c.Call(t.Context(), toolCall("broken", "")); !errors.Is(err, ErrLost) || ErrorType(jsonrpc.Message{},
			err) != "connection_lost" {
			t.Errorf("error %v", err)
		}
	})
	if n := len(s.calls("tools/call")); n != 1 || len(s.sent("GET", "")) != 0 {
		t.Errorf("the call was sent %d times", n)
	}
}

func TestCancelledModernCallByHTTPClosesItsStreamAndSendsNothing(t *testing.T) {
	t.Parallel()
	for name, make := range map[string]func(ended) http.Handler{
		"go-sdk": func(e ended) http.Handler { return sdkHandler(t, e, true) },
		"mcp-go": mcpGoHandler,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEnded()
			x := newTap(t, make(e))
			c := newEnv(t, x.spec()).connect(t, nil)
			ctx, cancel := context.WithCancel(t.Context())
			done := goCall(ctx, c, toolCall("slow", ""))
			wait(t, "the call arrives", e.began)
			cancel()
			if err := wait(t, "the call returns", done); !errors.Is(err, ErrCancelled) {
				t.Errorf("error %v", err)
			}
			wait(t, "the server's context ends", e.n)
			c.close(true)
			if n := len(x.sent("notifications/cancelled")); n != 0 {
				t.Errorf("%d cancellations were sent", n)
			}
		})
	}
}

func TestCancelledModernCallByPipeSendsACancellation(t *testing.T) {
	t.Parallel()
	log := t.TempDir() + "/log"
	c := newEnv(t, anyChild(t, "modern", "CHILD_LOG="+log)).connect(t, nil)
	if !isModern(c) {
		t.Fatal("the child is not modern")
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := goCall(ctx, c, toolCall("hold", `{"key":"k"}`))
	held, _ := jsonrpc.Parse([]byte(received(t, log, `"key":"k"`)))
	cancel()
	if err := wait(t, "the call returns", done); !errors.Is(err, ErrCancelled) {
		t.Errorf("error %v", err)
	}
	received(t, log, "notifications/cancelled", `"requestId":`+string(held.ID)+`,`)
}

// goCall makes a call on a goroutine of its own.
func goCall(ctx context.Context, c caller, req Request) <-chan error {
	done := make(chan error, 1)
	go func() {
		_, err := c.Call(ctx, req)
		done <- err
	}()
	return done
}

const modernCall = `{ "name":"echo","arguments":{"a":1.0,"\u0062":[ ]},` +
	`"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28", "io.modelcontextprotocol/clientCapabilities":{"x":{}},` +
	`"io.modelcontextprotocol/clientInfo":{"name":"m","version":"1"},"io.modelcontextprotocol/logLevel":"debug",` +
	`"own":{ }},"requestState":"a\u002fb" }`

func TestParamsOfModernCallersAreForwardedUnchanged(t *testing.T) {
	t.Parallel()
	s := newModernScript(t)
	c := newEnv(t, s.spec()).connect(t, nil)
	for _, params := range []string{modernCall, strings.Replace(modernCall, `"own"`, `"progressToken":"t","own"`, 1)} {
		req := Request{Method: "tools/call", Modern: true, Params: json.RawMessage(params),
			Header: http.Header{"Mcp-Param-Unknown": {"x"}, "Cookie": {"no"}}}
		m, err := c.Call(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		meta, err := jsonrpc.Fields(field(t, field(t, m.Result, "params"), "_meta"), "progressToken")
		if err != nil || string(meta[0]) == string(m.ID) { // which others could guess
			t.Fatalf("the progress token is %s, %v", meta[0], err)
		}
		want := strings.Replace(params, `"t"`, string(meta[0]), 1)
		if got := string(field(t, m.Result, "params")); got != want {
			t.Errorf("the server got\n%s, want\n%s", got, want)
		}
	}
	sent := s.sent("POST", `"tools/call"`)[0].header
	if sent.Get("Mcp-Param-Unknown") != "x" || sent.Get("Cookie") != "" || sent.Get(protocol.HeaderName) != "echo" {
		t.Errorf("the headers are %v", sent)
	}
}

func TestResponsesForModernCallersAreForwardedUnchanged(t *testing.T) {
	t.Parallel()
	for _, result := range []string{
		`{ "resultType":"input_required", "inputRequests":{"k":{"method":"roots/list"}},"requestState":"\u0061 " }`,
		`{"resultType":"task","ttlMs":5,"cacheScope":"private","content":[ ]}`,
		`{"content":[]}`,
	} {
		s := newModernScript(t)
		s.on["any"] = func(w http.ResponseWriter, _ *http.Request, m jsonrpc.Message) { reply(w, m, `"result":`+result) }
		sink := &recorder{}
		req := toolCall("any", "")
		req.Modern, req.Sink = true, sink
		m, err := newEnv(t, s.spec()).connect(t, nil).Call(t.Context(), req)
		if err != nil || string(m.Result) != result || len(sink.serverRequests()) != 0 {
			t.Errorf("the answer is %s, %v; want %s", m.Encode(), err, result)
		}
	}
}

func TestModernMetaIsRemovedForALegacyServer(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, spec Spec) {
		c := newEnv(t, spec).connect(t, nil)
		m, err := c.Call(t.Context(), Request{Method: "tools/call", Modern: true, Params: json.RawMessage(modernCall)})
		if err != nil {
			t.Fatal(err)
		}
		const want = `{ "name":"echo","arguments":{"a":1.0,"\u0062":[ ]},"_meta":{"own":{ }},"requestState":"a\u002fb" }`
		if got := string(field(t, m.Result, "params")); got != want {
			t.Errorf("the server got %s, want %s", got, want)
		}
	})
}
