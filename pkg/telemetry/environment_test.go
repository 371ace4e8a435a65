package telemetry

import (
	"compress/gzip"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// recorder is an OTLP receiver that records the last request of each path.
type recorder struct {
	mu      sync.Mutex
	headers map[string]http.Header
	bodies  map[string]string
}

func (c *recorder) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	body := io.Reader(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		if z, err := gzip.NewReader(r.Body); err == nil {
			body = z
		}
	}
	text, _ := io.ReadAll(body)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.headers[r.URL.Path] = r.Header
	c.bodies[r.URL.Path] = string(text)
}

// run starts telemetry, creates spans, metrics and log records, and stops it.
func (c *recorder) run(t *testing.T, env map[string]string) {
	t.Helper()
	c.headers, c.bodies = map[string]http.Header{}, map[string]string{}
	server := httptest.NewServer(c)
	defer server.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", server.URL)
	t.Setenv("OTEL_LOGS_EXPORTER", "otlp")
	for name, value := range env {
		t.Setenv(name, value)
	}
	tel, stderr := start(t, Config{})
	ctx, s := tel.TracerProvider().Tracer("test").Start(t.Context(), "tools/call")
	s.SetAttributes(attribute.String("first", "0123456789"), attribute.String("second", "x"))
	s.AddEvent("event one")
	s.AddEvent("event two")
	tel.Logger().InfoContext(ctx, "hello")
	s.End()
	if _, err := shutdown(tel, time.Minute); err != nil {
		t.Errorf("Shutdown: %v\n%s", err, stderr)
	}
}

func TestVariablesOfTheSpecificationTakeEffect(t *testing.T) {
	const traces, metrics, logs = "/v1/traces", "/v1/metrics", "/v1/logs"
	for name, test := range map[string]struct {
		env         map[string]string
		paths       []string
		has, hasNot string // in the body for traces
	}{
		"nothing":      {nil, []string{logs, metrics, traces}, "0123456789", ""},
		"no traces":    {map[string]string{"OTEL_TRACES_EXPORTER": "none"}, []string{logs, metrics}, "", ""},
		"no metrics":   {map[string]string{"OTEL_METRICS_EXPORTER": "none"}, []string{logs, traces}, "", ""},
		"no logs":      {map[string]string{"OTEL_LOGS_EXPORTER": "none"}, []string{metrics, traces}, "", ""},
		"disabled":     {map[string]string{"OTEL_SDK_DISABLED": "true"}, nil, "", ""},
		"not disabled": {map[string]string{"OTEL_SDK_DISABLED": "false"}, []string{logs, metrics, traces}, "", ""},
		"service name": {map[string]string{"OTEL_SERVICE_NAME": "hub-eu"}, []string{logs, metrics, traces}, "hub-eu", ""},
		"resource": {map[string]string{"OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=staging"},
			[]string{logs, metrics, traces}, "staging", ""},
		"sampler off": {map[string]string{"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0"},
			[]string{logs, metrics}, "", ""},
		"sampler on": {map[string]string{"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "1"},
			[]string{logs, metrics, traces}, "", ""},
		"attribute size": {map[string]string{"OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT": "4"},
			[]string{logs, metrics, traces}, "0123", "01234"},
		"attributes": {map[string]string{"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "1"}, []string{logs, metrics, traces}, "first", "second"},
		"events": {map[string]string{"OTEL_SPAN_EVENT_COUNT_LIMIT": "1"}, []string{logs, metrics, traces},
			"event two", "event one"},
		"compression": {map[string]string{"OTEL_EXPORTER_OTLP_COMPRESSION": "gzip"}, []string{logs, metrics, traces}, "0123456789", ""},
	} {
		t.Run(name, func(t *testing.T) {
			var c recorder
			c.run(t, test.env)
			var paths []string
			for path := range c.bodies {
				paths = append(paths, path)
			}
			slices.Sort(paths)
			if !slices.Equal(paths, test.paths) {
				t.Errorf("the collector got %v, want %v", paths, test.paths)
			}
			if body := c.bodies[traces]; !strings.Contains(body, test.has) || test.hasNot != "" && strings.Contains(body, test.hasNot) {
				t.Errorf("want %q and not %q in %q", test.has, test.hasNot, body)
			}
		})
	}
}

func TestHeadersOfExportsComeFromTheEnvironmentAndAreNotLogged(t *testing.T) {
	var c recorder
	c.run(t, map[string]string{"OTEL_EXPORTER_OTLP_HEADERS": "api-key=canary"})
	for path, h := range c.headers {
		if h.Get("Api-Key") != "canary" {
			t.Errorf("%s came with %v", path, h)
		}
	}
	for path, body := range c.bodies {
		if strings.Contains(body, "canary") {
			t.Errorf("%s tells the key", path)
		}
	}
}

func TestProtocolGRPCWorksForAllSignals(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", deadEndpoint(t))
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
	t.Setenv("OTEL_LOGS_EXPORTER", "otlp")
	tel, _ := start(t, Config{})
	span(t, tel)
	tel.Logger().Info("hello")
	if took, _ := shutdown(tel, 200*time.Millisecond); took > 200*time.Millisecond+cancelGrace+time.Second {
		t.Errorf("Shutdown took %v", took)
	}
	wantMetric(t, tel, dropped("traces", "shutdown", 1))
	wantMetric(t, tel, dropped("logs", "shutdown", 1))
}

func TestPropagatorsComeFromTheEnvironment(t *testing.T) {
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	for value, want := range map[string][]string{
		"": {parent, "tenant=blue"}, "tracecontext": {parent, ""}, "baggage": {"", "tenant=blue"},
		"baggage, tracecontext": {parent, "tenant=blue"}, "none": {"", ""},
	} {
		t.Setenv("OTEL_PROPAGATORS", value)
		tel, _ := start(t, Config{})
		in := propagation.HeaderCarrier{"Traceparent": {parent}, "Baggage": {"tenant=blue"}}
		out := propagation.HeaderCarrier{}
		ctx := tel.Propagator().Extract(context.Background(), in)
		tel.Propagator().Inject(ctx, out)
		if got := []string{out.Get("traceparent"), out.Get("baggage")}; !slices.Equal(got, want) {
			t.Errorf("OTEL_PROPAGATORS=%q passes on %v, want %v", value, got, want)
		}
		if got := trace.SpanContextFromContext(ctx).IsValid(); got != (want[0] != "") {
			t.Errorf("OTEL_PROPAGATORS=%q: parent %v", value, got)
		}
	}
}
