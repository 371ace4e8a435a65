package session_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/mcphub-go/mcphub/pkg/session"
)

// traced returns a Manager, its store, a tracer and a function that returns the spans
// that have ended since its last call, by name.
func traced(t *testing.T) (*session.Manager, *faulty, trace.Tracer, func() map[string]sdktrace.ReadOnlySpan) {
	t.Helper()
	spans, store := tracetest.NewSpanRecorder(), newFaulty()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))
	m := session.New(store, session.Config{TracerProvider: provider})
	return m, store, provider.Tracer("test"), func() map[string]sdktrace.ReadOnlySpan {
		by := map[string]sdktrace.ReadOnlySpan{}
		for _, s := range spans.Ended() {
			by[s.Name()] = s
		}
		spans.Reset()
		return by
	}
}

func attr(s sdktrace.ReadOnlySpan, key string) attribute.Value {
	for _, a := range s.Attributes() {
		if string(a.Key) == key {
			return a.Value
		}
	}
	return attribute.Value{}
}

func TestEveryStepOfASessionIsASpan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, store, tracer, ended := traced(t)
		ctx, request := tracer.Start(t.Context(), "request")
		s, _, err := m.Create(ctx, session.Session{})
		check(t, err)
		rename(t, m, s.ID, "renamed")
		got := ended()
		expectSpan(t, got["mcphub.session.create"], request, "mcp.session.id", s.ID)
		expectSpan(t, got["mcphub.session.flush"], nil, "mcphub.session.count", int64(1))
		expectSpan(t, got["mcphub.session.flush"], nil, "mcphub.session.durable_count", int64(1))

		check(t, m.Flush(ctx))
		expectSpan(t, ended()["mcphub.session.flush"], nil, "mcphub.session.durable_count", int64(0))

		if _, err := m.End(ctx, s.ID, session.ClientDelete); err != nil {
			t.Error(err)
		}
		got = ended()
		expectSpan(t, got["mcphub.session.delete"], request, "mcp.session.id", s.ID)
		expectSpan(t, got["mcphub.session.delete"], request, "mcphub.session.end_reason", "client_delete")
		expectSpan(t, got["mcphub.session.flush"], nil, "mcphub.session.count", int64(1))

		put(t, store, "s1", fresh("s1"))
		put(t, store, "s2", fresh("s2"))
		check(t, m.Restore(ctx))
		expectSpan(t, ended()["mcphub.session.restore"], nil, "mcphub.session.count", int64(2))
		_, _ = m.Has(ctx, "s1"), m.Has(ctx, "s2")
		time.Sleep(time.Hour)
		if n, err := m.Cleanup(ctx); n != 2 || err != nil {
			t.Errorf("Cleanup = %d, %v", n, err)
		}
		expectSpan(t, ended()["mcphub.session.cleanup"], nil, "mcphub.session.count", int64(2))
		request.End()
	})
}

func expectSpan(t *testing.T, s sdktrace.ReadOnlySpan, parent trace.Span, key string, want any) {
	t.Helper()
	if s == nil {
		t.Fatal("there is no such span")
	}
	if s.SpanKind() != trace.SpanKindInternal || s.Status().Code == codes.Error {
		t.Errorf("%s has kind %v and status %v", s.Name(), s.SpanKind(), s.Status())
	}
	var id trace.SpanID
	if parent != nil {
		id = parent.SpanContext().SpanID()
	}
	if got := s.Parent().SpanID(); got != id {
		t.Errorf("%s has the parent %v; want %v", s.Name(), got, id)
	}
	if got := attr(s, key).AsInterface(); got != want {
		t.Errorf("%s has %s = %v; want %v", s.Name(), key, got, want)
	}
}

func TestFailureIsTheStatusOfItsSpan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, store, _, ended := traced(t)
		deleted, _ := create(t, m)
		create(t, m)
		ended()
		store.fail(errDisk)
		store.onKeys = func() error { return errDisk }
		_, _, _ = m.Create(t.Context(), session.Session{})
		_, _ = m.End(t.Context(), deleted.ID, session.Admin)
		time.Sleep(time.Hour)
		_, _ = m.Cleanup(t.Context())
		_ = m.Restore(t.Context())
		got := ended()
		for _, name := range []string{"create", "delete", "flush", "cleanup", "restore"} {
			s := got["mcphub.session."+name]
			if s == nil || s.Status().Code != codes.Error || s.Status().Description == "" {
				t.Errorf("the span of a failed %s is %v", name, s)
			}
		}
	})
}

func TestBatchLinksToSomeOfItsSessionsAndToItsCallers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, _, tracer, ended := traced(t)
		var created []trace.SpanID
		for range 3 {
			s, _, err := m.Create(t.Context(), session.Session{})
			check(t, err)
			rename(t, m, s.ID, "renamed")
			created = append(created, ended()["mcphub.session.create"].SpanContext().SpanID())
		}
		ctx, waiting := tracer.Start(t.Context(), "waiting")
		check(t, m.Flush(ctx))
		links := ended()["mcphub.session.flush"].Links()
		if len(links) != 4 || links[0].SpanContext.SpanID() != waiting.SpanContext().SpanID() {
			t.Errorf("the links are %v", links)
		}
		for _, l := range links[1:] {
			if !slices.Contains(created, l.SpanContext.SpanID()) {
				t.Errorf("a link to %v", l.SpanContext)
			}
		}

		for range 100 {
			s, _, err := m.Create(t.Context(), session.Session{})
			check(t, err)
			rename(t, m, s.ID, "renamed")
		}
		ended()
		check(t, m.Flush(t.Context()))
		if n := len(ended()["mcphub.session.flush"].Links()); n != 32 {
			t.Errorf("a batch of 100 sessions has %d links", n)
		}
	})
}
