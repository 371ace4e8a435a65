package gateway

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/mcphub-go/mcphub/pkg/budget"
	"github.com/mcphub-go/mcphub/pkg/catalog"
	"github.com/mcphub-go/mcphub/pkg/hubtest"
	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/persist"
	"github.com/mcphub-go/mcphub/pkg/session"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

// patience is the time for which a test waits for an expected message.
const patience = 10 * time.Second

// The limits that clients observe, of the packages routing and stream.
const (
	awaitTimeout      = 5 * time.Second  // of a request that waits for servers that are starting
	writeTimeout      = 30 * time.Second // of a write to a client that does not read
	maxQueuedMessages = 4096             // on one stream
)

// setup is the configuration of the hub of a test.
type setup struct {
	specs    []upstream.Spec
	naming   catalog.Naming
	untraced bool          // do not change _meta, so that bytes can be compared
	quiet    bool          // log nothing; for tests with very many requests
	store    persist.Store // default: in memory
	memory   int64         // bytes of the budget; default: more than any test needs
	gateway  func(*Config)
	sessions func(*session.Config)
	upstream func(*upstream.Config)
}

// rig is a complete hub without configuration file and admin API.
type rig struct {
	t        *testing.T
	store    persist.Store
	sessions *session.Manager
	pool     *upstream.Pool
	catalog  *catalog.Catalog
	gateway  *Gateway
	registry *prometheus.Registry
	memory   *budget.Budget
	history  *budget.Budget // of written messages
	spans    *tracetest.SpanRecorder
	logs     *hubtest.Buffer
	client   *http.Client
	server   *httptest.Server
	url      string

	stopWorkers context.CancelFunc
	manager     sync.WaitGroup
	servers     sync.WaitGroup
	stopped     sync.Once
}

// build makes a hub without starting it.
func build(t *testing.T, s setup) *rig {
	r := &rig{t: t, store: s.store, registry: prometheus.NewPedanticRegistry(), spans: tracetest.NewSpanRecorder(), logs: &hubtest.Buffer{}}
	r.memory, r.history = budget.New(cmp.Or(s.memory, 1<<40)), budget.New(cmp.Or(s.memory, 1<<40))
	if r.store == nil {
		r.store = &persist.Memory{}
	}
	if s.naming == "" {
		s.naming = catalog.Prefix
	}
	log := slog.New(slog.NewJSONHandler(r.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	if s.quiet {
		log = slog.New(slog.DiscardHandler)
	}
	tracing := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(r.spans))
	propagator := propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{})
	uc := upstream.Config{Logger: log, TracerProvider: tracing, Propagator: propagator, Registerer: r.registry,
		Memory: r.memory}
	gc := Config{Memory: r.memory, History: r.history, Version: "test", Logger: log, TracerProvider: tracing,
		Propagator: propagator, Registerer: r.registry}
	if s.untraced {
		uc.TracerProvider, uc.Propagator, gc.TracerProvider, gc.Propagator = nil, nil, nil, nil
	}
	var names []string
	for _, spec := range s.specs {
		names = append(names, spec.Name)
	}
	r.catalog = catalog.New(s.naming, names)
	uc.Identity = upstream.Identity{ClientInfo: json.RawMessage(`{"name":"mcphub","version":"test"}`), Capabilities: json.RawMessage(`{}`)}
	uc.OnInventory = func(server string, inv upstream.Inventory) {
		r.gateway.ListChanged(r.catalog.Replace(server, catalog.Inventory{Tools: inv.Tools, Prompts: inv.Prompts,
			Resources: inv.Resources, Templates: inv.Templates, Hints: [4]catalog.Hint{
				catalog.Tools: catalog.Hint(inv.Hints.Tools), catalog.Prompts: catalog.Hint(inv.Hints.Prompts),
				catalog.Resources: catalog.Hint(inv.Hints.Resources), catalog.Templates: catalog.Hint(inv.Hints.Templates)}}))
	}
	uc.OnConnected = func(server string) { r.gateway.ServerConnected(server) }
	uc.OnNotification = func(server string, m jsonrpc.Message) { r.gateway.ServerNotification(server, m) }
	uc.Watched = func() bool { return r.sessions.HasTails() }
	uc.OnMessage = func(ctx context.Context, p instrument.MessageEvent) { r.gateway.PassMessage(ctx, p) }
	if s.upstream != nil {
		s.upstream(&uc)
	}
	r.pool = upstream.NewPool(s.specs, uc)
	sc := session.Config{FlushInterval: 20 * time.Millisecond, Logger: log, TracerProvider: tracing, Registerer: r.registry,
		Open: func(ctx context.Context, s session.Session) (session.Live, error) { return r.gateway.Open(ctx, s) }}
	if s.sessions != nil {
		s.sessions(&sc)
	}
	r.sessions = session.New(r.store, sc)
	gc.Sessions, gc.Pool, gc.Catalog = r.sessions, r.pool, r.catalog
	if s.gateway != nil {
		s.gateway(&gc)
	}
	r.gateway = New(gc)
	return r
}

