package telemetry

import (
	"context"
	"strconv"
	"strings"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// sessionSampler samples every span of the chosen sessions (see SESSION_DEBUG). For other
// spans the embedded Sampler decides.
type sessionSampler struct {
	sdktrace.Sampler
	chosen    prefixes
	sessionOf func(context.Context) string
}

// newSampler returns nil if no sessions are chosen: then the SDK uses its own sampler.
func newSampler(env environ, chosen prefixes, sessionOf func(context.Context) string) sdktrace.Sampler {
	if len(chosen) == 0 || sessionOf == nil {
		return nil
	}
	return sessionSampler{samplerOf(env), chosen, sessionOf}
}

func (s sessionSampler) ShouldSample(p sdktrace.SamplingParameters) sdktrace.SamplingResult {
	if s.chosen.has(s.sessionOf(p.ParentContext)) {
		return sdktrace.SamplingResult{
			Decision:   sdktrace.RecordAndSample,
			Tracestate: trace.SpanContextFromContext(p.ParentContext).TraceState(),
		}
	}
	return s.Sampler.ShouldSample(p)
}

func (s sessionSampler) Description() string {
	return "ChosenSessions{" + s.Sampler.Description() + "}"
}

// samplerOf returns the sampler that the SDK would create from OTEL_TRACES_SAMPLER, because
// the SDK does not export that function. The SDK reports invalid values in each case.
func samplerOf(env environ) sdktrace.Sampler {
	kind, parent := strings.CutPrefix(strings.ToLower(strings.TrimSpace(env.get("OTEL_TRACES_SAMPLER"))), "parentbased_")
	root := sdktrace.AlwaysSample()
	switch kind {
	case "always_on":
	case "always_off":
		root = sdktrace.NeverSample()
	case "traceidratio":
		ratio, err := strconv.ParseFloat(strings.TrimSpace(env.get("OTEL_TRACES_SAMPLER_ARG")), 64)
		if err == nil && 0 <= ratio && ratio <= 1 {
			root = sdktrace.TraceIDRatioBased(ratio)
		}
	default:
		parent = true
	}
	if parent {
		return sdktrace.ParentBased(root)
	}
	return root
}
