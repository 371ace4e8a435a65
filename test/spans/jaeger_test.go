package spans

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"go.opentelemetry.io/contrib/exporters/autoexport"
	"go.opentelemetry.io/otel/propagation"
	sdkresource "go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
)

// How a real receiver of OTLP shows the spans of two hubs, one behind the other.
// make e2e-traces installs Jaeger and runs these tests.

// jaeger is a running Jaeger, which keeps traces in memory.
type jaeger struct {
	t         *testing.T
	otlp, url string
}

func startJaeger(t *testing.T) *jaeger {
	t.Helper()
	program := os.Getenv("MCPHUB_JAEGER")
	if program == "" {
		t.Skip("MCPHUB_JAEGER does not say where the program is; make e2e-traces installs it")
	}
	var args []string
	for _, listener := range []string{"query.grpc-server", "admin.http", "collector.otlp.grpc",
		"collector.http-server", "collector.grpc-server"} {
		args = append(args, "--"+listener+".host-port="+hubtest.FreeAddress(t))
	}
	otlp, query := hubtest.FreeAddress(t), hubtest.FreeAddress(t)
	args = append(args, "--collector.otlp.http.host-port="+otlp, "--query.http-server.host-port="+query)
	hubtest.StartProcess(t, program, args...)
	j := &jaeger{t: t, otlp: "http://" + otlp, url: "http://" + query}
	hubtest.Eventually(t, "Jaeger is ready", func() bool {
		status, _ := hubtest.Get(t, j.url+"/api/services")
		sink, _ := hubtest.Get(t, j.otlp+"/v1/traces")
		return status == http.StatusOK && sink != 0
	})
	return j
}

// jaegerSpan is a span as Jaeger shows it.
type jaegerSpan struct {
	SpanID, OperationName, ProcessID string

	References []struct{ RefType, SpanID string }
	Tags       []struct {
		Key   string
		Value any
	}
	service string
}

func (s jaegerSpan) kind() string {
	for _, tag := range s.Tags {
		if tag.Key == "span.kind" {
			return fmt.Sprint(tag.Value)
		}
	}
	return "internal"
}

func (s jaegerSpan) parent() string {
	if len(s.References) == 1 && s.References[0].RefType == "CHILD_OF" {
		return s.References[0].SpanID
	}
	return ""
}

func (s jaegerSpan) String() string { return s.service + " " + s.kind() + " " + s.OperationName }

// spans returns the spans of a trace that have arrived, by id.
func (j *jaeger) spans(id trace.TraceID) map[string]jaegerSpan {
	j.t.Helper()
	status, body := hubtest.Get(j.t, j.url+"/api/traces/"+id.String())
	if status == http.StatusNotFound {
		return nil
	}
	var answer struct {
		Data []struct {
			Spans     []jaegerSpan
			Processes map[string]struct{ ServiceName string }
		}
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil || len(answer.Data) != 1 {
		j.t.Fatalf("%d %v %s", status, err, body)
	}
	spans := map[string]jaegerSpan{}
	for _, s := range answer.Data[0].Spans {
		s.service = answer.Data[0].Processes[s.ProcessID].ServiceName
		if spans[s.SpanID].SpanID != "" {
			j.t.Errorf("span %s is there twice", s.SpanID)
		}
		spans[s.SpanID] = s
	}
	return spans
}

// tracer returns the tracer of a client that exports to the same receiver.
func (j *jaeger) tracer() trace.Tracer {
	j.t.Helper()
	exporter, err := autoexport.NewSpanExporter(j.t.Context())
	if err != nil {
		j.t.Fatal(err)
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter), sdktrace.WithResource(sdkresource.Default()))
	j.t.Cleanup(func() { _ = provider.Shutdown(context.Background()) })
	return provider.Tracer("e2e")
}

// hop sends a request within a CLIENT span of the client and returns its trace.
func hop(t *testing.T, tracer trace.Tracer, name string, do func(traceparent string) hubtest.Answer) trace.TraceID {
	t.Helper()
	ctx, span := tracer.Start(t.Context(), name, trace.WithSpanKind(trace.SpanKindClient))
	defer span.End()
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	if a := do(carrier["traceparent"]); a.Result == nil {
		t.Fatalf("%s: %s", name, a.Error)
	}
	return span.SpanContext().TraceID()
}

