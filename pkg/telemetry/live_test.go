package telemetry

import (
	"fmt"
	"net/http"
	"testing"

	"go.opentelemetry.io/otel/trace"
)

func TestSpansThatHaveNotEndedAreCounted(t *testing.T) {
	endpoint, open, _ := gatedCollector(t, http.StatusOK)
	open()
	t.Setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", endpoint)
	t.Setenv("OTEL_BSP_MAX_QUEUE_SIZE", "1") // dropped spans have ended too
	tel, _ := start(t, Config{})
	tracer := tel.TracerProvider().Tracer("test")
	var spans []trace.Span
	for range 5 {
		_, span := tracer.Start(t.Context(), "tools/call")
		spans = append(spans, span)
	}
	for left := len(spans); left > 0; left-- {
		wantMetric(t, tel, fmt.Sprintf("mcphub_spans_live %d", left))
		spans[left-1].End()
		spans[left-1].End() // a second End has no effect
	}
	wantMetric(t, tel, "mcphub_spans_live 0")
}
