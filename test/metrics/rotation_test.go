package metrics

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
	"github.com/mcphub-go/mcphub/test/peers"
)

// rotating is a server of go-sdk that renames all its tools again and again.
type rotating struct {
	*mcp.Server
	entered, leave chan struct{} // calls with the argument wait stop here
	over           <-chan struct{}
}

const rotatingTools = 100

func startRotating(t *testing.T, modern bool) (s *rotating, url string) {
	t.Helper()
	s = &rotating{Server: mcp.NewServer(&mcp.Implementation{Name: "rotating", Version: "1"}, nil),
		entered: make(chan struct{}), leave: make(chan struct{}), over: t.Context().Done()}
	s.offer(0)
	return s, hubtest.Serve(t, mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s.Server },
		&mcp.StreamableHTTPOptions{Stateless: modern}))
}

// tool is the name of a tool in one round.
func (s *rotating) tool(round, n int) string { return fmt.Sprintf("round%d-%d", round, n) }

func (s *rotating) offer(round int) {
	for n := range rotatingTools {
		s.AddTool(&mcp.Tool{Name: s.tool(round, n), InputSchema: map[string]any{"type": "object"}}, s.call)
	}
}

func (s *rotating) withdraw(round int) {
	var names []string
	for n := range rotatingTools {
		names = append(names, s.tool(round, n))
	}
	s.RemoveTools(names...)
}

func (s *rotating) call(ctx context.Context, r *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	var args struct{ Wait bool }
	if err := json.Unmarshal(r.Params.Arguments, &args); err == nil && args.Wait {
		for _, gate := range []chan struct{}{s.entered, s.leave} {
			select {
			case gate <- struct{}{}:
			case <-ctx.Done():
				return nil, ctx.Err()
			case <-s.over: // the test has failed
				return nil, context.Canceled
			}
		}
	}
	return peers.Said("done"), nil
}

// rotation is a client of a hub in front of a rotating server.
type rotation struct {
	*hubtest.LegacyClient
	t      *testing.T
	hub    *hubtest.Hub
	server *rotating
	prefix string // of names at the hub
}

// called calls a tool that the server offers and fails the test if that fails.
func (r rotation) called(tool string) {
	r.t.Helper()
	if a := r.Request("tools/call", fmt.Sprintf(`{"name":%q,"arguments":{}}`, r.prefix+tool)); a.Result == nil {
		r.t.Fatalf("%s: %s", tool, a.Error)
	}
}

// waits begins a call that ends when the test receives from server.leave. The
// channel gets the response.
func (r rotation) waits(tool string) <-chan string {
	r.t.Helper()
	ended := make(chan string, 1)
	go func() {
		response, err := r.Do(r.t.Context(), http.MethodPost,
			fmt.Sprintf(`{"jsonrpc":"2.0","id":8,"method":"tools/call","params":{"name":%q,"arguments":{"wait":true}}}`, r.prefix+tool))
		if err != nil {
			ended <- err.Error()
			return
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		ended <- fmt.Sprint(string(body), err)
	}()
	<-r.server.entered
	return ended
}

var aTool = regexp.MustCompile(`^mcp_(server|client)_operation_duration_seconds_count\{.*gen_ai_tool_name="([^"]+)"`)

// labels returns the tools that are labels of the metrics of a side, server or
// client.
func (r rotation) labels(side string) map[string]bool {
	r.t.Helper()
	tools := map[string]bool{}
	for s := range r.hub.Series() {
		if m := aTool.FindStringSubmatch(s); m != nil && m[1] == side && m[2] != "_OTHER" {
			tools[strings.TrimPrefix(m[2], r.prefix)] = true
		}
	}
	return tools
}

// isOf reports whether the labels of both hops are tools of round only, and
// at least one of them.
func (r rotation) isOf(round int) bool {
	r.t.Helper()
	for _, side := range []string{"server", "client"} {
		tools := r.labels(side)
		if len(tools) == 0 {
			return false
		}
		for tool := range tools {
			if !strings.HasPrefix(tool, fmt.Sprintf("round%d-", round)) {
				return false
			}
		}
	}
	return true
}

// Everything is renamed ten times, with calls of all tools in between and one that
// is under way each time.
func TestAThousandRenamedToolsLeaveNoSeries(t *testing.T) {
	for name, x := range map[string]struct {
		modern bool
		naming string
		prefix string
	}{
		"legacy server":             {false, "prefix", "rotating__"},
		"modern server":             {true, "prefix", "rotating__"},
		"transparent, with its own": {false, "bare", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, url := startRotating(t, x.modern)
			config := "naming: " + x.naming + "\nmcpServers: {rotating: {url: \"" + url + "\"}}\n"
			hub := hubtest.StartHub(t, hubtest.Options{Config: config, LogLevel: "warn"})
			r := rotation{LegacyClient: hubtest.Connect(t, hub.URL()), t: t, hub: hub, server: server, prefix: x.prefix}
			var series int
			for round := range 10 {
				for n := range rotatingTools {
					r.called(server.tool(round, n))
				}
				if n := len(r.labels("server")) + len(r.labels("client")); n != 2*rotatingTools {
					t.Errorf("round %d: %d tools have series, want %d on both sides", round, n, rotatingTools)
				}
				ended := r.waits(server.tool(round, 0))
				server.offer(round + 1)
				server.withdraw(round)
				hubtest.Eventually(t, "the hub knows the new names", func() bool {
					r.Request("tools/call", fmt.Sprintf(`{"name":%q,"arguments":{}}`, r.prefix+server.tool(round+1, 0)))
					return r.isOf(round + 1)
				})
				<-server.leave
				if answer := <-ended; !strings.Contains(answer, "done") {
					t.Fatalf("the call under way ended with %s", answer)
				}
				if !r.isOf(round + 1) {
					t.Fatalf("a tool of round %d is back: %v %v", round, r.labels("server"), r.labels("client"))
				}
				if n := r.series(); round == 0 {
					series = n
				} else if n > series+34 { // less than one tool at both hops has with two outcomes
					t.Errorf("%d series after the first round, %d after %d", series, n, round+1)
				}
			}
			for _, hop := range []string{"downstream", "backend"} {
				if n := hub.Metric(`mcphub_metric_label_overflow_total{hop="` + hop + `",label="gen_ai_tool_name"}`); n != "0" {
					t.Errorf("%s calls had no label %s", n, hop)
				}
			}
			r.comeBack()
		})
	}
}

