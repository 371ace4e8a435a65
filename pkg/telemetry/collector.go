package telemetry

import (
	"cmp"
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// checkExporterVariables rejects invalid OTEL_EXPORTER_OTLP_* variables. The exporters
// would log them, including secrets in the value, and ignore them: with an invalid
// endpoint they would use the default one.
func checkExporterVariables(env environ) error {
	for _, signal := range []string{"", "TRACES_", "METRICS_", "LOGS_"} {
		for _, v := range []struct {
			name  string
			check func(value string) string
		}{
			{"ENDPOINT", func(value string) string { return checkEndpoint(value, usesGRPC(env, signal)) }},
			{"HEADERS", checkHeaders},
			{"TIMEOUT", checkTimeout},
		} {
			name := "OTEL_EXPORTER_OTLP_" + signal + v.name
			if value := env.get(name); value != "" {
				if want := v.check(value); want != "" {
					return fmt.Errorf("%s: want %s", name, want)
				}
			}
		}
	}
	return nil
}

// usesGRPC reports whether the exporter of the signal uses gRPC; for "" whether that of
// any signal does.
func usesGRPC(env environ, signal string) bool {
	general := env.get("OTEL_EXPORTER_OTLP_PROTOCOL")
	if signal != "" {
		return cmp.Or(env.get("OTEL_EXPORTER_OTLP_"+signal+"PROTOCOL"), general) == "grpc"
	}
	return general == "grpc" || usesGRPC(env, "TRACES_") || usesGRPC(env, "METRICS_") || usesGRPC(env, "LOGS_")
}

// Each function below returns "" for a valid value, otherwise a description of the valid
// ones. It does not quote the value, which may contain a secret.

func checkEndpoint(value string, grpc bool) string {
	u, err := url.Parse(value)
	if err == nil && grpc { // gRPC also accepts localhost:4317 and unix:///path
		return ""
	}
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return "a URL such as http://127.0.0.1:4318"
	}
	return ""
}

func checkHeaders(value string) string {
	for i, header := range strings.Split(value, ",") {
		if strings.TrimSpace(header) == "" {
			continue
		}
		name, content, ok := strings.Cut(header, "=")
		_, err := url.PathUnescape(content)
		if !ok || err != nil || !isToken(strings.TrimSpace(name)) {
			return fmt.Sprintf("name=value,name=value with special characters as %%XX; entry %d is different", i+1)
		}
	}
	return ""
}

// isToken reports whether s is a valid header name (RFC 9110, section 5.6.2).
func isToken(s string) bool {
	for _, c := range s {
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
			strings.ContainsRune("!#$%&'*+-.^_`|~", c)) {
			return false
		}
	}
	return s != ""
}

func checkTimeout(value string) string {
	if _, err := strconv.Atoi(value); err != nil {
		return "a number of milliseconds"
	}
	return ""
}
