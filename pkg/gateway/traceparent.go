package gateway

import (
	"context"
	"net/http"

	"go.opentelemetry.io/otel/trace"

	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

// TraceParent says what becomes of the trace context that a client sends.
type TraceParent string

// What can become of it.
const (
	ParentRemote TraceParent = "remote" // the client's span is the parent; the default
	ParentLink   TraceParent = "link"   // the hub begins a trace, which links to the client's span
	ParentIgnore TraceParent = "ignore"
)

// extract finds the remote parent of a message: that of params._meta, which is
// the client's, else that of the HTTP headers, which may be of something in
// between. If both are there, the span links to the latter. What is no valid
// W3C context counts as none.
func (t *telemetry) extract(ctx context.Context, r *http.Request, m jsonrpc.Message) (_ context.Context, links []trace.SpanStartOption) {
	if t.parent == ParentIgnore {
		return ctx, nil
	}
	header := t.propagator.Extract(ctx, instrument.HeaderCarrier(r.Header))
	meta := instrument.ExtractMeta(ctx, t.propagator, m.Params)
	from, ambient := trace.SpanContextFromContext(meta), trace.SpanContextFromContext(header)
	parent := meta
	switch {
	case !from.IsValid():
		parent = header
	case ambient.IsValid() && ambient.SpanID() != from.SpanID():
		links = append(links, trace.WithLinks(trace.Link{SpanContext: ambient}))
	}
	if t.parent == ParentLink {
		if sc := trace.SpanContextFromContext(parent); sc.IsValid() {
			links = append(links, trace.WithNewRoot(), trace.WithLinks(trace.Link{SpanContext: sc}))
		}
	}
	return instrument.WithAllowedBaggage(parent, t.baggage), links
}

// below returns ctx for work that has no SERVER span, since it is no message:
// it is part of the trace of the HTTP headers, if that may be the parent.
func (t *telemetry) below(ctx context.Context, r *http.Request) context.Context {
	if t.propagator == nil || t.parent == ParentLink || t.parent == ParentIgnore {
		return ctx
	}
	header := t.propagator.Extract(ctx, instrument.HeaderCarrier(r.Header))
	return trace.ContextWithRemoteSpanContext(ctx, trace.SpanContextFromContext(header))
}
