package spans

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/test/peers"
)

// traced collects the spans of hubs, with the cases that caused them.
type traced struct {
	t         *testing.T
	collector *hubtest.Collector
	cases     []tracedCase
	names     map[string]string // by id, see forest
	servers   []*received
}

// tracedCase is a trace that a client began. The tree of a case without a name is
// not compared.
type tracedCase struct {
	group, name     string
	traceID, spanID string
}

func (c tracedCase) traceparent() string { return "00-" + c.traceID + "-" + c.spanID + "-01" }

func newTraced(t *testing.T) *traced {
	t.Helper()
	c := hubtest.StartCollector(t)
	t.Setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", c.URL+"/v1/traces")
	t.Setenv("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "gzip")
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
	t.Setenv("OTEL_BSP_MAX_QUEUE_SIZE", "20000")
	return &traced{t: t, collector: c, names: map[string]string{}}
}

// begin makes the context of a client's span, which is not exported.
func (r *traced) begin(group, name string) tracedCase {
	c := tracedCase{group, name, fmt.Sprintf("%016x%016x", rand.Uint64()|1, rand.Uint64()), fmt.Sprintf("%016x", rand.Uint64()|1)}
	r.cases = append(r.cases, c)
	r.names[c.spanID] = "the caller"
	return c
}

// by runs fn while the client's HTTP requests carry the context of a new trace.
func (r *traced) by(w *peers.Recorder, group, name string, fn func()) {
	w.SetTrace(r.begin(group, name).traceparent())
	fn()
	w.SetTrace(r.begin("", "").traceparent())
}

// finish stops the hubs, which export their last spans then. It compares the trees
// of each group of cases with the file of that name, and those that no client
// caused, each once, with the file own unless that is empty.
func (r *traced) finish(own string, hubs ...*hubtest.Hub) {
	r.t.Helper()
	for _, h := range hubs {
		if status := h.Terminate(15 * time.Second); status != 0 {
			r.t.Errorf("exit status %d", status)
		}
	}
	spans := r.collector.Spans()
	f := newForest(spans, r.names)
	f.check(r.t, spans)
	checkFlushes(r.t, f, spans)
	groups, known := map[string]string{}, map[string]bool{}
	for _, c := range r.cases {
		known[c.traceID] = true
		var b strings.Builder
		for _, s := range spans {
			if id(s.TraceId) == c.traceID && (id(s.ParentSpanId) == c.spanID || len(s.ParentSpanId) == 0) {
				f.write(&b, s, "")
			}
		}
		if c.name != "" {
			groups[c.group] += "# " + c.name + "\n" + b.String() + "\n"
		}
	}
	others := map[string]bool{}
	for _, s := range spans {
		if len(s.ParentSpanId) == 0 && !known[id(s.TraceId)] && s.Name != "mcphub.session.flush" {
			others[f.tree(s)] = true
		}
	}
	if own != "" {
		groups[own] = "# each kind once\n" + strings.Join(slices.Sorted(maps.Keys(others)), "\n")
	}
	for group, trees := range groups {
		compareTrees(r.t, group, trees)
	}
	for _, h := range r.servers {
		h.check(r.t, r)
	}
}

// checkFlushes checks the spans of batches. How many there are depends on the
// timing, so they are in no tree.
func checkFlushes(t *testing.T, f *forest, spans []*hubtest.Span) {
	t.Helper()
	for _, s := range spans {
		if s.Name != "mcphub.session.flush" {
			continue
		}
		written := strings.Join(f.attributes(s.Attributes), " ")
		if len(s.ParentSpanId) > 0 || !strings.Contains(written, "mcphub.session.count=") ||
			len(f.children[id(s.SpanId)]) > 0 || len(s.Links) > 32 {
			t.Errorf("a batch is\n%s", f.tree(s))
		}
		for _, l := range s.Links {
			if to := f.byID[id(l.SpanId)]; to == nil {
				t.Errorf("a batch links to a span that was not exported:\n%s", f.tree(s))
			}
		}
	}
}

// received keeps the messages that a server received from the hub.
type received struct {
	name string
	file string // in which a child process writes its messages; "" over HTTP

	mu       sync.Mutex
	messages []receivedMessage
}

type receivedMessage struct {
	method string
	meta   map[string]json.RawMessage
	header http.Header // nil over stdio
}

// record returns a handler that records each message and passes it to handler.
func (h *received) record(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		h.add(body, r.Header.Clone())
		handler.ServeHTTP(w, r)
	})
}

