package metrics

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
	"github.com/mcphub-go/mcphub/pkg/protocol"
	"github.com/mcphub-go/mcphub/test/peers"
)

// stranger is a client that invents names and uses each of them once.
type stranger struct {
	t      *testing.T
	url    string
	http   *http.Client
	tokens []string // of sessions
	id     atomic.Int64
	failed atomic.Pointer[string]
}

func newStranger(t *testing.T, url string, sessions int) *stranger {
	t.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: 32}
	t.Cleanup(transport.CloseIdleConnections)
	s := &stranger{t: t, url: url, http: &http.Client{Transport: transport}}
	for range sessions {
		s.tokens = append(s.tokens, hubtest.Connect(t, url).Token)
	}
	return s
}

// legacy sends one request in a session with an invented name: of a method, a tool,
// a prompt, a resource or a version. Every fiftieth request is an initialize of an
// invented client.
func (s *stranger) legacy(n int) {
	name := fmt.Sprintf("invented-%d", n)
	method, params, token, version := name, "{}", s.tokens[n%len(s.tokens)], ""
	switch kind := n % 6; {
	case n%50 == 0:
		method, token = "initialize", ""
		params = fmt.Sprintf(`{"protocolVersion":%q,"capabilities":{},"clientInfo":{"name":%q,"version":%q}}`, name, name, name)
	case kind == 1:
		method, params = "tools/call", fmt.Sprintf(`{"name":%q,"arguments":{}}`, name)
	case kind == 2:
		method, params = "prompts/get", fmt.Sprintf(`{"name":%q}`, name)
	case kind == 3:
		method, params = "resources/read", fmt.Sprintf(`{"uri":"invented://%s"}`, name)
	case kind == 4:
		method, params = "completion/complete", fmt.Sprintf(`{"ref":{"type":"ref/prompt","name":%q},`+
			`"argument":{"name":%q,"value":""}}`, name, name)
	case kind == 5:
		version = fmt.Sprintf("1999-01-01-%s", name)
	}
	if body, err := s.post(token, version, method, params); err != nil || !strings.Contains(body, `"jsonrpc"`) {
		s.fail(fmt.Sprintf("%s: %v %s", method, err, body))
	}
}

