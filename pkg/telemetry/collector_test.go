package telemetry

import (
	"strings"
	"testing"
)

func TestInvalidExporterVariableFailsStartAndIsNotQuoted(t *testing.T) {
	const canary = "canary-7c1d"
	for _, bad := range []map[string]string{
		{"OTEL_EXPORTER_OTLP_ENDPOINT": "localhost:4318/" + canary},
		{"OTEL_EXPORTER_OTLP_ENDPOINT": "127.0.0.1:4318/" + canary},
		{"OTEL_EXPORTER_OTLP_ENDPOINT": "http:///" + canary},
		{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://user:" + canary + "@127.0.0.1:99x"},
		{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "ftp://127.0.0.1/" + canary},
		{"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "://" + canary},
		{"OTEL_EXPORTER_OTLP_ENDPOINT": "127.0.0.1:4317/" + canary, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
		{"OTEL_EXPORTER_OTLP_HEADERS": "api-key: " + canary},
		{"OTEL_EXPORTER_OTLP_METRICS_HEADERS": "a=b," + canary},
		{"OTEL_EXPORTER_OTLP_HEADERS": "api key=" + canary},
		{"OTEL_EXPORTER_OTLP_LOGS_HEADERS": "a=" + canary + "%zz"},
		{"OTEL_EXPORTER_OTLP_TIMEOUT": canary},
		{"OTEL_EXPORTER_OTLP_TRACES_TIMEOUT": "10s"},
	} {
		env := map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_LOGS_EXPORTER": "otlp"}
		want := ""
		for name, value := range bad {
			env[name] = value
			if !strings.HasSuffix(name, "_PROTOCOL") {
				want = name
			}
		}
		t.Run(want, func(t *testing.T) {
			for name, value := range env {
				t.Setenv(name, value)
			}
			var stderr buffer
			tel, err := Start(t.Context(), Config{Stderr: &stderr})
			if err == nil {
				_, _ = shutdown(tel, 0)
				t.Fatalf("%v was taken", bad)
			}
			if !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "want") {
				t.Errorf("%v: %v, which does not name %s and what it wants", bad, err, want)
			}
			if strings.Contains(err.Error()+stderr.String(), canary) {
				t.Errorf("%v is repeated: %v\n%s", bad, err, stderr.String())
			}
		})
	}
}

func TestValidExporterVariablesAreAccepted(t *testing.T) {
	for _, good := range []map[string]string{
		{"OTEL_EXPORTER_OTLP_ENDPOINT": "https://collector.example.org/base?x=y"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT": "HTTP://127.0.0.1:1"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT": "localhost:1", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
		{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "unix:///run/otel.sock", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc"},
		{"OTEL_EXPORTER_OTLP_HEADERS": " a=b%20c , d = e=f,"},
		{"OTEL_EXPORTER_OTLP_TIMEOUT": "250"},
	} {
		if err := checkExporterVariables(func(name string) (string, bool) { v, ok := good[name]; return v, ok }); err != nil {
			t.Errorf("%v: %v", good, err)
		}
	}
}