func (h *received) add(body []byte, header http.Header) {
	m, err := jsonrpc.Parse(body)
	if err != nil || m.Method == "" {
		return
	}
	got := receivedMessage{method: m.Method, header: header}
	if fields, err := jsonrpc.Fields(m.Params, "_meta"); err == nil {
		_ = json.Unmarshal(fields[0], &got.meta)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.messages = append(h.messages, got)
}

// all returns the messages so far.
func (h *received) all(t *testing.T) []receivedMessage {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.file == "" {
		return slices.Clone(h.messages)
	}
	log, err := os.ReadFile(h.file)
	if err != nil {
		t.Fatal(err)
	}
	read := &received{}
	for line := range strings.Lines(string(log)) {
		if message, ok := strings.CutPrefix(line, "read: "); ok {
			read.add([]byte(message), nil)
		}
	}
	return read.messages
}

// check checks that each message came with the context of its CLIENT span, in _meta
// and, over HTTP, in the header.
func (h *received) check(t *testing.T, r *traced) {
	t.Helper()
	clients := map[string]*hubtest.Span{}
	for _, s := range r.collector.Spans() {
		if s.IsClient() {
			clients["00-"+id(s.TraceId)+"-"+id(s.SpanId)+"-01"] = s
		}
	}
	messages := h.all(t)
	if len(messages) < 5 {
		t.Errorf("%s received only %d messages", h.name, len(messages))
	}
	for _, m := range messages {
		var traceparent string
		_ = json.Unmarshal(m.meta["traceparent"], &traceparent)
		if m.method == "subscriptions/listen" { // lasts as long as the connection, so it has no span
			if traceparent != "" || m.header.Get("traceparent") != "" {
				t.Errorf("%s got a context with %s: %s %s", h.name, m.method, traceparent, m.header.Get("traceparent"))
			}
			continue
		}
		if strings.HasSuffix(traceparent, "-00") {
			continue // not sampled, because the caller's is not
		}
		s := clients[traceparent]
		if s == nil || s.Attribute("mcp.method.name") != m.method || s.Attribute("mcphub.backend") != h.name {
			t.Errorf("%s got %s in %s, which is not the context of its span", h.name, traceparent, m.method)
		}
		if m.header != nil && m.header.Get("traceparent") != traceparent {
			t.Errorf("%s got %s in the header of %s, and %s in _meta", h.name, m.header.Get("traceparent"), m.method, traceparent)
		}
	}
}

// recordedChild returns the entry of a configuration for a server that is a child
// process and whose messages are recorded. more are more members of the entry.
func (r *traced) recordedChild(name, more string, revisions ...string) string {
	r.t.Helper()
	h := &received{name: name, file: r.t.TempDir() + "/heard"}
	r.servers = append(r.servers, h)
	return fmt.Sprintf("  %s: {%s%s}\n", name, peers.Child(r.t, h.file, name, revisions...), more)
}

// recordedWeb is recordedChild for a server over HTTP.
func (r *traced) recordedWeb(name, more string, modern bool) string {
	r.t.Helper()
	h := &received{name: name}
	r.servers = append(r.servers, h)
	var revisions []string
	if !modern {
		revisions = []string{hubtest.LegacyVersion}
	}
	url := hubtest.Serve(r.t, h.record(peers.NewServer(name, revisions...).Handler(modern)))
	return fmt.Sprintf("  %s: {url: %q%s}\n", name, url, more)
}