// start builds a hub and runs it until the test ends.
func start(t *testing.T, s setup) *rig {
	t.Helper()
	r := build(t, s)
	if err := r.sessions.Restore(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.run()
	r.client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	r.server = httptest.NewServer(Guard{}.Handler(r.gateway))
	r.url = r.server.URL
	t.Cleanup(r.stop)
	if !r.pool.WaitAttempted(t.Context()) {
		t.Fatal("the servers neither connected nor failed")
	}
	return r
}

func (r *rig) run() {
	ctx, stop := context.WithCancel(context.Background())
	r.stopWorkers = stop
	r.manager.Go(func() { _ = r.sessions.Run(ctx) })
	r.servers.Go(func() { _ = r.pool.Run(ctx) })
}

// stop shuts the hub down in the same order as the program.
func (r *rig) stop() {
	r.stopped.Do(func() {
		r.gateway.Drain()
		r.stopWorkers()
		r.manager.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := r.sessions.Close(ctx); err != nil {
			r.t.Errorf("closing the sessions: %v", err)
		}
		if r.server != nil {
			r.server.Close()
			r.client.CloseIdleConnections()
		}
		if err := r.gateway.Wait(ctx); err != nil {
			r.t.Errorf("calls did not end: %v", err)
		}
		r.servers.Wait()
		if err := r.store.Close(); err != nil {
			r.t.Errorf("closing the store: %v", err)
		}
		if r.memory.Used() != 0 || r.history.Used() != 0 {
			r.t.Errorf("%d and %d bytes of memory were not given back", r.memory.Used(), r.history.Used())
		}
	})
}

// stored returns the keys in the store.
func (r *rig) stored() []string {
	r.t.Helper()
	var keys []string
	for key, err := range r.store.Keys(context.Background()) {
		if err != nil {
			r.t.Fatal(err)
		}
		keys = append(keys, key)
	}
	return keys
}

// do sends one HTTP request. Headers are written "Name: value"; a value
// replaces the default, and an empty one removes it.
func (r *rig) do(ctx context.Context, method, body string, headers ...string) *http.Response {
	r.t.Helper()
	request, err := http.NewRequestWithContext(ctx, method, r.url, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	if method == http.MethodPost {
		request.Header.Set("Content-Type", "application/json")
		request.Header.Set("Accept", "application/json, text/event-stream")
	}
	if method == http.MethodGet {
		request.Header.Set("Accept", "text/event-stream")
	}
	seen := map[string]bool{}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		switch {
		case name == "Host":
			request.Host = value
		case value == "":
			request.Header.Del(name)
		case seen[name]:
			request.Header.Add(name, value)
		default:
			request.Header.Set(name, value)
		}
		seen[name] = true
	}
	response, err := r.client.Do(request)
	if err != nil {
		r.t.Errorf("%s: %v", method, err)
		return &http.Response{Body: http.NoBody, Header: http.Header{}}
	}
	return response
}

// reply is a whole HTTP response.
type reply struct {
	status   int
	header   http.Header
	body     string
	events   []jsonrpc.Message // if it was a stream
	ids      []string          // of the events
	primed   string            // the id of the event that began it
	comments []string
}

func (r *rig) send(method, body string, headers ...string) reply {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	return r.read(r.do(ctx, method, body, headers...))
}

func (r *rig) read(response *http.Response) reply {
	r.t.Helper()
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		r.t.Errorf("reading the response: %v", err)
	}
	p := reply{status: response.StatusCode, header: response.Header, body: string(body)}
	if response.Header.Get("Content-Type") == "text/event-stream" {
		for block := range strings.SplitSeq(p.body, "\n\n") {
			if comment, ok := strings.CutPrefix(block, ": "); ok {
				p.comments = append(p.comments, comment)
			} else if id := primes(block); id != "" {
				p.primed = id
			} else if block != "" {
				m, id := parseEvent(r.t, block)
				p.events, p.ids = append(p.events, m), append(p.ids, id)
			}
		}
	}
	return p
}

