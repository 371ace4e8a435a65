package observe

import (
	"context"
	"net/http"

	"go.opentelemetry.io/otel/trace"

	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

// extract returns ctx with the remote parent of a message: the context in params._meta, which is the
// client's, or else the one in the HTTP headers, which may be that of a proxy. If both exist, the span links to the
// latter. An invalid W3C context counts as none.
func (t *Telemetry) extract(ctx context.Context, r *http.Request, m jsonrpc.Message) (_ context.Context, links []trace.SpanStartOption) {
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

// WithRemoteParent returns ctx for work without a SERVER span, because it is no message. Its parent is the
// context in the HTTP headers, if clients may be parents.
func (t *Telemetry) WithRemoteParent(ctx context.Context, r *http.Request) context.Context {
	if t.propagator == nil || t.parent == ParentLink || t.parent == ParentIgnore {
		return ctx
	}
	header := t.propagator.Extract(ctx, instrument.HeaderCarrier(r.Header))
	return trace.ContextWithRemoteSpanContext(ctx, trace.SpanContextFromContext(header))
}