func TestOneTraceLeadsFromTheClientThroughTwoHubsToTheServer(t *testing.T) {
	j := startJaeger(t)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", j.otlp)
	t.Setenv("OTEL_METRICS_EXPORTER", "none")
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
	t.Setenv("OTEL_SERVICE_NAME", "hub-b")
	b := hubtest.StartHub(t, hubtest.Options{Config: hubtest.DemoConfig})
	t.Setenv("OTEL_SERVICE_NAME", "hub-a")
	config := fmt.Sprintf("mcpServers:\n  legacy: {url: %q, era: legacy}\n  modern: {url: %q, era: modern}\n", b.URL(), b.URL())
	a := hubtest.StartHub(t, hubtest.Options{Config: config})
	t.Setenv("OTEL_SERVICE_NAME", "client")
	tracer := j.tracer()

	legacy := hubtest.NewLegacyClient(t, a.URL())
	t.Run("legacy initialize", func(t *testing.T) {
		id := hop(t, tracer, "initialize", func(traceparent string) hubtest.Answer {
			return legacy.Request("initialize", fmt.Sprintf(`{"protocolVersion":"2025-11-25","capabilities":{},
				"clientInfo":{"name":"traced","version":"1"},"_meta":{"traceparent":%q}}`, traceparent))
		})
		j.path(t, id, "client client initialize", "hub-a server initialize")
	})
	if status, body := legacy.Post(`{"jsonrpc":"2.0","method":"notifications/initialized"}`); status != http.StatusAccepted {
		t.Fatalf("notifications/initialized: %d %s", status, body)
	}
	for _, era := range []string{"legacy", "modern"} {
		tool := era + "__demo__echo"
		arguments := fmt.Sprintf(`"name":%q,"arguments":{"text":"x"}`, tool)
		path := []string{
			"client client tools/call", "hub-a server tools/call " + tool, "hub-a client tools/call demo__echo",
			"hub-b server tools/call demo__echo", "hub-b client tools/call echo",
		}
		t.Run("legacy client, "+era+" between the hubs", func(t *testing.T) {
			j.path(t, hop(t, tracer, "tools/call", func(traceparent string) hubtest.Answer {
				return legacy.Request("tools/call", fmt.Sprintf(`{%s,"_meta":{"traceparent":%q}}`, arguments, traceparent))
			}), path...)
		})
		t.Run("modern client, "+era+" between the hubs", func(t *testing.T) {
			j.path(t, hop(t, tracer, "tools/call", func(traceparent string) hubtest.Answer {
				modern := hubtest.NewModernClient(t, a.URL(), "traced")
				modern.Traceparent = traceparent
				return modern.Request("tools/call", tool, arguments)
			}), path...)
		})
	}
}

// path waits until the trace is complete. It checks that the trace has one root,
// that some span has the wanted line of ancestors, and that the parent of every
// span fits its kind.
func (j *jaeger) path(t *testing.T, id trace.TraceID, want ...string) {
	t.Helper()
	var spans map[string]jaegerSpan
	hubtest.Eventually(t, "the trace is whole", func() bool {
		spans = j.spans(id)
		for _, s := range spans {
			if s.parent() != "" && spans[s.parent()].SpanID == "" {
				return false
			}
		}
		return slices.ContainsFunc(lines(spans), func(line []string) bool { return line[len(line)-1] == want[len(want)-1] })
	})
	defer func() {
		if t.Failed() {
			for _, line := range lines(spans) {
				t.Logf("%s", strings.Join(line, " > "))
			}
		}
	}()
	roots := 0
	for _, s := range spans {
		parent := spans[s.parent()]
		ok := false
		switch s.kind() {
		case "server":
			sends := parent.kind() == "client"
			ok = sends && parent.service != s.service
		case "client":
			ok = s.parent() == "" || parent.kind() != "client" && parent.service == s.service
		case "internal":
			ok = parent.service == s.service
		}
		if s.parent() == "" {
			roots++
		}
		if !ok {
			t.Errorf("%s is a child of %s", s, parent)
		}
	}
	if roots != 1 {
		t.Errorf("%d roots", roots)
	}
	if !slices.ContainsFunc(lines(spans), func(line []string) bool { return slices.Equal(line, want) }) {
		t.Errorf("no line is %q", want)
	}
}

// lines returns the line of ancestors of each span, from the root to the span.
func lines(spans map[string]jaegerSpan) [][]string {
	var all [][]string
	for _, s := range spans {
		line := []string{s.String()}
		for p, ok := spans[s.parent()]; ok; p, ok = spans[p.parent()] {
			line = append([]string{p.String()}, line...)
		}
		all = append(all, line)
	}
	return all
}