// primes returns the id of an event without a message.
func primes(block string) string {
	id, ok := strings.CutSuffix(strings.TrimSpace(block), "\nretry: 1000\ndata:")
	if id, ok2 := strings.CutPrefix(id, "id: "); ok && ok2 {
		return id
	}
	return ""
}

func parseEvent(t *testing.T, block string) (jsonrpc.Message, string) {
	id := ""
	if rest, ok := strings.CutPrefix(block, "id: "); ok {
		id, block, _ = strings.Cut(rest, "\n")
	}
	data, ok := strings.CutPrefix(block, "event: message\ndata: ")
	if !ok {
		t.Errorf("not an event: %q", block)
	}
	m, err := jsonrpc.Parse([]byte(data))
	if err != nil {
		t.Errorf("event %q: %v", data, err)
	}
	return m, id
}

// response returns the JSON-RPC response in p.
func (p reply) response(t *testing.T) jsonrpc.Message {
	t.Helper()
	if len(p.events) > 0 {
		return p.events[len(p.events)-1]
	}
	m, err := jsonrpc.Parse([]byte(p.body))
	if err != nil || m.Kind() != jsonrpc.Response {
		t.Errorf("not a response: %d %q: %v", p.status, p.body, err)
	}
	return m
}

// rpcError returns the JSON-RPC error in p.
func (p reply) rpcError(t *testing.T) *jsonrpc.Error {
	t.Helper()
	m := p.response(t)
	if m.Error == nil {
		t.Errorf("not an error: %q", p.body)
		return &jsonrpc.Error{}
	}
	return jsonrpc.ParseError(m.Error)
}

const initializeBody = `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25",` +
	`"capabilities":{"elicitation":{},"sampling":{}},"clientInfo":{"name":"probe","version":"1"}}}`

// peer is a client with a session.
type peer struct {
	*rig
	token string
	id    string // the public part of the token
	user  string // the X-User header; empty: none
}

// connect creates a session.
func (r *rig) connect(headers ...string) *peer {
	r.t.Helper()
	return r.connectWith(initializeBody, headers...)
}

// restored returns the client of a session that was there before the hub started, so that no initialize has waited for
// servers.
func (r *rig) restored() *peer {
	r.t.Helper()
	s, token, err := r.sessions.Create(r.t.Context(), session.Session{ProtocolVersion: "2025-11-25"})
	if err != nil {
		r.t.Fatal(err)
	}
	return &peer{rig: r, token: token, id: s.ID}
}