// post sends one request and returns the body of the response.
func (s *stranger) post(token, version, method, params string) (string, error) {
	r, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, s.url,
		strings.NewReader(fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":%q,"params":%s}`, s.id.Add(1), method, params)))
	if err != nil {
		return "", err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json, text/event-stream")
	if token != "" {
		r.Header.Set("Mcp-Session-Id", token)
	}
	if version != "" {
		r.Header.Set("Mcp-Protocol-Version", version)
	}
	response, err := s.http.Do(r)
	if err != nil {
		return "", err
	}
	body, err := io.ReadAll(response.Body)
	_ = response.Body.Close()
	if err == nil && response.StatusCode >= http.StatusInternalServerError {
		err = errors.New(response.Status)
	}
	return string(body), err
}

// modern sends one request with two invented names: that of the client and another.
func (s *stranger) modern(n int) {
	name := fmt.Sprintf("invented-%d", n)
	c := hubtest.NewModernClient(s.t, s.url, "client-"+name)
	c.HTTP = s.http
	var body string
	var err error
	switch n % 5 {
	case 0:
		_, body, err = c.Send(name, "", "")
	case 1:
		_, body, err = c.Send("tools/call", name, fmt.Sprintf(`"name":%q,"arguments":{}`, name))
	case 2:
		_, body, err = c.Send("prompts/get", name, fmt.Sprintf(`"name":%q`, name))
	case 3:
		uri := "invented://" + name
		_, body, err = c.Send("resources/read", uri, fmt.Sprintf(`"uri":%q`, uri))
	case 4:
		c.Version = fmt.Sprintf("2099-01-01-%s", name)
		_, body, err = c.Send("ping", "", "")
	}
	if err != nil || !strings.Contains(body, `"error"`) {
		s.fail(fmt.Sprintf("%s: %v %s", name, err, body))
	}
}

func (s *stranger) fail(text string) { s.failed.CompareAndSwap(nil, &text) }

// spread calls f with the numbers from first up, from several goroutines.
func (s *stranger) spread(first, count int, f func(int)) {
	s.t.Helper()
	var next atomic.Int64
	var workers sync.WaitGroup
	for range 16 {
		workers.Go(func() {
			for n := int(next.Add(1)) - 1; n < count && s.failed.Load() == nil; n = int(next.Add(1)) - 1 {
				f(first + n)
			}
		})
	}
	workers.Wait()
	if text := s.failed.Load(); text != nil {
		s.t.Fatal(*text)
	}
}

func TestAHundredThousandInventedNamesAddNoSeries(t *testing.T) {
	hub := hubtest.StartHub(t, hubtest.Options{Config: hubtest.DemoConfig, LogLevel: "warn"})
	s := newStranger(t, hub.URL(), 8)
	s.spread(0, 60, s.legacy)
	s.spread(0, 60, s.modern)
	before := hub.Series()
	s.spread(1_000, 20_000, s.legacy)
	s.spread(1_000, 40_000, s.modern) // two names each
	sameSeries(t, before, hub.Series())
}

// A transparent hub passes on names that it does not know, so its server sees
// them, and its calls to that server carry them.
func TestInventedNamesThatReachTheServerAddNoSeries(t *testing.T) {
	for name, fixture := range map[string]func(testing.TB) string{"legacy server": peers.Everything,
		"modern server": peers.StatelessEverything} {
		t.Run(name, func(t *testing.T) {
			hub := hubtest.StartHub(t, hubtest.Options{Config: peers.BareConfig(fixture(t)), LogLevel: "warn"})
			s := newStranger(t, hub.URL(), 2)
			s.spread(0, 60, s.legacy)
			s.spread(0, 60, s.modern)
			before := hub.Series()
			s.spread(1_000, 500, s.legacy)
			s.spread(1_000, 500, s.modern)
			const calls = `mcphub_messages_total{direction="out",hop="backend",kind="request"}`
			if n, err := strconv.Atoi(hub.Metric(calls)); err != nil || n < 600 {
				t.Errorf("only %d requests reached the server: %v", n, err)
			}
			sameSeries(t, before, hub.Series())
		})
	}
}

// codes is a server that answers each call of its tool with the error code of the
// argument.
func codes(t *testing.T, modern bool) (url string) {
	t.Helper()
	return hubtest.Serve(t, &hubtest.Script{Modern: modern, Tools: map[string]hubtest.Handler{
		"echo": func(c *hubtest.Call) hubtest.Reply {
			var arguments struct{ Code json.RawMessage }
			_ = c.Arguments(&arguments) // the hub has parsed them already
			return hubtest.Reply{Error: json.RawMessage(`{"code":` + string(arguments.Code) + `,"message":"as you wish"}`)}
		},
	}})
}

// Each number is a code once, of both eras of clients, from servers of both.
func TestErrorCodesOfServersAddNoSeriesAndAreCounted(t *testing.T) {
	for name, modern := range map[string]bool{"legacy server": false, "modern server": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			hub := hubtest.StartHub(t, hubtest.Options{Config: "mcpServers: {codes: {url: \"" + codes(t, modern) + "\"}}\n", LogLevel: "warn"})
			s := newStranger(t, hub.URL(), 4)
			ask := func(n int) {
				code := n - 34_000 // some of them are those of JSON-RPC and of MCP
				if code == protocol.CodeHeaderMismatch || code == protocol.CodeUnsupportedVersion {
					code = -32000 // they say that the server is of another era, which costs the calls beside this one their connection
				}
				params := fmt.Sprintf(`"name":"codes__echo","arguments":{"code":%d}`, code)
				body, err := "", error(nil)
				if n%2 == 0 {
					c := hubtest.NewModernClient(t, s.url, "client")
					c.HTTP = s.http
					_, body, err = c.Send("tools/call", "codes__echo", params)
				} else {
					body, err = s.post(s.tokens[n%len(s.tokens)], "", "tools/call", "{"+params+"}")
				}
				if err != nil || !strings.Contains(body, `"error"`) { // a few codes have a meaning, which the hub translates
					s.fail(fmt.Sprintf("code %d: %v %s", code, err, body))
				}
			}
			s.spread(1_200, 900, ask)
			before := hub.Series()
			s.spread(40_000, 2_000, ask)
			if len(before) > 1_600 {
				t.Errorf("%d series, most of them of codes that nobody has defined", len(before))
			}
			sameSeries(t, before, hub.Series())
			for _, hop := range []string{"downstream", "backend"} {
				n, err := strconv.Atoi(hub.Metric(`mcphub_metric_label_overflow_total{hop="` + hop + `",label="error_type"}`))
				if own := 2_900 - 5 - 100; err != nil || n != own { // -32700, -32603 to -32600, -32099 to -32000
					t.Errorf("%s: %d of %d codes were counted as folded: %v", hop, n, own, err)
				}
			}
		})
	}
}

func sameSeries(t *testing.T, before, after map[string]bool) {
	t.Helper()
	t.Logf("%d series", len(after))
	added := slices.Sorted(maps.Keys(after))
	added = slices.DeleteFunc(added, func(s string) bool { return before[s] })
	if len(added) > 0 {
		t.Errorf("%d series before, %d after; new are, for example,\n%s", len(before), len(after),
			strings.Join(added[:min(len(added), 20)], "\n"))
	}
}
