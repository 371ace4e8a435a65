package hubtest

import (
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"testing"

	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// Collector receives OTLP over HTTP (http/protobuf) and keeps it: spans decoded,
// and everything as it came.
type Collector struct {
	URL string // for OTEL_EXPORTER_OTLP_ENDPOINT

	// The bodies of the exports, uncompressed. Protobuf holds texts as they are,
	// so strings.Contains finds them.
	Traces, Logs, Metrics Buffer
	Headers               Buffer // the HTTP headers of all exports

	t     testing.TB
	mu    sync.Mutex
	spans []*Span
}

// Span is a span as it was exported.
type Span struct {
	*tracepb.Span
	Service string // service.name of the resource
	Scope   string // name of the instrumentation scope
}

// StartCollector starts a collector, which ends with the test. It does not set
// the environment; a test does so before it starts a hub:
//
//	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.URL)
func StartCollector(t testing.TB) *Collector {
	t.Helper()
	c := &Collector{t: t}
	c.URL = Serve(t, c)
	return c
}

// ServeHTTP takes an export.
func (c *Collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	to := map[string]*Buffer{"/v1/traces": &c.Traces, "/v1/logs": &c.Logs, "/v1/metrics": &c.Metrics}[r.URL.Path]
	body, err := uncompressed(r)
	if to == nil || err != nil {
		c.t.Errorf("an export to %s: %v", r.URL.Path, err)
		http.Error(w, "not an export", http.StatusBadRequest)
		return
	}
	_, _ = to.Write(body)
	fmt.Fprintln(&c.Headers, r.Header)
	if to == &c.Traces {
		c.decode(body)
	}
	w.Header().Set("Content-Type", "application/x-protobuf") // an empty body is an answer without remarks
}

func uncompressed(r *http.Request) ([]byte, error) {
	var in io.Reader = r.Body
	if r.Header.Get("Content-Encoding") == "gzip" {
		unzipped, err := gzip.NewReader(r.Body)
		if err != nil {
			return nil, err
		}
		in = unzipped
	}
	return io.ReadAll(in)
}

func (c *Collector) decode(body []byte) {
	var export tracepb.TracesData // the encoding of ExportTraceServiceRequest, whose package would bring gRPC along
	if err := proto.Unmarshal(body, &export); err != nil {
		c.t.Errorf("an export of spans: %v", err)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, of := range export.GetResourceSpans() {
		service := attribute(of.GetResource().GetAttributes(), "service.name")
		for _, scope := range of.GetScopeSpans() {
			for _, s := range scope.GetSpans() {
				c.spans = append(c.spans, &Span{Span: s, Service: service, Scope: scope.GetScope().GetName()})
			}
		}
	}
}

// Spans returns the spans that have arrived, in the order of their starts.
func (c *Collector) Spans() []*Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	spans := slices.Clone(c.spans)
	slices.SortStableFunc(spans, func(a, b *Span) int { return int(int64(a.StartTimeUnixNano) - int64(b.StartTimeUnixNano)) })
	return spans
}

// Find returns the spans for which fits returns true, in the order of their
// starts.
func (c *Collector) Find(fits func(*Span) bool) []*Span {
	return slices.DeleteFunc(c.Spans(), func(s *Span) bool { return !fits(s) })
}

// Attribute returns the value of a string attribute; "" if there is none.
func (s *Span) Attribute(key string) string { return attribute(s.Attributes, key) }

// IsClient reports whether the span is a request to a server.
func (s *Span) IsClient() bool { return s.Kind == tracepb.Span_SPAN_KIND_CLIENT }

// IsServer reports whether the span is a request of a client.
func (s *Span) IsServer() bool { return s.Kind == tracepb.Span_SPAN_KIND_SERVER }

func attribute(attributes []*commonpb.KeyValue, key string) string {
	for _, a := range attributes {
		if a.Key == key {
			return a.GetValue().GetStringValue()
		}
	}
	return ""
}
