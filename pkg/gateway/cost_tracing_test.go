package gateway

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/mcphub-go/mcphub/pkg/catalog"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/persist"
	"github.com/mcphub-go/mcphub/pkg/protocol"
	"github.com/mcphub-go/mcphub/pkg/session"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

// tracing is a way to trace calls, and the limit of the allocations that it adds to a proxied call.
type tracing struct {
	name    string
	sampler sdktrace.Sampler // nil: off
	header  string           // traceparent of the client in the HTTP header
	meta    string           // traceparent of the client in _meta
	limit   float64
}

const (
	sampledParent   = "00-" + callerTrace + "-" + callerSpan + "-01"
	unsampledParent = "00-" + callerTrace + "-" + callerSpan + "-00"
)

// tracings returns all ways to trace. The first is without tracing, the default of a hub without an export endpoint.
func tracings() []tracing {
	byParent := sdktrace.ParentBased(sdktrace.AlwaysSample())
	return []tracing{
		{name: "off"},
		{name: "unsampled", sampler: sdktrace.NeverSample(), limit: 16},
		{name: "unsampled-by-header", sampler: byParent, header: unsampledParent, limit: 16},
		{name: "unsampled-by-meta", sampler: byParent, meta: unsampledParent, limit: 16},
		{name: "sampled", sampler: sdktrace.AlwaysSample(), limit: 32},
		{name: "sampled-by-header", sampler: byParent, header: sampledParent, limit: 32},
		{name: "sampled-by-meta", sampler: byParent, meta: sampledParent, limit: 32},
	}
}

// costHub is a hub that is called in process, so that the measured allocations are its own.
type costHub struct {
	gateway *Gateway
	header  http.Header
	body    string
}

// discarded is a span exporter and an HTTP response that drop their data.
type discarded struct{ header http.Header }

func (discarded) ExportSpans(context.Context, []sdktrace.ReadOnlySpan) error { return nil }
func (discarded) Shutdown(context.Context) error                             { return nil }

func (d discarded) Header() http.Header       { return d.header }
func (discarded) Write(p []byte) (int, error) { return len(p), nil }
func (discarded) WriteHeader(int)             {}

// newCostHub runs a hub with one server, a session and the request of a call.
func newCostHub(t testing.TB, spec upstream.Spec, how tracing) *costHub {
	registry := prometheus.NewRegistry()
	uc := upstream.Config{Registerer: registry, Logger: slog.New(slog.DiscardHandler)}
	gc := Config{Registerer: registry, Logger: uc.Logger, Patience: time.Hour} // a stream could not be flushed
	if how.sampler != nil {
		tp := sdktrace.NewTracerProvider(sdktrace.WithBatcher(discarded{}), sdktrace.WithSampler(how.sampler))
		t.Cleanup(func() { _ = tp.Shutdown(context.Background()) })
		uc.TracerProvider, gc.TracerProvider = tp, tp
		uc.Propagator = propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{})
		gc.Propagator = uc.Propagator
	}
	h := &costHub{}
	all := catalog.New(catalog.Prefix, []string{spec.Name})
	uc.Identity = upstream.Identity{ClientInfo: json.RawMessage(`{"name":"mcphub","version":"test"}`), Capabilities: json.RawMessage(`{}`)}
	uc.OnInventory = func(server string, inv upstream.Inventory) {
		h.gateway.ListChanged(all.Replace(server, catalog.Inventory{Tools: inv.Tools}))
	}
	uc.OnNotification = func(server string, m jsonrpc.Message) { h.gateway.ServerNotification(server, m) }
	gc.Pool, gc.Catalog = upstream.NewPool([]upstream.Spec{spec}, uc), all
	gc.Sessions = session.New(&persist.Memory{}, session.Config{Registerer: registry, Logger: uc.Logger, TracerProvider: gc.TracerProvider,
		Open: func(ctx context.Context, s session.Session) (session.Live, error) { return h.gateway.Open(ctx, s) }})
	h.gateway = New(gc)
	h.run(t)
	h.enter(t)
	tool := "echo"
	if spec.URL != "" {
		tool = "say" // of the parrot
	}
	params := `{"name":"` + spec.Name + `__` + tool + `","arguments":{"say":"how much is it","n":[1,2,3]}`
	if how.header != "" {
		h.header["Traceparent"] = []string{how.header}
	}
	if how.meta != "" {
		params += `,"_meta":{"traceparent":"` + how.meta + `"}`
	}
	h.body = request("7", "tools/call", params+"}")
	return h
}

