package telemetry

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/contrib/exporters/autoexport"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.41.0"
)

// tracesWanted reports whether the environment requests traces. The default of the SDK, a
// collector on localhost, would cause an error every 5 s if there is none.
func tracesWanted(env environ) bool {
	switch env.get("OTEL_TRACES_EXPORTER") {
	case "none":
		return false
	case "":
		return env.get("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || env.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") != ""
	}
	return true
}

func newSpanExporter(ctx context.Context, env environ, stderr io.Writer) (sdktrace.SpanExporter, error) {
	switch kind := env.get("OTEL_TRACES_EXPORTER"); kind {
	case "console":
		// autoexport would write to stdout, which may be a stdio transport.
		return consoleSpans{stderr}, nil
	case "", "otlp":
	default:
		return nil, fmt.Errorf("OTEL_TRACES_EXPORTER=%q: want otlp, console or none", kind)
	}
	exporter, err := autoexport.NewSpanExporter(ctx)
	if err != nil {
		return nil, fmt.Errorf("trace exporter (OTEL_TRACES_EXPORTER, OTEL_EXPORTER_OTLP_*): %w", err)
	}
	return exporter, nil
}

// newTracerProvider returns a provider that exports spans in batches. If sampler is nil, the
// SDK chooses one: that of OTEL_TRACES_SAMPLER, by default the decision of the parent, and
// every trace without a parent.
func newTracerProvider(
	exporter sdktrace.SpanExporter, g guard, q *queue, live prometheus.Gauge,
	res *resource.Resource, sampler sdktrace.Sampler,
) *sdktrace.TracerProvider {
	batch := sdktrace.NewBatchSpanProcessor(spanExporter{exporter, g, q}, sdktrace.WithMaxQueueSize(int(q.size)))
	return sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spanProcessor{batch, q, live}),
		sdktrace.WithResource(res), sdktrace.WithSampler(sampler))
}

// newPropagator returns a propagator for W3C trace context and baggage, or for those of them
// that OTEL_PROPAGATORS lists.
func newPropagator(env environ) (propagation.TextMapPropagator, error) {
	var all []propagation.TextMapPropagator
	for name := range strings.SplitSeq(cmp.Or(env.get("OTEL_PROPAGATORS"), "tracecontext,baggage"), ",") {
		switch strings.TrimSpace(name) {
		case "tracecontext":
			all = append(all, propagation.TraceContext{})
		case "baggage":
			all = append(all, propagation.Baggage{})
		case "none":
		default:
			return nil, fmt.Errorf("OTEL_PROPAGATORS=%q: want tracecontext, baggage, both with a comma, or none",
				env.get("OTEL_PROPAGATORS"))
		}
	}
	return propagation.NewCompositeTextMapPropagator(all...), nil
}

// newResource returns the attributes of this process. They do not include its command line,
// which may contain secrets. Values from the environment override the others.
func newResource(ctx context.Context, version string, errs *reporter) *resource.Resource {
	res, err := resource.New(ctx,
		resource.WithTelemetrySDK(),
		resource.WithHost(),
		resource.WithService(), // for the random service.instance.id
		resource.WithAttributes(
			semconv.ServiceName("mcphub"),
			semconv.ServiceVersion(cmp.Or(version, "unknown")),
		),
		resource.WithFromEnv(),
	)
	if err != nil { // res contains the attributes that were detected
		errs.report(signalOther, fmt.Errorf("describe this process: %w", err))
	}
	return res
}
