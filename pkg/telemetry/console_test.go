package telemetry

import (
	"bytes"
	"errors"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

func TestConsoleShowsEachTraceAsATree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(consoleSpans{&out}))
		tracer := provider.Tracer("test")
		caller := trace.NewSpanContext(trace.SpanContextConfig{
			TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, TraceFlags: trace.FlagsSampled, Remote: true,
		})
		ctx, call := tracer.Start(trace.ContextWithSpanContext(t.Context(), caller), "tools/call demo__echo",
			trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(attribute.String("mcp.method.name", "tools/call"),
				attribute.Int("n", 3), attribute.String("client", "a \"b\" \u202e"), attribute.StringSlice("list", []string{"x"})))
		time.Sleep(time.Millisecond)
		_, attempt := tracer.Start(ctx, "tools/call echo", trace.WithSpanKind(trace.SpanKindClient),
			trace.WithLinks(trace.Link{SpanContext: caller}))
		time.Sleep(2 * time.Millisecond)
		attempt.AddEvent("sent")
		attempt.RecordError(errors.New("no \x1b[2J"))
		attempt.SetStatus(codes.Error, "refused\nhere")
		attempt.End()
		_, other := tracer.Start(t.Context(), "mcphub.session.flush")
		other.End()
		call.End()
		if err := provider.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		ids := regexp.MustCompile(`trace [0-9a-f]{32}( at [0-9:.]+)?`)
		got := ids.ReplaceAllString(out.String(), "trace T")
		const want = `trace T
  tools/call demo__echo  server  3ms  (its parent 0200000000000000 is a span of the caller)
      mcp.method.name=tools/call n=3 client="a \"b\" \u202e" list="[\"x\"]"
    tools/call echo  client  2ms  ERROR refused\u000ahere
        +2ms sent
        +2ms exception
          exception.type=*errors.errorString exception.message="no \x1b[2J"
        linked to trace T
trace T
  mcphub.session.flush  internal  0s
`
		if got != want {
			t.Errorf("shown is\n%s\nwant\n%s", got, want)
		}
	})
}

func TestLinesOfAttributesAreBroken(t *testing.T) {
	var b bytes.Buffer
	writeAttributes(&b, "  ", []attribute.KeyValue{
		attribute.String("a", strings.Repeat("x", 60)), attribute.String("b", strings.Repeat("y", 60)), attribute.String("c", ""),
	})
	if got := b.String(); strings.Count(got, "\n") != 2 || !strings.HasSuffix(got, "y c=\"\"\n") {
		t.Errorf("written is\n%s", got)
	}
}