// run runs the hub until the test ends.
func (h *costHub) run(t testing.TB) {
	cfg := h.gateway.cfg
	if err := cfg.Sessions.Restore(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var workers sync.WaitGroup
	workers.Go(func() { _ = cfg.Sessions.Run(ctx) })
	workers.Go(func() { _ = cfg.Pool.Run(ctx) })
	t.Cleanup(func() {
		h.gateway.Drain()
		stop()
		if err := cfg.Sessions.Close(context.Background()); err != nil {
			t.Error(err)
		}
		if err := h.gateway.Wait(context.Background()); err != nil {
			t.Error(err)
		}
		workers.Wait()
	})
	if !cfg.Pool.WaitAttempted(t.Context()) {
		t.Fatal("the server neither connected nor failed")
	}
}

// enter creates the session that all calls use.
func (h *costHub) enter(t testing.TB) {
	h.header = http.Header{"Content-Type": {protocol.TypeJSON}, "Accept": {protocol.TypeJSON + ", " + protocol.TypeEventStream}}
	response := http.Header{}
	h.post(response, initializeBody)
	if response.Get(protocol.HeaderSessionID) == "" {
		t.Fatal("there is no session")
	}
	h.header[protocol.HeaderSessionID] = response[protocol.HeaderSessionID]
	h.post(http.Header{}, `{"jsonrpc":"2.0","method":"notifications/initialized"}`)
}

func (h *costHub) post(response http.Header, body string) {
	r, _ := http.NewRequestWithContext(context.Background(), http.MethodPost, "http://127.0.0.1/mcp", strings.NewReader(body))
	r.Header, r.RemoteAddr = h.header, "127.0.0.1:40000"
	h.gateway.ServeHTTP(discarded{response}, r)
}

// call makes n calls, one after the other.
func (h *costHub) call(n int) {
	response := http.Header{}
	for range n {
		h.post(response, h.body)
	}
}

// allocations returns the allocations of one call, averaged over n calls.
func (h *costHub) allocations(t testing.TB, n int) float64 {
	var before, after runtime.MemStats
	done := h.answered(t)
	runtime.ReadMemStats(&before)
	h.call(n)
	runtime.ReadMemStats(&after)
	if done = h.answered(t) - done; done != float64(n) {
		t.Fatalf("%v of %d calls were answered", done, n)
	}
	return float64(after.Mallocs-before.Mallocs) / float64(n)
}

// costServers returns the servers of the measured calls.
func costServers(t testing.TB) []upstream.Spec {
	return []upstream.Spec{stdio(t, "child"), {Name: "http", URL: parrotElsewhere(t)}}
}

// webParrotName is the name of the child process that is a parrot over HTTP.
const webParrotName = "webparrot"

// parrotElsewhere starts a parrot over HTTP in a process of its own, so that its allocations are not counted as the
// hub's.
func parrotElsewhere(t testing.TB) (url string) {
	child := exec.Command(stdio(t, "").Command)
	child.Env = []string{childVariable + "=" + webParrotName, "GORACE=atexit_sleep_ms=0"}
	stdin, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		child.Wait()
	})
	if url, err = bufio.NewReader(stdout).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(url)
}

// serveWebParrot serves a parrot over HTTP, writes its URL to out, and ends when in ends.
func serveWebParrot(in io.Reader, out io.Writer) {
	server := httptest.NewServer(newParrot(false))
	defer server.Close()
	fmt.Fprintln(out, server.URL)
	_, _ = io.Copy(io.Discard, in)
	server.CloseClientConnections()
}

// answered returns the number of calls that the server has answered with a result.
func (h *costHub) answered(t testing.TB) (n float64) {
	families, err := h.gateway.cfg.Registerer.(*prometheus.Registry).Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "mcphub_operations_total" && m.GetLabel()[0].GetValue() == "none" &&
				m.GetLabel()[1].GetValue() == "tools/call" {
				n += m.GetCounter().GetValue()
			}
		}
	}
	return n
}

// BenchmarkProxiedCall makes one tool call through the hub, without the HTTP of the client, for each way to trace it.
func BenchmarkProxiedCall(b *testing.B) {
	for _, spec := range costServers(b) {
		for _, how := range tracings() {
			b.Run(spec.Name+"/"+how.name, func(b *testing.B) {
				h := newCostHub(b, spec, how)
				h.call(100)
				b.ReportAllocs()
				for b.Loop() {
					h.call(1)
				}
			})
		}
	}
}
