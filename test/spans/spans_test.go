// Package spans compares the spans that a hub exports with the trees in testdata:
// every span, attribute, event, link and status. Run it with -update after a
// change, and read what has changed.
//
// Its tests also prove that the context of each CLIENT span is what the server
// gets, that no span is left open under load, and that a real Jaeger shows one
// trace through two hubs.
package spans

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
	"github.com/mcphub-go/mcphub/test/peers"
)

// step is something that a client does with a server.
type step struct {
	name string
	do   func(t *testing.T, c *peers.Client, server string)
}

// steps are what a client does with each server.
func steps() []step {
	tool := func(name string) func(*testing.T, *peers.Client, string) {
		return func(t *testing.T, c *peers.Client, server string) {
			t.Helper()
			params := &mcp.CallToolParams{Name: server + "__" + name, Arguments: peers.Arguments{Tag: name}}
			if name == "progress" {
				params.SetProgressToken("mine")
			}
			if name == "log" && c.Modern() {
				params.Meta = mcp.Meta{mcp.MetaKeyLogLevel: "warning"}
			}
			_, _ = c.CallTool(t.Context(), params) // some calls are meant to fail
		}
	}
	return []step{
		{"tools/call", tool("era")},
		{"tools/call again", tool("era")},
		{"isError", tool("fail")},
		{"error of the server", tool("refuse")},
		{"progress", tool("progress")},
		{"log", tool("log")},
		{"sampling", tool("sample")},
		{"elicitation", tool("elicit")},
		{"roots", tool("roots")},
		{"cancelled", cancelledCall},
		{"prompts/get", func(t *testing.T, c *peers.Client, server string) {
			t.Helper()
			if _, err := c.GetPrompt(t.Context(), &mcp.GetPromptParams{Name: server + "__greet"}); err != nil {
				t.Error(err)
			}
		}},
		{"resources/read", readResource("a")},
		{"resources/read of nothing", readResource("item/7")},
		{"completion/complete", func(t *testing.T, c *peers.Client, server string) {
			t.Helper()
			_, err := c.Complete(t.Context(), &mcp.CompleteParams{Argument: mcp.CompleteParamsArgument{Name: "who", Value: "A"},
				Ref: &mcp.CompleteReference{Type: "ref/prompt", Name: server + "__greet"}})
			if err != nil {
				t.Error(err)
			}
		}},
	}
}

func readResource(path string) func(*testing.T, *peers.Client, string) {
	return func(t *testing.T, c *peers.Client, server string) {
		t.Helper()
		_, _ = c.ReadResource(t.Context(), &mcp.ReadResourceParams{URI: peers.Resource(server, path)})
	}
}

// cancelledCall cancels a call while the server works on it.
func cancelledCall(t *testing.T, c *peers.Client, server string) {
	t.Helper()
	own := c.Wire.Trace()
	tag := c.Name + " waits for " + server
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		_, err := c.CallTool(ctx, &mcp.CallToolParams{Name: server + "__wait", Arguments: peers.Arguments{Tag: tag}})
		ended <- err
	}()
	hubtest.Eventually(t, "the call is sent", func() bool { return c.Wire.Sent(tag) > 0 })
	c.Wire.SetTrace(strings.TrimSuffix(own, "-01") + "-00") // not sampled, so not in the tree
	hubtest.Eventually(t, "the call is under way", func() bool { return c.Call(server+"__state", peers.Arguments{Tag: tag}) == "waits" })
	c.Wire.SetTrace(own)
	before := c.Wire.Sent("notifications/cancelled")
	cancel()
	<-ended
	hubtest.Eventually(t, "the client has said so", func() bool { return c.Wire.Sent("notifications/cancelled") > before })
	c.Wire.SetTrace(strings.TrimSuffix(own, "-01") + "-00")
	hubtest.Eventually(t, "the call is cancelled", func() bool { return c.Call(server+"__state", peers.Arguments{Tag: tag}) == "cancelled" })
}

