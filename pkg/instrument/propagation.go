package instrument

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"strings"

	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

// CheckedContext returns params with a trace context in _meta that the hub may forward. It is for a hub that does not
// trace and therefore is no hop of the trace: a valid W3C context stays byte for byte, an invalid one is removed, and
// the baggage keeps the members whose keys are allowed. Params without a context are not parsed.
func CheckedContext(params json.RawMessage, allowed []string) json.RawMessage {
	if !mayHaveContext(params) {
		return params
	}
	fields, err := jsonrpc.Fields(params, "_meta")
	if err != nil || fields[0] == nil {
		return params
	}
	edits := ContextEdits(fields[0], allowed, nil)
	if len(edits) == 0 {
		return params
	}
	meta, err := jsonrpc.Rewrite(fields[0], edits...)
	if err != nil {
		return params
	}
	out, err := jsonrpc.Rewrite(params, jsonrpc.Edit{Name: "_meta", Value: meta})
	if err != nil {
		return params
	}
	return out
}

// mayHaveContext reports whether raw may contain a trace context: one of traceKeys occurs, or an escape, because a key
// can be escaped.
func mayHaveContext(raw json.RawMessage) bool {
	return bytes.Contains(raw, []byte(`"trace`)) || bytes.Contains(raw, []byte(`"baggage"`)) ||
		bytes.Contains(raw, []byte(`\u`))
}

// ContextEdits appends to edits the edits of meta that CheckedContext makes, and returns the result.
func ContextEdits(meta json.RawMessage, allowed []string, edits []jsonrpc.Edit) []jsonrpc.Edit {
	if !mayHaveContext(meta) {
		return edits
	}
	fields, err := jsonrpc.Fields(meta, traceKeys[:]...)
	if err != nil {
		return edits
	}
	carrier := propagation.MapCarrier{}
	for i, key := range traceKeys {
		if fields[i] != nil {
			carrier[key], _ = jsonrpc.StringField(meta, key)
		}
	}
	remote := trace.SpanContextFromContext(propagation.TraceContext{}.Extract(context.Background(), carrier))
	if fields[0] != nil && !remote.IsValid() {
		edits = append(edits, jsonrpc.Edit{Name: "traceparent"})
	}
	if fields[1] != nil && remote.TraceState().Len() == 0 { // it has no meaning without a traceparent
		edits = append(edits, jsonrpc.Edit{Name: "tracestate"})
	}
	if fields[2] != nil {
		if kept := allowedBaggage(carrier["baggage"], allowed); kept == "" {
			edits = append(edits, jsonrpc.Edit{Name: "baggage"})
		} else if kept != carrier["baggage"] {
			edits = append(edits, jsonrpc.Edit{Name: "baggage", Value: jsonrpc.String(kept)})
		}
	}
	return edits
}

// WithAllowedBaggage returns ctx with only those members of its baggage whose keys are allowed. Baggage can contain
// private data, which must not leave the hub.
func WithAllowedBaggage(ctx context.Context, allowed []string) context.Context {
	all := baggage.FromContext(ctx)
	if all.Len() == 0 {
		return ctx
	}
	for _, member := range all.Members() {
		if !slices.Contains(allowed, member.Key()) {
			all = all.DeleteMember(member.Key())
		}
	}
	return baggage.ContextWithBaggage(ctx, all)
}

// allowedBaggage returns the members of a baggage header whose keys are allowed, byte for byte. It returns "" for
// invalid baggage.
func allowedBaggage(text string, allowed []string) string {
	if len(allowed) == 0 {
		return ""
	}
	if _, err := baggage.Parse(text); err != nil {
		return ""
	}
	var kept []string
	for member := range strings.SplitSeq(text, ",") {
		key, _, _ := strings.Cut(member, "=")
		if slices.Contains(allowed, strings.TrimSpace(key)) {
			kept = append(kept, member)
		}
	}
	return strings.Join(kept, ",")
}

// TraceEdits appends to edits the edits that put the trace context of ctx into _meta (SEP-414), and returns the result.
// They replace or remove the trace context of the caller. It returns edits as they are if ctx has no span or p is nil.
// carrier is scratch space, so that the caller decides where it is allocated; it must be empty.
func TraceEdits(
	ctx context.Context, p propagation.TextMapPropagator, carrier *MetaCarrier, edits []jsonrpc.Edit,
) []jsonrpc.Edit {
	if p == nil || !trace.SpanContextFromContext(ctx).IsValid() {
		return edits
	}
	p.Inject(ctx, carrier)
	for i, key := range traceKeys {
		e := jsonrpc.Edit{Name: key}
		if v := carrier[i]; v != "" {
			e.Value = jsonrpc.String(v)
		}
		edits = append(edits, e)
	}
	return edits
}

// InjectMeta returns params with the trace context of ctx in their _meta (SEP-414). It returns params as they are if
// ctx has no span or p is nil.
func InjectMeta(ctx context.Context, p propagation.TextMapPropagator, params json.RawMessage) json.RawMessage {
	edits := TraceEdits(ctx, p, &MetaCarrier{}, nil)
	if len(edits) == 0 {
		return params
	}
	out, err := jsonrpc.Rewrite(params, jsonrpc.Edit{Name: "_meta", Members: edits})
	if err != nil {
		return params
	}
	return out
}

// ExtractMeta returns ctx with the trace context of params._meta (SEP-414). It returns ctx as it is if there is no
// valid trace context.
func ExtractMeta(ctx context.Context, p propagation.TextMapPropagator, params json.RawMessage) context.Context {
	meta, err := jsonrpc.Field(params, "_meta")
	if err != nil || meta == nil {
		return ctx
	}
	if remote := p.Extract(ctx, metaReader(meta)); trace.SpanContextFromContext(remote).IsRemote() {
		return remote
	}
	return ctx
}
