package admin_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/mcphub-go/mcphub/pkg/admin"
	"github.com/mcphub-go/mcphub/pkg/gateway"
	"github.com/mcphub-go/mcphub/pkg/hubtest"
	"github.com/mcphub-go/mcphub/pkg/persist"
	"github.com/mcphub-go/mcphub/pkg/session"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

// rig is the admin listener of a hub with one server that is up and one that is
// down. It checks hosts and origins as cmd/mcphub does.
type rig struct {
	t        *testing.T
	store    *watched
	sessions *session.Manager
	pool     *upstream.Pool
	server   *httptest.Server
	client   *http.Client
	logs     hubtest.Buffer
	registry *prometheus.Registry

	mu    sync.Mutex
	ready error
}

// watched is a store that records the keys of all reads and writes.
type watched struct {
	persist.Memory
	mu      sync.Mutex
	touched []string
}

func (w *watched) Get(ctx context.Context, key string) ([]byte, bool, error) {
	w.note(key)
	return w.Memory.Get(ctx, key)
}

func (w *watched) Apply(ctx context.Context, changes []persist.Change) error {
	for _, c := range changes {
		w.note(c.Key)
	}
	return w.Memory.Apply(ctx, changes)
}

func (w *watched) note(key string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.touched = append(w.touched, key)
}

func (w *watched) keys() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.touched
}

// patience is how long a test waits for something that must happen.
const patience = 10 * time.Second

const payload = `<script>alert(1)</script>"'><img src=x onerror=alert(2)>`

func start(t *testing.T) *rig {
	t.Helper()
	return startWith(t, func(*admin.Config) {})
}

// startWith is start with a configuration that change has changed.
func startWith(t *testing.T, change func(*admin.Config)) *rig {
	t.Helper()
	r := &rig{t: t, store: &watched{}, registry: prometheus.NewPedanticRegistry(), client: &http.Client{Transport: &http.Transport{},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
	log := slog.New(slog.NewJSONHandler(&r.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	web := server.NewMCPServer(payload, payload)
	web.AddTool(mcp.NewTool("tool"), func(context.Context, mcp.CallToolRequest) (*mcp.CallToolResult, error) { return nil, nil })
	inner := server.NewStreamableHTTPServer(web, server.WithStateful(true))
	up := httptest.NewServer(inner)
	r.pool = upstream.NewPool([]upstream.Spec{
		{Name: "up", URL: up.URL + "/?key=canary", Headers: map[string]string{"Authorization": "Bearer canary"}},
		{Name: "down", Command: "/nonexistent/" + payload, Args: []string{"canary"}, Env: []string{"TOKEN=canary"}},
	}, upstream.Config{Identity: upstream.Identity{ClientInfo: json.RawMessage(`{"name":"mcphub","version":"test"}`),
		Capabilities: json.RawMessage(`{}`)}})
	r.sessions = session.New(r.store, session.Config{})
	cfg := admin.Config{
		Sessions: r.sessions, Pool: r.pool, Version: "v1", Endpoint: "http://127.0.0.1:1/mcp", Logger: log, Ready: r.isReady,
		Registerer: r.registry,
		Metrics:    http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "metrics 1\n") }),
	}
	change(&cfg)
	r.server = httptest.NewServer(gateway.Guard{}.Handler(admin.New(cfg)))
	ctx, stop := context.WithCancel(context.Background())
	var workers sync.WaitGroup
	workers.Go(func() { _ = r.sessions.Run(ctx) })
	workers.Go(func() { _ = r.pool.Run(ctx) })
	t.Cleanup(func() {
		r.server.Close()
		r.client.CloseIdleConnections()
		stop()
		workers.Wait()
		up.CloseClientConnections()
		up.Close()
		_ = inner.Shutdown(context.Background())
	})
	if !r.pool.WaitAttempted(t.Context()) {
		t.Fatal("the servers did not settle")
	}
	return r
}

// metric returns the value of the counter with this label value; -1 if there is none.
func (r *rig) metric(name, label string) float64 {
	r.t.Helper()
	families, err := r.registry.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			if family.GetName() == name && m.GetLabel()[0].GetValue() == label {
				return m.GetCounter().GetValue()
			}
		}
	}
	return -1
}

func (r *rig) isReady() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ready
}

func (r *rig) setReady(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ready = err
}

// session makes a session and returns it and its token.
func (r *rig) session(s session.Session) (session.Session, string) {
	r.t.Helper()
	s, token, err := r.sessions.Create(r.t.Context(), s)
	if err != nil {
		r.t.Fatal(err)
	}
	return s, token
}

// reply is a whole HTTP response.
type reply struct {
	status int
	header http.Header
	body   string
}

// do sends a request without a body. The path is sent as it is, not cleaned.
func (r *rig) do(method, path string, headers ...string) reply {
	r.t.Helper()
	return r.send(method, path, "", headers...)
}

// send is do with a body.
func (r *rig) send(method, path, body string, headers ...string) reply {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	response := r.open(ctx, method, path, body, headers...)
	defer func() { _ = response.Body.Close() }()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return reply{response.StatusCode, response.Header, string(answer)}
}

func (r *rig) open(ctx context.Context, method, path, body string, headers ...string) *http.Response {
	r.t.Helper()
	request, err := http.NewRequestWithContext(ctx, method, r.server.URL, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	request.URL.Opaque = path
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		if name == "Host" {
			request.Host = value
		}
		request.Header.Set(name, value)
	}
	response, err := r.client.Do(request)
	if err != nil {
		r.t.Fatal(err)
	}
	return response
}

// get sends a GET request and decodes the JSON of the answer.
func (r *rig) get(path string, into any) reply {
	r.t.Helper()
	p := r.do(http.MethodGet, path)
	if p.header.Get("Content-Type") != "application/json" {
		r.t.Errorf("%s is %q: %s", path, p.header.Get("Content-Type"), p.body)
	}
	if err := json.Unmarshal([]byte(p.body), into); err != nil {
		r.t.Errorf("%s: %v in %s", path, err, p.body)
	}
	return p
}
