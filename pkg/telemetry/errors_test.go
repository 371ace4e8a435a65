package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func newTestReporter(stderr *buffer) *reporter {
	return newReporter(slog.New(slog.NewJSONHandler(stderr, nil)), newMetrics(prometheus.NewRegistry()).exportErrors)
}

func TestEachClassOfErrorIsLoggedOnceInTenSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stderr := new(buffer)
		r := newTestReporter(stderr)
		for range 100 {
			r.report(signalTraces, context.DeadlineExceeded)
			r.report(signalTraces, fmt.Errorf("export: %w", errors.Join(errors.New("401"))))
			r.report(signalMetrics, context.DeadlineExceeded)
		}
		if got := stderr.records(t); len(got) != 3 {
			t.Fatalf("%d records, want 3: %s", len(got), stderr)
		}
		time.Sleep(logInterval)
		r.report(signalTraces, context.DeadlineExceeded)
		last := stderr.records(t)[3]
		if last["suppressed"] != 99.0 || last["signal"] != "traces" || last["level"] != "WARN" {
			t.Errorf("record is %v", last)
		}
		if got := testutil.ToFloat64(r.count.WithLabelValues(signalTraces)); got != 201 {
			t.Errorf("counted %v, want 201", got)
		}
	})
}

func TestErrorsFromClientsCreateNoNewClasses(t *testing.T) {
	stderr := new(buffer)
	r := newTestReporter(stderr)
	for i := range 100 {
		r.Handle(fmt.Errorf("baggage %d is invalid: %w", i, errors.New(strings.Repeat("x", 10_000))))
	}
	if len(r.classes) != 1 {
		t.Errorf("%d classes", len(r.classes))
	}
	if text := stderr.records(t)[0]["err"].(string); len(text) > maxErrorLen {
		t.Errorf("%d bytes of the error are logged", len(text))
	}
}

func TestGlobalHandlerIgnoresReportedErrors(t *testing.T) {
	stderr := new(buffer)
	r := newTestReporter(stderr)
	r.Handle(nil)
	r.Handle(fmt.Errorf("reader: %w", &exportError{errors.New("refused")}))
	if s := stderr.String(); s != "" {
		t.Errorf("log: %s", s)
	}
}