// series counts the series without those of the tool _OTHER: these have one set for
// each outcome, and which outcomes occur depends on the timing.
func (r rotation) series() (n int) {
	r.t.Helper()
	for s := range r.hub.Series() {
		if !strings.Contains(s, `gen_ai_tool_name="_OTHER"`) {
			n++
		}
	}
	return n
}

// comeBack checks the names of the first round when the server offers them again.
func (r rotation) comeBack() {
	r.t.Helper()
	r.server.offer(0)
	r.server.withdraw(10)
	back := r.server.tool(0, 0)
	calls := 0
	hubtest.Eventually(r.t, "the first names are back", func() bool {
		r.Request("tools/call", fmt.Sprintf(`{"name":%q,"arguments":{}}`, r.prefix+back))
		calls++
		return r.isOf(0)
	})
	r.called(back)
	counted := 0
	for line := range strings.Lines(second(r.hub.Get("/metrics"))) {
		if m := aTool.FindStringSubmatch(line); m != nil && m[1] == "server" && m[2] == r.prefix+back {
			var n int
			if _, err := fmt.Sscan(line[strings.LastIndexByte(line, ' '):], &n); err != nil {
				r.t.Fatal(err)
			}
			counted += n
		}
	}
	if counted == 0 || counted > calls+1 {
		r.t.Errorf("%s has %d calls, of %d since it is back", back, counted, calls+1)
	}
}

func second[T any](_ int, v T) T { return v }

func TestTheConfigurationSaysWhichToolsHaveSeries(t *testing.T) {
	for name, x := range map[string]struct {
		config   string
		labels   int
		overflow string
	}{
		"all":   {"", 2, "0"},
		"one":   {"metrics: {maxToolLabels: 1}\n", 1, "1"},
		"none":  {"metrics: {toolLabel: off}\n", 0, "0"},
		"still": {"metrics: {toolLabel: off, maxToolLabels: 1}\n", 0, "0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, url := startRotating(t, false)
			hub := hubtest.StartHub(t, hubtest.Options{Config: x.config + "mcpServers: {rotating: {url: \"" + url + "\"}}\n", LogLevel: "warn"})
			r := rotation{LegacyClient: hubtest.Connect(t, hub.URL()), t: t, hub: hub, server: server, prefix: "rotating__"}
			r.called(server.tool(0, 0))
			r.called(server.tool(0, 1))
			for side, hop := range map[string]string{"server": "downstream", "client": "backend"} {
				if tools := r.labels(side); len(tools) != x.labels {
					t.Errorf("%s: series of %v, want %d tools", hop, tools, x.labels)
				}
				if n := hub.Metric(`mcphub_metric_label_overflow_total{hop="` + hop + `",label="gen_ai_tool_name"}`); n != x.overflow {
					t.Errorf("%s: %s calls had no label, want %s", hop, n, x.overflow)
				}
			}
		})
	}
}
