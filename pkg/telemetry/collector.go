package telemetry

import (
	"cmp"
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// checkCollector refuses what the exporters would complain of and leave out:
// with an endpoint that cannot be read they go on to one that nobody named. They
// also put the whole value into the log, which may hold a secret.
func checkCollector(env environ) error {
	for _, signal := range []string{"", "TRACES_", "METRICS_", "LOGS_"} {
		for _, v := range []struct {
			name  string
			check func(value string) string
		}{
			{"ENDPOINT", func(value string) string { return endpointProblem(value, speaksGRPC(env, signal)) }},
			{"HEADERS", headersProblem},
			{"TIMEOUT", timeoutProblem},
		} {
			name := "OTEL_EXPORTER_OTLP_" + signal + v.name
			if value := env.get(name); value != "" {
				if problem := v.check(value); problem != "" {
					return fmt.Errorf("%s: want %s", name, problem)
				}
			}
		}
	}
	return nil
}

// speaksGRPC reports whether an exporter of the signal does, or one of all for "".
func speaksGRPC(env environ, signal string) bool {
	general := env.get("OTEL_EXPORTER_OTLP_PROTOCOL")
	if signal != "" {
		return cmp.Or(env.get("OTEL_EXPORTER_OTLP_"+signal+"PROTOCOL"), general) == "grpc"
	}
	return general == "grpc" || speaksGRPC(env, "TRACES_") || speaksGRPC(env, "METRICS_") || speaksGRPC(env, "LOGS_")
}

// The functions below say what is wanted instead of a value, "" for nothing.

func endpointProblem(value string, grpc bool) string {
	u, err := url.Parse(value)
	if err == nil && grpc { // dials more than URLs: localhost:4317, unix:///path
		return ""
	}
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return "a URL such as http://127.0.0.1:4318"
	}
	return ""
}

func headersProblem(value string) string {
	for i, header := range strings.Split(value, ",") {
		if strings.TrimSpace(header) == "" {
			continue
		}
		name, content, ok := strings.Cut(header, "=")
		_, err := url.PathUnescape(content)
		if !ok || err != nil || !isToken(strings.TrimSpace(name)) {
			return fmt.Sprintf("name=value,name=value with %%XX for what is special; entry %d is not so", i+1)
		}
	}
	return ""
}

// isToken reports whether s can be the name of a header, RFC 9110, 5.6.2.
func isToken(s string) bool {
	for _, c := range s {
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.ContainsRune("!#$%&'*+-.^_`|~", c)) {
			return false
		}
	}
	return s != ""
}

func timeoutProblem(value string) string {
	if _, err := strconv.Atoi(value); err != nil {
		return "a number of milliseconds"
	}
	return ""
}
