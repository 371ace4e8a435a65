package gateway

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

// modernPeer is a modern client, which has no session.
type modernPeer struct {
	*peer
	capabilities string
	more         string // further members of _meta, each after a comma
	headers      []string
}

const canElicit = `{"elicitation":{}}`

// modern returns a modern client with those capabilities.
func (r *rig) modern(capabilities string, headers ...string) *modernPeer {
	return &modernPeer{peer: &peer{rig: r}, capabilities: capabilities, headers: headers}
}

// with returns a copy of the client with further members of _meta.
func (c *modernPeer) with(more string) *modernPeer {
	other := *c
	other.more = more
	return &other
}

// body returns a request with those params, which have no _meta.
func (c *modernPeer) body(id, method, params string) string {
	meta := fmt.Sprintf(`"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28",`+
		`"io.modelcontextprotocol/clientCapabilities":%s%s}}`, c.capabilities, c.more)
	if params != `{}` {
		meta = "," + meta
	}
	return request(id, method, strings.TrimSuffix(params, "}")+meta)
}

// mirrored returns the headers of that request.
func (c *modernPeer) mirrored(method, params string, headers ...string) []string {
	all := []string{"Mcp-Protocol-Version: 2026-07-28", "Mcp-Method: " + method}
	if member := protocol.NamedBy(method); member != "" {
		if name, ok := jsonrpc.StringField(json.RawMessage(params), member); ok {
			all = append(all, "Mcp-Name: "+protocol.EncodeHeader(name))
		}
	}
	all = append(all, c.headers...)
	return append(all, headers...)
}

func (c *modernPeer) call(id, method, params string, headers ...string) reply {
	c.t.Helper()
	return c.send(http.MethodPost, c.body(id, method, params), c.mirrored(method, params, headers...)...)
}

func (c *modernPeer) stream(id, method, params string) *reader {
	c.t.Helper()
	return c.open(http.MethodPost, c.body(id, method, params), c.mirrored(method, params)...)
}

// tool calls a tool.
func (c *modernPeer) tool(id, name, arguments string) reply {
	c.t.Helper()
	return c.call(id, "tools/call", fmt.Sprintf(`{"name":%q,"arguments":%s}`, name, arguments))
}

// state returns the state of the child process called server.
func (c *modernPeer) state(server string) (state childState) {
	c.t.Helper()
	var v struct{ State childState }
	if err := json.Unmarshal(c.tool(`"state"`, server+"__state", `{}`).response(c.t).Result, &v); err != nil {
		c.t.Fatal(err)
	}
	return v.State
}

// stub is a modern server over HTTP with fixed answers.
type stub struct {
	t    *testing.T
	http *httptest.Server

	mu      sync.Mutex
	visits  []stubVisit
	answers map[string]string // by method: the member of the response, or the HTTP status and that
	streams map[chan string]jsonrpc.ID
	opened  int
	hanging int
}

type stubVisit struct {
	header http.Header
	jsonrpc.Message
}

const (
	stubCapabilities = `{"tools":{"listChanged":true},"prompts":{},"resources":{"subscribe":true,"listChanged":true},"logging":{},` +
		`"completions":{}}`
	stubTools = `{"resultType":"complete","ttlMs":5000,"cacheScope":"public","tools":[{"name":"echo",` +
		`"inputSchema":{"type":"object"}},{"name":"hang","inputSchema":{"type":"object"}},` +
		`{"name":"there","inputSchema":{"type":"object","properties":{"region":{"type":"string","x-mcp-header":"Region"}}}}]}`
)

func newStub(t *testing.T) *stub {
	s := &stub{t: t, streams: map[chan string]jsonrpc.ID{}, answers: map[string]string{
		"server/discover": `"result":{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":` +
			stubCapabilities + `,"ttlMs":0,"cacheScope":"private"}`,
		"tools/list":   `"result":` + stubTools,
		"prompts/list": `"result":{"resultType":"complete","ttlMs":7000,"cacheScope":"public","prompts":[{"name":"greet"}]}`,
		"resources/list": `"result":{"resultType":"complete","ttlMs":7000,"cacheScope":"public",` +
			`"resources":[{"uri":"stub://one","name":"one"}]}`,
		"resources/templates/list": `"result":{"resultType":"complete","ttlMs":7000,"cacheScope":"public","resourceTemplates":[]}`,
	}}
	s.http = httptest.NewServer(s)
	t.Cleanup(func() {
		s.http.CloseClientConnections()
		s.http.Close()
	})
	return s
}

func (s *stub) spec(name string, isolation upstream.Isolation) upstream.Spec {
	return upstream.Spec{Name: name, URL: s.http.URL, Isolation: isolation}
}

// setAnswer sets the answer to a method.
func (s *stub) setAnswer(method, member string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers[method] = member
}

func (s *stub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	m, _ := jsonrpc.Parse(body)
	s.mu.Lock()
	s.visits = append(s.visits, stubVisit{r.Header.Clone(), m})
	member, ok := s.answers[m.Method]
	s.mu.Unlock()
	name, _ := jsonrpc.StringField(m.Params, "name")
	switch {
	case m.Method == "subscriptions/listen":
		s.listen(w, r, m)
		return
	case m.Method == "tools/call" && name == "hang":
		s.count(&s.hanging, 1)
		<-r.Context().Done()
		s.count(&s.hanging, -1)
		return
	case !ok:
		member = `"error":{"code":-32601,"message":"no such method here"}`
	}
	status, member := http.StatusOK, member
	if code, rest, ok := strings.Cut(member, " "); ok && len(code) == 3 {
		_, _ = fmt.Sscan(code, &status)
		member = rest
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,%s}`, m.ID, member)
}

func (s *stub) count(n *int, by int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	*n += by
}

func (s *stub) value(n *int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return *n
}

// listen acknowledges everything and stays open.
func (s *stub) listen(w http.ResponseWriter, r *http.Request, m jsonrpc.Message) {
	events := make(chan string, 16)
	s.mu.Lock()
	s.streams[events] = m.ID
	s.opened++
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.streams, events)
	}()
	fields, _ := jsonrpc.Fields(m.Params, "notifications")
	w.Header().Set("Content-Type", "text/event-stream")
	event := fmt.Sprintf(`{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged",`+
		`"params":{"_meta":{"io.modelcontextprotocol/subscriptionId":%s},"notifications":%s}}`, m.ID, fields[0])
	for {
		_, _ = fmt.Fprintf(w, "event: message\ndata: %s\n\n", event)
		w.(http.Flusher).Flush() //nolint:forcetypeassert // of net/http
		var ok bool
		select {
		case event, ok = <-events:
			if !ok {
				return
			}
		case <-r.Context().Done():
			return
		}
	}
}

// notify sends a notification on every open subscription stream.
func (s *stub) notify(method, members string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for events, id := range s.streams {
		events <- fmt.Sprintf(`{"jsonrpc":"2.0","method":%q,"params":{"_meta":{"io.modelcontextprotocol/subscriptionId":%s}%s}}`, method,
			id, members)
	}
}

// listening returns the number of open subscription streams.
func (s *stub) listening() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.streams)
}

// last returns the last request of that method.
func (s *stub) last(method string) stubVisit {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range slices.Backward(s.visits) {
		if v.Method == method {
			return v
		}
	}
	s.t.Fatalf("no %s came", method)
	return stubVisit{}
}

// has returns a member of a result.
func has(t *testing.T, raw json.RawMessage, name string) string {
	t.Helper()
	fields, err := jsonrpc.Fields(raw, name)
	if err != nil {
		t.Errorf("%s: %v", raw, err)
		return ""
	}
	return string(fields[0])
}