// connectWith creates a session with that initialize request.
func (r *rig) connectWith(initialize string, headers ...string) *peer {
	r.t.Helper()
	p := r.send(http.MethodPost, initialize, headers...)
	token := p.header.Get("Mcp-Session-Id")
	if p.status != http.StatusOK || token == "" {
		r.t.Fatalf("initialize: %d %s", p.status, p.body)
	}
	id, _, _ := strings.Cut(token, ".")
	c := &peer{rig: r, token: token, id: id}
	for _, h := range headers {
		if strings.HasPrefix(h, "X-User: ") {
			c.user = h
		}
	}
	if p := c.post(`{"jsonrpc":"2.0","method":"notifications/initialized"}`); p.status != http.StatusAccepted {
		r.t.Fatalf("initialized: %d %s", p.status, p.body)
	}
	return c
}

// post sends a message within the session.
func (c *peer) post(body string, headers ...string) reply {
	c.t.Helper()
	return c.send(http.MethodPost, body, append([]string{"Mcp-Session-Id: " + c.token, cmp.Or(c.user, "X-User: none")}, headers...)...)
}

// call sends a request with the raw id and params.
func (c *peer) call(id, method, params string) reply {
	c.t.Helper()
	return c.post(request(id, method, params))
}

func request(id, method, params string) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"method":%q,"params":%s}`, id, method, params)
}

// tool calls a tool and returns its raw result.
func (c *peer) tool(name, arguments string) json.RawMessage {
	c.t.Helper()
	p := c.call(`"tool"`, "tools/call", fmt.Sprintf(`{"name":%q,"arguments":%s}`, name, arguments))
	m := p.response(c.t)
	if m.Error != nil {
		c.t.Errorf("%s: %s", name, m.Error)
	}
	return m.Result
}

// state returns the state of the child process called server.
func (c *peer) state(server string) childState {
	c.t.Helper()
	var v struct{ State childState }
	if err := json.Unmarshal(c.tool(server+"__state", `{}`), &v); err != nil {
		c.t.Fatal(err)
	}
	return v.State
}

// event is a message or a comment on a stream.
type event struct {
	jsonrpc.Message
	comment string
	id      string
}

// reader reads a stream while it is open.
type reader struct {
	t      *testing.T
	events chan event  // closed at the end of the stream
	primed chan string // the id of the event that began it
	last   string      // id of the last event that was read
	cancel context.CancelFunc
}

// open sends a request and reads the stream of its response in the background.
func (c *peer) open(method, body string, headers ...string) *reader {
	c.t.Helper()
	ctx, cancel := context.WithCancel(c.t.Context())
	headers = append([]string{"Mcp-Session-Id: " + c.token}, headers...)
	if c.user != "" {
		headers = append(headers, c.user)
	}
	response := c.do(ctx, method, body, headers...)
	if response.StatusCode != http.StatusOK || response.Header.Get("Content-Type") != "text/event-stream" {
		c.t.Errorf("not a stream: %d %s", response.StatusCode, response.Header.Get("Content-Type"))
	}
	s := &reader{t: c.t, events: make(chan event, 1024), primed: make(chan string, 1), cancel: cancel}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(s.events)
		defer func() { _ = response.Body.Close() }()
		lines := bufio.NewReader(response.Body)
		block := ""
		for {
			line, err := lines.ReadString('\n')
			if err != nil {
				return
			}
			if block += line; line != "\n" {
				continue
			}
			if comment, ok := strings.CutPrefix(block, ": "); ok {
				s.events <- event{comment: strings.TrimSpace(comment)}
			} else if retry, ok := strings.CutPrefix(block, "retry: "); ok {
				s.events <- event{comment: "retry " + strings.TrimSpace(retry)}
			} else if id := primes(block); id != "" {
				s.primed <- id
			} else {
				m, id := parseEvent(c.t, strings.TrimSpace(block))
				s.events <- event{Message: m, id: id}
			}
			block = ""
		}
	}()
	c.t.Cleanup(func() {
		cancel()
		<-done
	})
	return s
}

// listen opens a GET stream and waits until it has begun.
func (c *peer) listen() *reader {
	c.t.Helper()
	s := c.open(http.MethodGet, "")
	if e, ok := s.next(); !ok || e.comment == "" {
		c.t.Errorf("the stream does not begin with a comment: %+v", e)
	}
	return s
}

// next returns the next message or comment. It reports false at the end of the stream.
func (s *reader) next() (event, bool) {
	s.t.Helper()
	select {
	case e, ok := <-s.events:
		return e, ok
	case <-time.After(patience):
		s.t.Fatal("nothing came on the stream")
		return event{}, false
	}
}

// message returns the next message on the stream.
func (s *reader) message() jsonrpc.Message {
	s.t.Helper()
	for {
		e, ok := s.next()
		if !ok {
			s.t.Fatal("the stream has ended")
		}
		if e.comment == "" {
			s.last = cmp.Or(e.id, s.last)
			return e.Message
		}
	}
}

// waitForEnd waits for the end of the stream.
func (s *reader) waitForEnd() {
	s.t.Helper()
	for {
		if _, ok := s.next(); !ok {
			return
		}
	}
}

// events returns the events of the session, as "type detail".
func (c *peer) events() []string {
	var all []string
	for _, e := range c.sessions.Events(c.id) {
		all = append(all, strings.TrimSpace(string(e.Type)+" "+e.Detail))
	}
	return all
}

// respond answers a request of the hub and returns the HTTP status.
func (c *peer) respond(m jsonrpc.Message, member string) int {
	c.t.Helper()
	return c.post(fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,%s}`, m.ID, member)).status
}

