package spans

import (
	"context"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
	"github.com/mcphub-go/mcphub/test/peers"
)

// loadVariable sets the duration of TestALoadLeavesNoLiveSpan.
const loadVariable = "MCPHUB_SPANS_LOAD"

// loadRate is the number of calls that it begins in a second.
const loadRate = 200

// load returns the requests that the clients send in turn. Some of them fail, some
// are cancelled.
func load() []func(context.Context, *peers.Client, string) {
	tool := func(name string, timeout time.Duration) func(context.Context, *peers.Client, string) {
		return func(ctx context.Context, c *peers.Client, server string) {
			ctx, cancel := context.WithTimeout(ctx, timeout)
			defer cancel()
			params := &mcp.CallToolParams{Name: server + "__" + name, Arguments: peers.Arguments{Tag: "load"}}
			params.SetProgressToken("token")
			_, _ = c.CallTool(ctx, params)
		}
	}
	const patience, hurry = 20 * time.Second, 30 * time.Millisecond
	return []func(context.Context, *peers.Client, string){
		tool("era", patience), tool("progress", patience), tool("fail", patience), tool("refuse", patience), tool("log", patience),
		tool("wait", hurry), tool("sample", patience), tool("elicit", patience), tool("elicit", hurry), tool("nothing", patience),
		func(ctx context.Context, c *peers.Client, server string) {
			_, _ = c.ReadResource(ctx, &mcp.ReadResourceParams{URI: peers.Resource(server, "a")})
		},
		func(ctx context.Context, c *peers.Client, _ string) { _, _ = c.ListTools(ctx, nil) },
	}
}

func TestALoadLeavesNoLiveSpan(t *testing.T) {
	duration := 10 * time.Second
	if text := os.Getenv(loadVariable); text != "" {
		var err error
		if duration, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
	}
	r := newTraced(t)
	servers := []string{"child", "newchild", "http", "newhttp"}
	hub := hubtest.StartHub(t, hubtest.Options{Config: "naming: prefix\nmcpServers:\n" +
		r.recordedChild("child", "", hubtest.LegacyVersion) + r.recordedChild("newchild", ", era: modern") +
		r.recordedWeb("http", "", false) + r.recordedWeb("newhttp", "", true)})
	r.servers = nil // what the servers get is compared elsewhere
	hub.AwaitServers(len(servers))
	var clients []*peers.Client
	for _, revision := range []string{hubtest.LegacyVersion, hubtest.ModernVersion} {
		c := peers.Connect(t, hub.URL(), revision, peers.Era(revision))
		c.AwaitStream("toolsListChanged")
		clients = append(clients, c)
	}
	live := func() string { return hub.Metric("mcphub_spans_live") }
	hubtest.Eventually(t, "no span lives as long as a stream", func() bool { return live() == "0" })

	tick := time.NewTicker(time.Second / loadRate)
	defer tick.Stop()
	var calls sync.WaitGroup
	slots := make(chan struct{}, 4*loadRate) // the hub is slower at times
	kinds, highest := load(), 0
	count := int(duration.Seconds() * loadRate)
	for i := range count {
		<-tick.C
		slots <- struct{}{}
		calls.Go(func() {
			defer func() { <-slots }()
			n := i / len(clients)
			kinds[n/len(servers)%len(kinds)](t.Context(), clients[i%len(clients)], servers[n%len(servers)])
		})
		if i%(loadRate/10) == 0 {
			now, err := strconv.Atoi(live())
			if err != nil {
				t.Fatal(err)
			}
			highest = max(highest, now)
		}
	}
	calls.Wait()
	hubtest.Eventually(t, "no span is live", func() bool { return live() == "0" })
	if highest == 0 {
		t.Error("no span was ever live")
	}
	for _, stream := range []string{"get_sse", "subscription"} {
		if n := hub.Metric(`mcphub_streams_active{stream="` + stream + `"}`); n != "1" {
			t.Errorf("%s streams %s are open", n, stream)
		}
	}
	if status := hub.Terminate(15 * time.Second); status != 0 {
		t.Errorf("exit status %d", status)
	}
	spans := r.collector.Spans()
	newForest(spans, r.names).check(t, spans)
	served := 0
	for _, s := range spans {
		if s.IsServer() && slices.Contains([]string{"tools/call", "resources/read", "tools/list"}, s.Attribute("mcp.method.name")) {
			served++
		}
	}
	if served < count {
		t.Errorf("%d spans for %d calls", served, count)
	}
	t.Logf("%d calls, %d spans, at most %d live at a time", count, len(spans), highest)
}
