package spans

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/mark3labs/mcp-go/client"
	"github.com/mark3labs/mcp-go/client/transport"
	"github.com/mark3labs/mcp-go/mcp"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
	"github.com/mcphub-go/mcphub/test/peers"
)

// connectMCPGo connects a legacy client of mcp-go whose HTTP requests go through
// wire. In the trees its session has the client's name.
func (r *traced) connectMCPGo(wire *peers.Recorder, url, name string) *client.Client {
	r.t.Helper()
	tr, err := transport.NewStreamableHTTP(url, transport.WithHTTPBasicClient(&http.Client{Transport: wire}))
	if err != nil {
		r.t.Fatal(err)
	}
	c := client.NewClient(tr, client.WithLegacyProtocolOnly())
	if err := c.Start(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = c.Close() })
	var hello mcp.InitializeRequest
	hello.Params.ProtocolVersion, hello.Params.ClientInfo = hubtest.LegacyVersion, mcp.Implementation{Name: name, Version: "1"}
	if _, err := c.Initialize(r.t.Context(), hello); err != nil {
		r.t.Fatal(err)
	}
	public, _, _ := strings.Cut(c.GetSessionId(), ".")
	r.names[public] = "<session of " + name + ">"
	return c
}

func toolOf(t *testing.T, c *client.Client, name string) {
	t.Helper()
	var call mcp.CallToolRequest
	call.Params.Name = name
	_, _ = c.CallTool(t.Context(), call) // the trees show how it ended
}

// changing is a handler that can be replaced by another.
type changing struct{ atomic.Pointer[http.Handler] }

func (c *changing) ServeHTTP(w http.ResponseWriter, r *http.Request) { (*c.Load()).ServeHTTP(w, r) }

func TestTheSpansOfCallsThatAreSentAgainOrCannotBe(t *testing.T) {
	r := newTraced(t)
	config := "naming: prefix\nmcpServers:\n"
	var servers []*changing
	var listeners []*httptest.Server
	restart := func() {
		for i, s := range servers {
			handler := peers.NewServer([]string{"own", "shared"}[i], hubtest.LegacyVersion).Handler(false)
			s.Store(&handler)
		}
	}
	for _, entry := range []string{"own: {url: %q}", "shared: {url: %q, isolation: shared}"} {
		name, _, _ := strings.Cut(entry, ":")
		s, h := &changing{}, &received{name: name}
		servers, r.servers = append(servers, s), append(r.servers, h)
		listener := httptest.NewServer(h.record(s))
		t.Cleanup(func() { listener.CloseClientConnections(); listener.Close() })
		listeners = append(listeners, listener)
		config += "  " + fmt.Sprintf(entry, listener.URL) + "\n"
	}
	restart()
	hub := hubtest.StartHub(t, hubtest.Options{Config: config})
	hub.AwaitServers(2)
	wire := &peers.Recorder{}
	c := r.connectMCPGo(wire, hub.URL(), "ann")
	for _, server := range []string{"own", "shared"} {
		r.by(wire, "again", server+": a call", func() { toolOf(t, c, server+"__era") })
	}
	restart()
	for _, server := range []string{"own", "shared"} {
		r.by(wire, "again", server+": a call after the server was started again", func() { toolOf(t, c, server+"__era") })
	}
	hub.AwaitServers(2)
	for _, listener := range listeners {
		listener.Listener.Close()
		listener.CloseClientConnections()
	}
	hubtest.Eventually(t, "the servers are down", func() bool {
		_, body := hub.Get("/api/v1/upstreams")
		toolOf(t, c, "own__era") // makes the hub notice that the server is down
		toolOf(t, c, "shared__era")
		return strings.Count(body, `"state": "down"`) == 2
	})
	r.by(wire, "again", "shared: a call to a server that is down", func() { toolOf(t, c, "shared__era") })
	r.finish("", hub)
}

