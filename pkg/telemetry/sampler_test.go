package telemetry

import (
	"context"
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

func TestChosenSessionsAreSampledByAnySampler(t *testing.T) {
	endpoint, _ := collector(t)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
	t.Setenv("OTEL_TRACES_SAMPLER", "parentbased_always_off")
	tel, _ := start(t, Config{SessionDebug: "id:abc", SessionOf: sessionOf})
	for id, want := range map[string]bool{"abc": true, "abcdef": true, "ab": false, "": false} {
		ctx, parent := tel.TracerProvider().Tracer("test").Start(context.WithValue(t.Context(), testSession{}, id), "tools/call")
		_, child := tel.TracerProvider().Tracer("test").Start(ctx, "tools/call")
		child.End()
		parent.End()
		if got := parent.SpanContext().IsSampled() && child.SpanContext().IsSampled(); got != want {
			t.Errorf("%q: sampled: %t", id, got)
		}
	}
}

func TestSamplerForOtherSessionsIsThatOfTheSDK(t *testing.T) {
	for _, test := range []struct{ kind, arg string }{
		{"", ""}, {"always_on", ""}, {"always_off", ""}, {"traceidratio", "0.25"}, {"traceidratio", ""}, {"parentbased_always_on", ""},
		{"parentbased_always_off", ""}, {" ParentBased_TraceIDRatio", "0.5"}, {"traceidratio", "7"},
	} {
		t.Setenv("OTEL_TRACES_SAMPLER", test.kind)
		t.Setenv("OTEL_TRACES_SAMPLER_ARG", test.arg)
		wrapped := newSampler(nil, prefixes{"x"}, sessionOf)
		provider := sdktrace.NewTracerProvider()
		defer func() { _ = provider.Shutdown(t.Context()) }()
		for trial := range 200 {
			p := sdktrace.SamplingParameters{ParentContext: t.Context(), TraceID: [16]byte{8: byte(trial), 9: 1}}
			_, s := provider.Tracer("test").Start(t.Context(), "x")
			p.TraceID = s.SpanContext().TraceID()
			s.End()
			if got := wrapped.ShouldSample(p).Decision == sdktrace.RecordAndSample; got != s.SpanContext().IsSampled() {
				t.Fatalf("%v: sampled: %t", test, got)
			}
		}
	}
}
