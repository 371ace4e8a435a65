package upstream

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
)

// TestMain is also the main function of the child processes of the tests.
func TestMain(m *testing.M) {
	if mode := os.Getenv("CHILD_MODE"); mode != "" {
		childMain(mode)
		return
	}
	flag.Parse()
	_ = flag.Set("test.parallel", "16") // most tests wait most of the time
	goleak.VerifyTestMain(m)
}

// patience is how long a test waits for an event.
const patience = 20 * time.Second

// wait waits until ch is closed or receives.
func wait[T any](t testing.TB, what string, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(patience):
		t.Fatalf("did not happen: %s", what)
		panic("unreachable")
	}
}

// within fails the test if fn takes longer than limit.
func within(t testing.TB, limit time.Duration, what string, fn func()) {
	t.Helper()
	start := time.Now()
	fn()
	if took := time.Since(start); took > limit {
		t.Errorf("%s took %s, want at most %s", what, took, limit)
	}
}

// recorder is a Sink that keeps all messages.
type recorder struct {
	answer func(context.Context, jsonrpc.Message) (json.RawMessage, error) // nil: {}

	mu   sync.Mutex
	got  []jsonrpc.Message
	asks []jsonrpc.Message
}

func (r *recorder) Notify(m jsonrpc.Message) {
	m.Params = bytes.Clone(m.Params)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got = append(r.got, m)
}

func (r *recorder) Ask(ctx context.Context, m jsonrpc.Message) (json.RawMessage, error) {
	r.mu.Lock()
	r.asks = append(r.asks, m)
	r.mu.Unlock()
	if r.answer == nil {
		return json.RawMessage(`{}`), nil
	}
	return r.answer(ctx, m)
}

func (r *recorder) notifications() []jsonrpc.Message {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.got)
}

func (r *recorder) serverRequests() []jsonrpc.Message {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.asks)
}

// logbook is a slog.Handler that keeps what is logged.
type logbook struct {
	attrs []slog.Attr
	*logbookLines
}

type logbookLines struct {
	mu      sync.Mutex
	records []slog.Record
}

func newLogbook() logbook { return logbook{logbookLines: &logbookLines{}} }

func (l logbook) Enabled(context.Context, slog.Level) bool { return true }
func (l logbook) WithGroup(string) slog.Handler            { return l }
func (l logbook) WithAttrs(attrs []slog.Attr) slog.Handler {
	l.attrs = append(slices.Clip(l.attrs), attrs...)
	return l
}

func (l logbook) Handle(_ context.Context, r slog.Record) error {
	r = r.Clone()
	r.AddAttrs(l.attrs...)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.records = append(l.records, r)
	return nil
}

// attr returns the values of an attribute of all records with that message.
func (l logbook) attr(message, key string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var values []string
	for _, r := range l.records {
		r.Attrs(func(a slog.Attr) bool {
			if r.Message == message && a.Key == key {
				values = append(values, a.Value.String())
			}
			return true
		})
	}
	return values
}

// text returns everything that was logged.
func (l logbook) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var b strings.Builder
	for _, r := range l.records {
		fmt.Fprintf(&b, "%s %s", r.Level, r.Message)
		r.Attrs(func(a slog.Attr) bool {
			fmt.Fprintf(&b, " %s=%s", a.Key, a.Value)
			return true
		})
		b.WriteByte('\n')
	}
	return b.String()
}

var hub = Identity{ClientInfo: json.RawMessage(`{"name":"hub","version":"1"}`), Capabilities: json.RawMessage(`{}`)}

// env is a server without supervision, to which tests connect.
type env struct {
	*Server
	*dialer
	reg *prometheus.Registry
	log logbook
}

func newEnv(t testing.TB, spec Spec, configure ...func(*Config)) env {
	t.Helper()
	e := env{reg: prometheus.NewRegistry(), log: newLogbook()}
	cfg := Config{Identity: hub, Registerer: e.reg, Logger: slog.New(e.log)}
	for _, c := range configure {
		c(&cfg)
	}
	e.Server = newServer(spec, cfg, newTelemetry(cfg), nil, nil)
	e.dialer = e.Server.dialer
	if e.clients != nil {
		t.Cleanup(e.closeIdle)
	}
	return e
}

