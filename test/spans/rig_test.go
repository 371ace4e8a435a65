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

// traced is a hub whose spans are collected, and what it was made to do.
type traced struct {
	t         *testing.T
	collector *hubtest.Collector
	cases     []tracedCase
	names     map[string]string // for ids, see forest
	heard     []*heard
}

// tracedCase is one trace that a client began. What has no name is not written.
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

// finish ends the hubs, whose spans are all exported then, and compares the trees
// of each group of cases, and those that the hubs made on their own, each once,
// with the files of these names; own may be empty.
func (r *traced) finish(own string, hubs ...*hubtest.Hub) {
	r.t.Helper()
	for _, h := range hubs {
		if status := h.Terminate(15 * time.Second); status != 0 {
			r.t.Errorf("exit status %d", status)
		}
	}
	spans := r.collector.Spans()
	f := plant(spans, r.names)
	f.faults(r.t, spans)
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
	for _, h := range r.heard {
		h.check(r.t, r)
	}
}

// checkFlushes checks the spans of batches, whose number nobody knows.
func checkFlushes(t *testing.T, f *forest, spans []*hubtest.Span) {
	t.Helper()
	for _, s := range spans {
		if s.Name != "mcphub.session.flush" {
			continue
		}
		written := strings.Join(f.attributes(s.Attributes), " ")
		if len(s.ParentSpanId) > 0 || !strings.Contains(written, "mcphub.session.count=") || len(f.children[id(s.SpanId)]) > 0 || len(s.Links) > 32 {
			t.Errorf("a batch is\n%s", f.tree(s))
		}
		for _, l := range s.Links {
			if to := f.byID[id(l.SpanId)]; to == nil {
				t.Errorf("a batch links to a span that nobody exported:\n%s", f.tree(s))
			}
		}
	}
}

// heard is what a server got from the hub: every message and what came with it.
type heard struct {
	name string
	file string // of a child

	mu       sync.Mutex
	messages []heardMessage
}

type heardMessage struct {
	method string
	meta   map[string]json.RawMessage
	header http.Header // nil: over a pipe
}

// over has everything recorded that comes to handler.
func (h *heard) over(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		h.add(body, r.Header.Clone())
		handler.ServeHTTP(w, r)
	})
}

func (h *heard) add(body []byte, header http.Header) {
	m, err := jsonrpc.Parse(body)
	if err != nil || m.Method == "" {
		return
	}
	got := heardMessage{method: m.Method, header: header}
	if fields, err := jsonrpc.Fields(m.Params, "_meta"); err == nil {
		_ = json.Unmarshal(fields[0], &got.meta)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.messages = append(h.messages, got)
}

// all returns what was heard, also by a child, whose file has it.
func (h *heard) all(t *testing.T) []heardMessage {
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
	read := &heard{}
	for line := range strings.Lines(string(log)) {
		if message, ok := strings.CutPrefix(line, "read: "); ok {
			read.add([]byte(message), nil)
		}
	}
	return read.messages
}

// check finds the CLIENT span of each message that the server got: its context
// is what came, in _meta and in the header, and no other is anywhere.
func (h *heard) check(t *testing.T, r *traced) {
	t.Helper()
	clients := map[string]*hubtest.Span{}
	for _, s := range r.collector.Spans() {
		if s.IsClient() {
			clients["00-"+id(s.TraceId)+"-"+id(s.SpanId)+"-01"] = s
		}
	}
	messages := h.all(t)
	if len(messages) < 5 {
		t.Errorf("%s heard %d messages only", h.name, len(messages))
	}
	for _, m := range messages {
		var traceparent string
		_ = json.Unmarshal(m.meta["traceparent"], &traceparent)
		if m.method == "subscriptions/listen" { // lasts as long as the connection and has no span
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

// childWithEars is the entry of a configuration for a server of the matrix that
// is a child process.
func (r *traced) childWithEars(name, more string, revisions ...string) string {
	r.t.Helper()
	h := &heard{name: name, file: r.t.TempDir() + "/heard"}
	r.heard = append(r.heard, h)
	return fmt.Sprintf("  %s: {%s%s}\n", name, peers.Child(r.t, h.file, name, revisions...), more)
}

// webWithEars is the same for one over HTTP.
func (r *traced) webWithEars(name, more string, modern bool) string {
	r.t.Helper()
	h := &heard{name: name}
	r.heard = append(r.heard, h)
	var revisions []string
	if !modern {
		revisions = []string{hubtest.LegacyVersion}
	}
	url := hubtest.Serve(r.t, h.over(peers.NewServer(name, revisions...).Handler(modern)))
	return fmt.Sprintf("  %s: {url: %q%s}\n", name, url, more)
}
