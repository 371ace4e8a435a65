package main

import (
	"compress/gzip"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	collectorpb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// collector receives spans over OTLP/HTTP and keeps them.
type collector struct {
	t   *testing.T
	url string

	mu    sync.Mutex
	spans []*span
}

// spanData is a span as it was sent.
type spanData = tracepb.Span

// span is what a hub exported of one.
type span struct {
	*tracepb.Span
	service string
}

// collect starts a collector, which gets the spans of every hub that the test
// starts after it.
func collect(t *testing.T) *collector {
	t.Helper()
	c := &collector{t: t}
	c.url = listenHTTP(t, c)
	t.Setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", c.url+"/v1/traces")
	t.Setenv("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "gzip")
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
	t.Setenv("OTEL_BSP_MAX_QUEUE_SIZE", "20000")
	return c
}

func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var in io.Reader = r.Body
	if r.Header.Get("Content-Encoding") == "gzip" {
		unzipped, err := gzip.NewReader(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		in = unzipped
	}
	body, err := io.ReadAll(in)
	var export collectorpb.ExportTraceServiceRequest
	if err == nil {
		err = proto.Unmarshal(body, &export)
	}
	if err != nil || r.URL.Path != "/v1/traces" {
		c.t.Errorf("%s: %v", r.URL.Path, err)
		http.Error(w, "no spans", http.StatusBadRequest)
		return
	}
	c.keep(&export)
	answer, _ := proto.Marshal(&collectorpb.ExportTraceServiceResponse{})
	w.Header().Set("Content-Type", "application/x-protobuf")
	_, _ = w.Write(answer)
}

func (c *collector) keep(export *collectorpb.ExportTraceServiceRequest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, of := range export.GetResourceSpans() {
		service := textAttribute(of.GetResource().GetAttributes(), "service.name")
		for _, scope := range of.GetScopeSpans() {
			if !strings.HasPrefix(scope.GetScope().GetName(), "github.com/mcphub-go/mcphub/pkg/") {
				c.t.Errorf("spans of %s", scope.GetScope().GetName())
			}
			for _, s := range scope.GetSpans() {
				c.spans = append(c.spans, &span{s, service})
			}
		}
	}
}

// all returns the spans that have arrived, by their starts.
func (c *collector) all() []*span {
	c.mu.Lock()
	defer c.mu.Unlock()
	spans := slices.Clone(c.spans)
	slices.SortStableFunc(spans, func(a, b *span) int { return int(int64(a.StartTimeUnixNano) - int64(b.StartTimeUnixNano)) })
	return spans
}

// find returns the spans that fit.
func (c *collector) find(fits func(*span) bool) []*span {
	return slices.DeleteFunc(c.all(), func(s *span) bool { return !fits(s) })
}

func (s *span) attribute(key string) string { return textAttribute(s.Attributes, key) }

func textAttribute(attributes []*commonpb.KeyValue, key string) string {
	for _, a := range attributes {
		if a.Key == key {
			return a.GetValue().GetStringValue()
		}
	}
	return ""
}