func TestTheSpansOfASessionsLife(t *testing.T) {
	r := newTraced(t)
	dataDir := t.TempDir()
	config := "sessions: {idleTimeout: 3s, cleanupInterval: 200ms, flushInterval: 50ms}\n" + hubtest.DemoConfig
	hub := hubtest.StartHub(t, hubtest.Options{Config: config, DataDir: dataDir})
	wire := &peers.Recorder{}
	var ann, bob *client.Client
	r.by(wire, "session", "initialize", func() { ann = r.connectMCPGo(wire, hub.URL(), "ann") })
	hubtest.Eventually(t, "the spans so far have arrived", func() bool {
		seen := map[string]bool{}
		for _, s := range r.collector.Spans() {
			seen[s.Name] = true
		}
		return seen["mcphub.upstream.connect"] && seen["notifications/initialized"] && seen["mcphub.session.flush"]
	})
	hub.Kill()
	hub = hub.Restart()
	hub.AwaitServers(1)
	r.by(wire, "session", "a call after kill -9", func() { toolOf(t, ann, "demo__time") })
	r.by(wire, "session", "DELETE", func() { _ = ann.Close() })
	r.by(wire, "session", "a client that goes without a word", func() { bob = r.connectMCPGo(wire, hub.URL(), "bob") })
	_ = bob
	hubtest.Eventually(t, "its session has expired", func() bool {
		return hub.Metric(`mcphub_sessions_active{kind="protocol",transport="streamable_http"}`) == "0"
	})
	r.finish("session_own", hub)
	checkBatchLinks(t, r)
}

// checkBatchLinks checks that the spans of batches link to the spans whose changes
// they wrote.
func checkBatchLinks(t *testing.T, r *traced) {
	t.Helper()
	f := newForest(r.collector.Spans(), r.names)
	linked := map[string]bool{}
	for _, s := range r.collector.Find(func(s *hubtest.Span) bool { return s.Name == "mcphub.session.flush" }) {
		for _, l := range s.Links {
			linked[f.linked(l)] = true
		}
	}
	for _, want := range []string{"mcphub.session.create", "mcphub.session.delete", "mcphub.session.cleanup"} {
		if !linked[want] {
			t.Errorf("no batch links to %s", want)
		}
	}
}

func TestTheSpansOfTwoHubsInARow(t *testing.T) {
	r := newTraced(t)
	t.Setenv("OTEL_SERVICE_NAME", "hub-b")
	b := hubtest.StartHub(t, hubtest.Options{Config: "naming: prefix\nmcpServers:\n" + r.recordedChild("child", "", hubtest.LegacyVersion)})
	b.AwaitServers(1)
	t.Setenv("OTEL_SERVICE_NAME", "hub-a")
	config := fmt.Sprintf("naming: prefix\nmcpServers:\n  legacy: {url: %q, era: legacy}\n  modern: {url: %q, era: modern}\n",
		b.URL(), b.URL())
	a := hubtest.StartHub(t, hubtest.Options{Config: config})
	a.AwaitServers(2)
	wire := &peers.Recorder{}
	c := peers.ConnectThrough(t, wire, a.URL(), hubtest.LegacyVersion, "ann")
	modernWire := &peers.Recorder{}
	modern := peers.ConnectThrough(t, modernWire, a.URL(), hubtest.ModernVersion, "modern ann")
	for _, between := range []string{"legacy", "modern"} {
		for _, x := range []struct {
			name string
			c    *peers.Client
		}{{"legacy client", c}, {"modern client", modern}} {
			r.by(x.c.Wire, "hubs", x.name+", "+between+" between the hubs", func() {
				if _, err := x.c.CallTool(t.Context(), &sdk.CallToolParams{Name: between + "__child__elicit"}); err != nil {
					t.Error(err)
				}
			})
		}
	}
	r.finish("", a, b)
}

func TestTheSpansOfABatch(t *testing.T) {
	r := newTraced(t)
	hub := hubtest.StartHub(t, hubtest.Options{Config: "naming: prefix\nmcpServers:\n" + r.recordedChild("child", "", hubtest.LegacyVersion)})
	hub.AwaitServers(1)
	c := hubtest.NewLegacyClient(t, hub.URL())
	c.Version = "2025-03-26"
	c.Request("initialize", `{"protocolVersion":"2025-03-26","capabilities":{},"clientInfo":{"name":"raw","version":"1"}}`)
	public, _, _ := strings.Cut(c.Token, ".")
	r.names[public] = "<session of the client>"
	meta := `"_meta":{"traceparent":"` + r.begin("batch", "a batch").traceparent() + `"}`
	status, _ := c.Post(`[{"jsonrpc":"2.0","method":"notifications/initialized","params":{` + meta + `}},
		{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"child__era",` + meta + `}},
		{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"child__fail",` + meta + `}},
		{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"nobody's",` + meta + `}},
		{"jsonrpc":"2.0","id":4,"method":"ping","params":{` + meta + `}},
		{"jsonrpc":"2.0","id":5,"method":"initialize","params":{` + meta + `}}, 7]`)
	if status != http.StatusOK {
		t.Errorf("status %d", status)
	}
	r.finish("", hub)
}