// live returns the live half of the session.
func (c *peer) live() *clientSession {
	for _, cs := range c.gateway.legacy.all() {
		if cs.id == c.id {
			return cs
		}
	}
	return nil
}

// dropped returns the counter of dropped notifications.
func (r *rig) dropped(reason string) float64 {
	return r.metric("mcphub_notifications_dropped_total", "reason", reason)
}

// closed returns the counter of sessions that ended for a reason.
func (r *rig) closed(reason string) float64 {
	return r.metric("mcphub_sessions_closed_total", "reason", reason)
}

// metric sums the samples of a metric that have the labels, given as name and
// value in turn. Of a histogram it sums the counts.
func (r *rig) metric(name string, labels ...string) float64 {
	r.t.Helper()
	return sumOf(r.t, r.registry, name, labels...)
}

// sumOf sums the samples of a metric of a registry, see rig.metric.
func sumOf(t testing.TB, registry *prometheus.Registry, name string, labels ...string) float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			have := map[string]string{}
			for _, l := range m.GetLabel() {
				have[l.GetName()] = l.GetValue()
			}
			matches := true
			for i := 0; i < len(labels); i += 2 {
				matches = matches && have[labels[i]] == labels[i+1]
			}
			if matches {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return sum
}

// waitingRequests returns the number of requests that wait for a response of this client.
func (c *peer) waitingRequests() int {
	cs := c.live()
	if cs == nil {
		return 0
	}
	return cs.waitingRequests()
}

func (cs *clientSession) waitingRequests() int {
	cs.requests.mu.Lock()
	defer cs.requests.mu.Unlock()
	return len(cs.requests.waiting)
}

// conserved checks that every request of a client that was not cancelled has
// its response in the counters, and that none is in flight.
func (r *rig) conserved(cancelled float64) {
	r.t.Helper()
	hubtest.Eventually(r.t, "no request of a client is in flight", func() bool {
		return r.metric("mcphub_requests_in_flight", "hop", "downstream", "direction", "in") == 0
	})
	count := func(direction, kind string) float64 {
		return r.metric("mcphub_messages_total", "hop", "downstream", "direction", direction, "kind", kind)
	}
	var in, out float64
	hubtest.Eventually(r.t, "each request has its response", func() bool {
		in, out = count("in", "request"), count("out", "response")+count("out", "error")
		return in == out+cancelled
	})
}
