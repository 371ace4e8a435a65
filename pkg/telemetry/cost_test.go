//go:build !race

package telemetry

import (
	"context"
	"io"
	"testing"
)

func TestRecordsBelowTheLevelAllocateNothing(t *testing.T) {
	tel, err := Start(t.Context(), Config{Stderr: io.Discard, Lookup: func(string) (string, bool) { return "", false }})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tel.Shutdown(context.Background()) }()
	log, ctx := tel.LoggerFor("gateway"), t.Context()
	if n := testing.AllocsPerRun(1000, func() { log.DebugContext(ctx, "x", "session", "s", "method", "m") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
