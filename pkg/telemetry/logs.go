package telemetry

import (
	"context"
	"fmt"
	"io"
	"log/slog"

	"go.opentelemetry.io/contrib/bridges/otelslog"
	"go.opentelemetry.io/contrib/exporters/autoexport"
	"go.opentelemetry.io/otel/exporters/stdout/stdoutlog"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	"go.opentelemetry.io/otel/sdk/resource"
)

// logsWanted reports whether the environment requests the export of log records. An endpoint
// alone does not: most collectors read the log of a process from its stderr, and would get
// every record twice.
func logsWanted(env environ) bool {
	kind := env.get("OTEL_LOGS_EXPORTER")
	return kind != "" && kind != "none"
}

func newLogExporter(ctx context.Context, env environ, stderr io.Writer) (sdklog.Exporter, error) {
	switch kind := env.get("OTEL_LOGS_EXPORTER"); kind {
	case "console": // autoexport would write to stdout
		return stdoutlog.New(stdoutlog.WithWriter(stderr))
	case "otlp":
	default:
		return nil, fmt.Errorf("OTEL_LOGS_EXPORTER=%q: want otlp, console or none", kind)
	}
	exporter, err := autoexport.NewLogExporter(ctx)
	if err != nil {
		return nil, fmt.Errorf("log exporter (OTEL_LOGS_EXPORTER, OTEL_EXPORTER_OTLP_*): %w", err)
	}
	return exporter, nil
}

// newLoggerProvider returns a provider that exports records in batches.
func newLoggerProvider(exporter sdklog.Exporter, g guard, q *queue, res *resource.Resource) *sdklog.LoggerProvider {
	batch := sdklog.NewBatchProcessor(logExporter{exporter, g, q}, sdklog.WithMaxQueueSize(int(q.size)))
	return sdklog.NewLoggerProvider(sdklog.WithProcessor(logProcessor{batch, q}), sdklog.WithResource(res))
}

// newBridge returns the handler that sends records to provider.
func newBridge(provider *sdklog.LoggerProvider) slog.Handler {
	return otelslog.NewHandler("github.com/mcphub-go/mcphub", otelslog.WithLoggerProvider(provider))
}
