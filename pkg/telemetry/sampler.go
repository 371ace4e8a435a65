package telemetry

import (
	"context"
	"strconv"
	"strings"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// sessionSampler samples every span of the chosen sessions, see SESSION_DEBUG,
// and leaves the others to the Sampler below.
type sessionSampler struct {
	sdktrace.Sampler
	chosen    prefixes
	sessionOf func(context.Context) string
}

// newSampler returns nil where no sessions are chosen: the SDK then knows by
// itself what to do.
func newSampler(env environ, chosen prefixes, sessionOf func(context.Context) string) sdktrace.Sampler {
	if len(chosen) == 0 || sessionOf == nil {
		return nil
	}
	return sessionSampler{samplerOf(env), chosen, sessionOf}
}

func (s sessionSampler) ShouldSample(p sdktrace.SamplingParameters) sdktrace.SamplingResult {
	if s.chosen.has(s.sessionOf(p.ParentContext)) {
		return sdktrace.SamplingResult{Decision: sdktrace.RecordAndSample, Tracestate: trace.SpanContextFromContext(p.ParentContext).TraceState()}
	}
	return s.Sampler.ShouldSample(p)
}

func (s sessionSampler) Description() string {
	return "ChosenSessions{" + s.Sampler.Description() + "}"
}

// samplerOf is what the SDK makes of OTEL_TRACES_SAMPLER. It keeps that to
// itself, but complains of a wrong value whoever makes the sampler.
func samplerOf(env environ) sdktrace.Sampler {
	kind, parent := strings.CutPrefix(strings.ToLower(strings.TrimSpace(env.get("OTEL_TRACES_SAMPLER"))), "parentbased_")
	root := sdktrace.AlwaysSample()
	switch kind {
	case "always_on":
	case "always_off":
		root = sdktrace.NeverSample()
	case "traceidratio":
		if ratio, err := strconv.ParseFloat(strings.TrimSpace(env.get("OTEL_TRACES_SAMPLER_ARG")), 64); err == nil && 0 <= ratio && ratio <= 1 {
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
