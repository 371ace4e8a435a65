package telemetry

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

func TestPropagatorPassesTraceContextAndBaggageThroughAHubWithoutTraces(t *testing.T) {
	tel, _ := start(t, Config{})
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	in := http.Header{"Traceparent": {parent}, "Baggage": {"tenant=blue"}}
	ctx := tel.Propagator().Extract(t.Context(), propagation.HeaderCarrier(in))
	ctx, span := tel.TracerProvider().Tracer("test").Start(ctx, "tools/call")
	defer span.End()

	out := make(http.Header)
	tel.Propagator().Inject(ctx, propagation.HeaderCarrier(out))
	if out.Get("Traceparent") != parent || out.Get("Baggage") != "tenant=blue" {
		t.Errorf("passed on %v, want %v", out, in)
	}
}

func TestSamplerComesFromTheEnvironment(t *testing.T) {
	endpoint, posts := collector(t)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
	t.Setenv("OTEL_TRACES_SAMPLER", "always_off")
	tel, _ := start(t, Config{})
	if span(t, tel).IsSampled() {
		t.Error("span is sampled")
	}
	if _, err := shutdown(tel, time.Minute); err != nil || posts("/v1/traces") != 0 {
		t.Errorf("Shutdown: %v; %d posts", err, posts("/v1/traces"))
	}
}

func TestSamplerFollowsTheParentByDefault(t *testing.T) {
	endpoint, _ := collector(t)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
	tel, _ := start(t, Config{})
	for _, flags := range []trace.TraceFlags{0, trace.FlagsSampled} {
		parent := trace.NewSpanContext(trace.SpanContextConfig{
			TraceID: trace.TraceID{1}, SpanID: trace.SpanID{1}, TraceFlags: flags, Remote: true})
		_, s := tel.TracerProvider().Tracer("test").Start(trace.ContextWithSpanContext(t.Context(), parent), "tools/call")
		s.End()
		if got := s.SpanContext(); got.TraceID() != parent.TraceID() || got.IsSampled() != parent.IsSampled() {
			t.Errorf("child of %v is %v", parent, got)
		}
	}
}

func resourceOf(t *testing.T) map[string]string {
	tel, _ := start(t, Config{})
	attrs := make(map[string]string)
	for _, kv := range newResource(t.Context(), "1.2.3", newReporter(tel.Logger(), nil)).Attributes() {
		attrs[string(kv.Key)] = kv.Value.String()
	}
	return attrs
}

func TestResourceNamesServiceVersionInstanceAndHostOnly(t *testing.T) {
	a, b := resourceOf(t), resourceOf(t)
	if a["service.name"] != "mcphub" || a["service.version"] != "1.2.3" || a["host.name"] == "" {
		t.Errorf("resource is %v", a)
	}
	if id := a["service.instance.id"]; len(id) != 36 || id == b["service.instance.id"] {
		t.Errorf("instance ids are %q and %q", id, b["service.instance.id"])
	}
	for key := range a {
		if strings.HasPrefix(key, "process.") {
			t.Errorf("resource tells %s", key)
		}
	}
}

func TestEnvironmentRenamesTheService(t *testing.T) {
	t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "service.name=hub,service.instance.id=7,deployment.environment.name=prod")
	if r := resourceOf(t); r["service.name"] != "hub" || r["service.instance.id"] != "7" || r["deployment.environment.name"] != "prod" {
		t.Errorf("resource is %v", r)
	}
	t.Setenv("OTEL_SERVICE_NAME", "hub-eu")
	if r := resourceOf(t); r["service.name"] != "hub-eu" {
		t.Errorf("resource is %v", r)
	}
}
