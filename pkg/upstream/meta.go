package upstream

import (
	"context"
	"crypto/rand"
	"encoding/json"

	"github.com/mark3labs/mcp-go/mcp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

// prepare makes the params that the server gets of those of the caller: _meta
// gets the trace context of the call (SEP-414), a progress token that is unique
// on this connection and, if need be, what a modern request says of itself.
func (c *Conn) prepare(ctx context.Context, cl *call, req Request) (json.RawMessage, error) {
	if len(req.Params) > 0 && req.Params[0] != '{' { // a list, which methods that are not MCP's may have
		return req.Params, nil
	}
	meta, err := jsonrpc.Field(req.Params, "_meta")
	if err != nil {
		return nil, err
	}
	token, err := jsonrpc.Field(meta, "progressToken")
	if err != nil {
		return nil, err
	}
	edits := make([]jsonrpc.Edit, 0, 8)
	if c.tel.propagator == nil {
		edits = contextEdits(meta, c.tel.baggage, edits)
	} else {
		edits = traceEdits(ctx, c.tel.propagator, &cl.trace, edits)
	}
	if token != nil {
		c.mu.Lock()
		cl.token, cl.progress = append(json.RawMessage(nil), token...), jsonrpc.ID(jsonrpc.String(rand.Text()))
		c.tokens[cl.progress] = cl
		c.mu.Unlock()
		edits = append(edits, jsonrpc.Edit{Name: "progressToken", Value: json.RawMessage(cl.progress)})
	}
	switch {
	case req.stamped:
		edits = c.stamp(req, edits)
	case req.Modern && !c.modern() && meta != nil:
		for _, key := range modernKeys {
			edits = append(edits, jsonrpc.Edit{Name: key})
		}
	}
	if len(edits) == 0 {
		return req.Params, nil
	}
	return jsonrpc.Rewrite(req.Params, jsonrpc.Edit{Name: "_meta", Members: edits})
}

// modernKeys are the members of _meta that mean nothing to a legacy server.
var modernKeys = []string{mcp.MetaKeyProtocolVersion, mcp.MetaKeyClientCapabilities, mcp.MetaKeyClientInfo, mcp.MetaKeyLogLevel}

// stamp adds what a modern request has to say of its sender, specification
// 2026-07-28, basic, _meta.
func (c *Conn) stamp(req Request, edits []jsonrpc.Edit) []jsonrpc.Edit {
	who := c.who
	if req.identity != nil {
		who = *req.identity
	}
	edits = append(edits,
		jsonrpc.Edit{Name: mcp.MetaKeyProtocolVersion, Value: jsonrpc.String(ModernVersion)},
		jsonrpc.Edit{Name: mcp.MetaKeyClientCapabilities, Value: modernCapabilities(who.Capabilities)})
	if len(who.ClientInfo) > 0 {
		edits = append(edits, jsonrpc.Edit{Name: mcp.MetaKeyClientInfo, Value: who.ClientInfo})
	}
	if level := c.logLevel(); level != "" {
		edits = append(edits, jsonrpc.Edit{Name: mcp.MetaKeyLogLevel, Value: jsonrpc.String(level)})
	}
	return edits
}

// modernCapabilities are the capabilities of a legacy client as a modern request
// declares them: there are no tasks of 2025-11-25, and roots do not change.
func modernCapabilities(legacy json.RawMessage) json.RawMessage {
	fields, err := jsonrpc.Fields(legacy, "roots", "tasks", "extensions")
	if err != nil || len(legacy) == 0 {
		return json.RawMessage(`{}`)
	}
	edits := []jsonrpc.Edit{{Name: "tasks"}, {Name: "extensions", Value: withoutTasks(fields[2])}}
	if fields[0] != nil {
		edits = append(edits, jsonrpc.Edit{Name: "roots", Value: json.RawMessage(`{}`)})
	}
	out, err := jsonrpc.Rewrite(legacy, edits...)
	if err != nil {
		return json.RawMessage(`{}`)
	}
	return out
}

// withoutTasks takes the tasks extension out of extensions: the hub does not
// poll on behalf of clients that do not know it.
func withoutTasks(extensions json.RawMessage) json.RawMessage {
	if extensions == nil {
		return nil
	}
	out, err := jsonrpc.Rewrite(extensions, jsonrpc.Edit{Name: "io.modelcontextprotocol/tasks"})
	if err != nil {
		return nil
	}
	return out
}

// traceEdits puts the span of ctx into _meta, see SEP-414. What the caller sent
// there does not go further.
func traceEdits(ctx context.Context, p propagation.TextMapPropagator, carrier *metaCarrier, edits []jsonrpc.Edit) []jsonrpc.Edit {
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

// inject puts the span of ctx into the _meta of params. Params that are no
// object stay as they are.
func (t *telemetry) inject(ctx context.Context, params json.RawMessage) json.RawMessage {
	if t.propagator == nil {
		return CheckedContext(params, t.baggage)
	}
	return InjectMeta(ctx, t.propagator, params)
}

// InjectMeta returns params with the span of ctx in their _meta, see SEP-414;
// as they are where there is no span, or p is nil.
func InjectMeta(ctx context.Context, p propagation.TextMapPropagator, params json.RawMessage) json.RawMessage {
	edits := traceEdits(ctx, p, &metaCarrier{}, nil)
	if len(edits) == 0 {
		return params
	}
	out, err := jsonrpc.Rewrite(params, jsonrpc.Edit{Name: "_meta", Members: edits})
	if err != nil {
		return params
	}
	return out
}
