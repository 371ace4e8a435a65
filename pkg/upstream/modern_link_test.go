package upstream

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/instrument/instrumenttest"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
)

// dualScript is a server of both eras. It has sessions in the legacy one.
func dualScript(t *testing.T, sessions bool) *modernScript {
	t.Helper()
	s := newModernScript(t, func(s *modernScript) { s.discovery = discovery(`{"tools":{}}`, protocol.ModernVersion, "2025-11-25") })
	s.on["initialize"] = func(w http.ResponseWriter, _ *http.Request, m jsonrpc.Message) {
		if sessions {
			w.Header().Set(protocol.HeaderSessionID, s.issue(m))
		}
		reply(w, m, `"result":`+s.initialize)
	}
	return s
}

func TestLinksToADualServerSpeakTheEraOfTheirClient(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		sessions, modern bool
		want             string
		connections      float64
	}{
		"legacy client":                      {true, false, "a session", 2},
		"legacy client, no sessions":         {false, false, protocol.ModernVersion, 2},
		"modern client shares what there is": {true, true, protocol.ModernVersion, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := dualScript(t, test.sessions)
			r := run(t, []Spec{s.spec()}).settled(t)
			for range 2 { // what was found out is known the second time
				cfg := LinkConfig{Modern: test.modern, Identity: client}
				if !test.modern {
					cfg.Sink = &recorder{}
				}
				l := r.Server("web").Link(cfg)
				req := toolCall("echo", "")
				if req.Modern = test.modern; req.Modern {
					req.Params = json.RawMessage(modernCall)
				}
				if _, err := l.Call(t.Context(), req); err != nil {
					t.Fatal(err)
				}
				calls := s.sent("POST", `"tools/call"`)
				last := calls[len(calls)-1].header
				if got := last.Get(protocol.HeaderProtocolVersion); (last.Get(protocol.HeaderSessionID) != "") != (test.want == "a session") ||
					(test.want == protocol.ModernVersion) != (got == protocol.ModernVersion) {
					t.Errorf("the call was sent with %v", last)
				}
				if n := instrumenttest.Value(t, r.reg, "mcphub_backend_sessions"); n != test.connections {
					t.Errorf("%v connections", n)
				}
				l.Close(true)
			}
			if n := len(s.calls("initialize")); n > 2 || (!test.sessions && n > 1) {
				t.Errorf("there were %d handshakes", n)
			}
		})
	}
}

// Each client gets its own server requests, and the server gets its name and capabilities, though all share one
// child.
func TestSharedModernServerGetsTheIdentityOfTheCaller(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"asks modern", "go-sdk", "mcp-go modern"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			spec := anyChild(t, mode)
			spec.Era = protocol.Modern // in the legacy era the server does not say which caller it asks
			r := run(t, []Spec{spec}).settled(t)
			var wg sync.WaitGroup
			for i := range 16 {
				wg.Go(func() { useShared(t, r, mode, fmt.Sprintf("client %d", i)) })
			}
			wg.Wait()
			if n := instrumenttest.Value(t, r.reg, "mcphub_backend_sessions"); n != 1 {
				t.Errorf("%v connections", n)
			}
		})
	}
}

func useShared(t *testing.T, r running, mode, name string) {
	answer := `{"action":"accept","content":{"by":"` + name + `"}}`
	sink := &recorder{answer: func(context.Context, jsonrpc.Message) (json.RawMessage, error) { return json.RawMessage(answer), nil }}
	l := r.link(t, "child", LinkConfig{Sink: sink, Identity: Identity{ClientInfo: json.RawMessage(`{"name":"` + name + `","version":"1"}`),
		Capabilities: json.RawMessage(`{"elicitation":{},"experimental":{"` + name + `":{}}}`)}})
	for n := 1; n <= 5; n++ {
		req := toolCall("confirm", "")
		req.Sink = sink
		m, err := l.Call(t.Context(), req)
		if err != nil || m.Error != nil {
			t.Errorf("%s, %v", m.Encode(), err)
			return
		}
		if len(sink.serverRequests()) != n {
			t.Errorf("%s was asked %d questions", name, len(sink.serverRequests()))
		}
		if mode != "asks modern" {
			continue
		}
		params := field(t, m.Result, "params")
		if got := string(field(t, field(t, params, "inputResponses"), "q")); got != answer {
			t.Errorf("%s answered %s", name, got)
		}
		meta := string(field(t, params, "_meta"))
		if !strings.Contains(meta, `/clientInfo":{"name":"`+name+`"`) || !strings.Contains(meta, `"experimental":{"`+name+`"`) {
			t.Errorf("%s is known as %s", name, meta)
		}
	}
}

const poison = `{"name":"bad","inputSchema":{"type":"object","properties":{"a":{"type":"number","x-mcp-header":"A"}}}}`

func TestToolsWithInvalidHeadersAreLeftOutByHTTPOnly(t *testing.T) {
	t.Parallel()
	const odd = `{ "name" : "odd" , "inputSchema":{"x":1.0,"\u0061":[ ]} }`
	s := newModernScript(t)
	s.tools = append(s.tools, poison, odd, `"no tool"`)
	e := newEnv(t, s.spec())
	c := e.connect(t, nil)
	for _, modern := range []bool{false, true} {
		m, err := c.Call(t.Context(), Request{Method: "tools/list", Modern: modern})
		want := `{"tools":[` + s.tools[0] + `,` + odd + `,"no tool"]}`
		if err != nil || string(m.Result) != want {
			t.Errorf("listed are %s, %v; want %s", m.Result, err, want)
		}
	}
	if got := e.log.attr("a tool is left out: its x-mcp-header annotations are invalid", "tool"); len(got) != 2 || got[0] != "bad" {
		t.Errorf("warned is of %q", got)
	}
	child := newEnv(t, anyChild(t, "modern", "CHILD_TOOL="+poison)).connect(t, nil)
	if m, err := child.Call(t.Context(), Request{Method: "tools/list"}); err != nil || !strings.Contains(string(m.Result), poison) {
		t.Errorf("by a pipe, listed are %s, %v", m.Result, err)
	}
}

func FuzzToolsWithInvalidHeadersAreRemoved(f *testing.F) {
	for _, seed := range []string{`{"tools":[` + poison + `,{"name":"ok"}]}`, `{"tools":null}`,
		`{"tools":[1,null,"x",{}]}`, `{"tools":{}}`, `[]`, `{"tools":[` + mirrored + `]}`} {
		f.Add([]byte(seed))
	}
	e := newEnv(f, Spec{Name: "s", URL: "http://x.invalid"})
	d := newModernDialect(&Conn{spec: e.spec, tel: newConnTelemetry(e.tel, e.own, e.spec, "")}, hub)
	f.Fuzz(func(t *testing.T, result []byte) {
		out := d.adaptResponse(context.Background(), Request{Method: protocol.MethodToolsList}, jsonrpc.Message{Result: result}).Result
		if json.Valid(result) && !json.Valid(out) {
			t.Fatalf("%q became %q", result, out)
		}
		fields, err := jsonrpc.Fields(out, "tools")
		var tools []json.RawMessage
		if err != nil || json.Unmarshal(fields[0], &tools) != nil {
			return
		}
		for _, tool := range tools {
			if _, headers, err := paramHeadersOf(tool); err != nil {
				t.Fatalf("%q is kept", tool)
			} else if _, err := protocol.ParamValues(headers, json.RawMessage(`{}`)); err != nil {
				t.Fatalf("%q: %v", tool, err)
			}
		}
	})
}
