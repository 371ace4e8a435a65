package upstream

import (
	"context"
	"crypto/rand"
	"encoding/json"

	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
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
		edits = instrument.ContextEdits(meta, c.tel.baggage, edits)
	} else {
		edits = instrument.TraceEdits(ctx, c.tel.propagator, &cl.trace, edits)
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
		for _, key := range protocol.RequestMeta() {
			edits = append(edits, jsonrpc.Edit{Name: key})
		}
	}
	if len(edits) == 0 {
		return req.Params, nil
	}
	return jsonrpc.Rewrite(req.Params, jsonrpc.Edit{Name: "_meta", Members: edits})
}

// stamp adds what a modern request has to say of its sender, specification
// 2026-07-28, basic, _meta.
func (c *Conn) stamp(req Request, edits []jsonrpc.Edit) []jsonrpc.Edit {
	who := c.who
	if req.identity != nil {
		who = *req.identity
	}
	edits = append(edits,
		jsonrpc.Edit{Name: protocol.MetaProtocolVersion, Value: jsonrpc.String(protocol.ModernVersion)},
		jsonrpc.Edit{Name: protocol.MetaClientCapabilities, Value: protocol.ModernCapabilities(who.Capabilities)})
	if len(who.ClientInfo) > 0 {
		edits = append(edits, jsonrpc.Edit{Name: protocol.MetaClientInfo, Value: who.ClientInfo})
	}
	if level := c.logLevel(); level != "" {
		edits = append(edits, jsonrpc.Edit{Name: protocol.MetaLogLevel, Value: jsonrpc.String(level)})
	}
	return edits
}

// inject puts the span of ctx into the _meta of params. Params that are no
// object stay as they are.
func (t *telemetry) inject(ctx context.Context, params json.RawMessage) json.RawMessage {
	if t.propagator == nil {
		return instrument.CheckedContext(params, t.baggage)
	}
	return instrument.InjectMeta(ctx, t.propagator, params)
}
