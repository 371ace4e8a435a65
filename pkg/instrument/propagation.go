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

// CheckedContext returns params as they may go on where the hub traces nothing,
// and so is no hop of the trace: a valid context in _meta stays byte for byte,
// what is no W3C context goes, and of baggage what the list of keys allows stays.
// Params without a context are not parsed.
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

// mayHaveContext reports whether raw may have a context in it: one of the keys
// occurs, or something is escaped, as a key can be.
func mayHaveContext(raw json.RawMessage) bool {
	return bytes.Contains(raw, []byte(`"trace`)) || bytes.Contains(raw, []byte(`"baggage"`)) || bytes.Contains(raw, []byte(`\u`))
}

// contextEdits are the edits that make the context in meta one that may go on.
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
	if fields[1] != nil && remote.TraceState().Len() == 0 { // it means nothing without a traceparent
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

// WithAllowedBaggage returns ctx with the members of its baggage whose keys are
// allowed: it can carry what is nobody's business beyond the hub.
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

// allowedBaggage returns the members of baggage whose keys are allowed, as they
// are. What is no baggage is none.
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

// traceEdits puts the span of ctx into _meta, see SEP-414. What the caller sent
// there does not go further.
func TraceEdits(ctx context.Context, p propagation.TextMapPropagator, carrier *MetaCarrier, edits []jsonrpc.Edit) []jsonrpc.Edit {
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

// InjectMeta returns params with the span of ctx in their _meta, see SEP-414;
// as they are where there is no span, or p is nil.
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

// ExtractMeta returns ctx with the trace context of params._meta, if there is a
// valid one (SEP-414).
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