func TestTheSpansOfWhatClientsAndServersDo(t *testing.T) {
	r := newTraced(t)
	servers := []string{"child", "newchild", "http", "newhttp", "shared"}
	config := "naming: prefix\nmcpServers:\n" +
		r.recordedChild("child", "", hubtest.LegacyVersion) + r.recordedChild("newchild", ", era: modern") +
		r.recordedWeb("http", "", false) + r.recordedWeb("newhttp", "", true) +
		r.recordedWeb("shared", ", isolation: shared", false) +
		r.recordedChild("hasty", ", callTimeout: 500ms", hubtest.LegacyVersion) + r.recordedWeb("hastyhttp", ", callTimeout: 500ms", false) +
		"  absent: {command: ./no-such-program}\n"
	hub := hubtest.StartHub(t, hubtest.Options{Config: config})
	hub.AwaitServers(len(servers) + 2)
	for _, revision := range []string{hubtest.LegacyVersion, hubtest.ModernVersion} {
		about := peers.Era(revision)
		wire := &peers.Recorder{}
		var c *peers.Client
		do := func(group, name string, fn func()) { r.by(wire, group, name, fn) }
		do(about, "connecting", func() {
			c = peers.ConnectThrough(t, wire, hub.URL(), revision, about)
			if id, _, ok := strings.Cut(c.ID(), "."); ok {
				r.names[id] = "<session of the client>"
			}
			c.AwaitStream("toolsListChanged")
		})
		requestsToHub(t, r, c, hub)
		for _, server := range servers {
			for _, s := range steps() {
				do(about+"_"+server, s.name, func() { s.do(t, c, server) })
			}
		}
		for _, server := range []string{"hasty", "hastyhttp"} {
			do(about+"_timeout", server, func() {
				if _, err := c.CallTool(t.Context(), &mcp.CallToolParams{Name: server + "__wait"}); err == nil {
					t.Error("a call that waits is answered")
				}
			})
		}
		do(about, "list_changed", func() {
			listened := len(c.Notified("tools/list_changed"))
			c.Call("newchild__grow", peers.Arguments{Tag: "grown_for_" + about})
			hubtest.Eventually(t, "the client hears of it", func() bool { return len(c.Notified("tools/list_changed")) > listened })
		})
		if !c.Modern() {
			do(about, "closing", func() { _ = c.Close() })
		}
	}
	r.finish("own", hub)
}

// requestsToHub sends the requests that concern no server or all servers.
func requestsToHub(t *testing.T, r *traced, c *peers.Client, hub *hubtest.Hub) {
	t.Helper()
	about := peers.Era(c.InitializeResult().ProtocolVersion)
	do := func(name string, fn func() error) {
		r.by(c.Wire, about, name, func() {
			if err := fn(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	do("tools/list of all servers, one of which is down", func() error { _, err := c.ListTools(t.Context(), nil); return err })
	do("prompts/list", func() error { _, err := c.ListPrompts(t.Context(), nil); return err })
	do("resources/list", func() error { _, err := c.ListResources(t.Context(), nil); return err })
	do("resources/templates/list", func() error { _, err := c.ListResourceTemplates(t.Context(), nil); return err })
	do("a cursor that is none", func() error {
		if _, err := c.ListTools(t.Context(), &mcp.ListToolsParams{Cursor: "junk"}); err == nil {
			return fmt.Errorf("it is one")
		}
		return nil
	})
	for _, name := range []string{"child__nothing", "nobody's", "absent__tool"} {
		do("tools/call "+name, func() error {
			if _, err := c.CallTool(t.Context(), &mcp.CallToolParams{Name: name}); err == nil {
				return fmt.Errorf("it was answered")
			}
			return nil
		})
	}
	trace := r.begin(about, "a method that nobody knows")
	long := "x/" + strings.Repeat("long", 100)
	if c.Modern() {
		raw := hubtest.NewModernClient(t, hub.URL(), "raw")
		raw.Traceparent = trace.traceparent()
		raw.Request(long, "", "")
		return
	}
	raw := hubtest.NewLegacyClient(t, hub.URL())
	raw.Token = c.ID()
	raw.Request(long, `{"_meta":{"traceparent":"`+trace.traceparent()+`"}}`)
	do("ping", func() error { return c.Ping(t.Context(), nil) })
	do("logging/setLevel", func() error {
		return c.SetLoggingLevel(t.Context(), &mcp.SetLoggingLevelParams{Level: "warning"})
	})
}