// openFor makes a connection in the era of the spec.
func (e env) openFor(ctx context.Context, sink Sink, who Identity, resume ServerSession) (*Conn, error) {
	return e.dial(ctx, dialConfig{sink: sink, shared: e.spec.isolation() == Shared,
		negotiation: negotiation{identity: who, resume: resume, era: e.spec.Era}})
}

// connect makes a connection and closes it with the test.
func (e env) connect(t testing.TB, sink Sink) *Conn {
	t.Helper()
	if sink == nil {
		sink = &recorder{}
	}
	c, err := e.openFor(t.Context(), sink, hub, ServerSession{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.close(true) })
	return c
}

// receive has c take a message that belongs to no call.
func receive(c *Conn, m jsonrpc.Message) { inbound{c}.Receive("", m) }

// modernOf returns the dialect of a connection to a modern server.
func modernOf(c *Conn) *modernDialect { return c.dialect().(*modernDialect) }

// isModern reports whether c is a connection to a modern server.
func isModern(c *Conn) bool { return c.dialect().era() == protocol.Modern }

// running is a Pool that runs until the test ends.
type running struct {
	*Pool
	reg  *prometheus.Registry
	log  logbook
	stop func() // and wait
}

func run(t testing.TB, specs []Spec, configure ...func(*Config)) running {
	t.Helper()
	r := running{reg: prometheus.NewRegistry(), log: newLogbook()}
	cfg := Config{Identity: hub, Registerer: r.reg, Logger: slog.New(r.log)}
	for _, c := range configure {
		c(&cfg)
	}
	r.Pool = NewPool(specs, cfg)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = r.Run(ctx)
	}()
	r.stop = sync.OnceFunc(func() {
		cancel()
		<-done
		for _, s := range r.Servers() { // tests close their links after the pool
			s.dialer.closeIdle()
		}
	})
	t.Cleanup(r.stop)
	return r
}

// settled waits until all servers are up or down.
func (r running) settled(t testing.TB) running {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if !r.WaitAttempted(ctx) {
		t.Fatal("the servers did not settle")
	}
	return r
}

// link makes a Link that is closed before the pool stops.
func (r running) link(t testing.TB, server string, cfg LinkConfig) *Link {
	t.Helper()
	if cfg.Sink == nil {
		cfg.Sink = &recorder{}
	}
	if cfg.Identity.ClientInfo == nil {
		cfg.Identity = Identity{ClientInfo: json.RawMessage(`{"name":"client","version":"1"}`), Capabilities: json.RawMessage(`{"roots":{}}`)}
	}
	l := r.Server(server).Link(cfg)
	t.Cleanup(func() { l.Close(true) })
	return l
}

// caller is a Conn or a Link.
type caller interface {
	Call(ctx context.Context, req Request) (jsonrpc.Message, error)
}

// tool calls a tool and returns its response; arguments is a JSON object.
func tool(t testing.TB, c caller, name, arguments string) jsonrpc.Message {
	t.Helper()
	m, err := c.Call(t.Context(), toolCall(name, arguments))
	if err != nil {
		t.Fatalf("tool %s: %v", name, err)
	}
	return m
}

func toolCall(name, arguments string) Request {
	if arguments == "" {
		arguments = "{}"
	}
	return Request{Method: "tools/call", Target: name,
		Params: json.RawMessage(fmt.Sprintf(`{"name":%q,"arguments":%s}`, name, arguments))}
}

// field returns a member of a JSON object.
func field(t testing.TB, obj json.RawMessage, name string) json.RawMessage {
	t.Helper()
	fields, err := jsonrpc.Fields(obj, name)
	if err != nil {
		t.Fatalf("%s in %s: %v", name, obj, err)
	}
	return fields[0]
}

func fieldInt(t testing.TB, obj json.RawMessage, name string) int {
	t.Helper()
	var n int
	if err := json.Unmarshal(field(t, obj, name), &n); err != nil {
		t.Fatalf("%s in %s: %v", name, obj, err)
	}
	return n
}

func fieldStrings(t testing.TB, obj json.RawMessage, name string) []string {
	t.Helper()
	var s []string
	if err := json.Unmarshal(field(t, obj, name), &s); err != nil {
		t.Fatalf("%s in %s: %v", name, obj, err)
	}
	return s
}
