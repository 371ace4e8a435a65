package main

import (
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
)

// series are the names and labels that /metrics shows, without the values.
func (h *hubProcess) series() map[string]bool {
	h.t.Helper()
	_, body := get(h.t, "http://"+h.side+"/metrics")
	found := map[string]bool{}
	for line := range strings.Lines(body) {
		if i := strings.LastIndexByte(line, ' '); i > 0 && line[0] != '#' {
			found[line[:i]] = true
		}
	}
	if len(found) < 100 {
		h.t.Fatalf("%d series\n%s", len(found), body)
	}
	return found
}

// stranger invents names, each once.
type stranger struct {
	t      *testing.T
	url    string
	http   *http.Client
	tokens []string // of sessions
	failed atomic.Pointer[string]
}

func newStranger(t *testing.T, url string, sessions int) *stranger {
	t.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: 32}
	t.Cleanup(transport.CloseIdleConnections)
	s := &stranger{t: t, url: url, http: &http.Client{Transport: transport}}
	for range sessions {
		s.tokens = append(s.tokens, connect(t, url).token)
	}
	return s
}

// legacy makes one request with an invented name in a session; every fiftieth is
// an initialize of an invented client.
func (s *stranger) legacy(n int) {
	name := fmt.Sprintf("invented-%d", n)
	method, params, token := name, "{}", s.tokens[n%len(s.tokens)]
	switch {
	case n%50 == 0:
		method, token = "initialize", ""
		params = fmt.Sprintf(`{"protocolVersion":%q,"capabilities":{},"clientInfo":{"name":%q,"version":%q}}`, name, name, name)
	case n%3 == 1:
		method, params = "tools/call", fmt.Sprintf(`{"name":%q,"arguments":{}}`, name)
	case n%3 == 2:
		method, params = "prompts/get", fmt.Sprintf(`{"name":%q}`, name)
	}
	r, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, s.url,
		strings.NewReader(fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":%q,"params":%s}`, method, params)))
	if err != nil {
		s.fail(err.Error())
		return
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json, text/event-stream")
	if token != "" {
		r.Header.Set("Mcp-Session-Id", token)
	}
	response, err := s.http.Do(r)
	if err != nil {
		s.fail(err.Error())
		return
	}
	body, err := io.ReadAll(response.Body)
	_ = response.Body.Close()
	if err != nil || response.StatusCode >= http.StatusInternalServerError || !strings.Contains(string(body), `"jsonrpc"`) {
		s.fail(fmt.Sprintf("%s: %s %v %s", method, response.Status, err, body))
	}
}

// modern makes one request with two invented names: the client's and another.
func (s *stranger) modern(n int) {
	name := fmt.Sprintf("invented-%d", n)
	c := modernClient{t: s.t, http: s.http, url: s.url, name: "client-" + name}
	var body string
	var err error
	switch n % 3 {
	case 0:
		_, body, err = c.send(name, "", "")
	case 1:
		_, body, err = c.send("tools/call", name, fmt.Sprintf(`"name":%q,"arguments":{}`, name))
	case 2:
		_, body, err = c.send("prompts/get", name, fmt.Sprintf(`"name":%q`, name))
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
	hub := startHub(t, demoConfig, t.TempDir(), "--log-level", "warn")
	s := newStranger(t, hub.url(), 8)
	s.spread(0, 60, s.legacy)
	s.spread(0, 60, s.modern)
	before := hub.series()
	s.spread(1_000, 20_000, s.legacy)
	s.spread(1_000, 40_000, s.modern) // two names each
	sameSeries(t, before, hub.series())
}

// A transparent hub passes on names that it does not know, so its server sees
// them, and its calls to that server carry them.
func TestInventedNamesThatReachTheServerAddNoSeries(t *testing.T) {
	for name, fixture := range map[string]func(*testing.T) string{"legacy server": everything, "modern server": statelessEverything} {
		t.Run(name, func(t *testing.T) {
			hub := startHub(t, bareConfig(fixture(t)), t.TempDir(), "--log-level", "warn")
			s := newStranger(t, hub.url(), 2)
			s.spread(0, 60, s.legacy)
			s.spread(0, 60, s.modern)
			before := hub.series()
			s.spread(1_000, 500, s.legacy)
			s.spread(1_000, 500, s.modern)
			const calls = `mcphub_messages_total{direction="out",hop="backend",kind="request"}`
			if n, err := strconv.Atoi(hub.metric(calls)); err != nil || n < 600 {
				t.Errorf("only %d requests reached the server: %v", n, err)
			}
			sameSeries(t, before, hub.series())
		})
	}
}

func sameSeries(t *testing.T, before, after map[string]bool) {
	t.Helper()
	t.Logf("%d series", len(after))
	added := slices.Sorted(maps.Keys(after))
	added = slices.DeleteFunc(added, func(s string) bool { return before[s] })
	if len(added) > 0 {
		t.Errorf("%d series before, %d after; new are, for example,\n%s", len(before), len(after), strings.Join(added[:min(len(added), 20)], "\n"))
	}
}
