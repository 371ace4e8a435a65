package upstream

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
)

// requestHeader implements dialect, see specification 2026-07-28, basic/transports, standard request headers.
func (d *modernDialect) requestHeader(ctx context.Context, req Request, params json.RawMessage) (http.Header, error) {
	h := d.standardHeader(req.Method)
	if h == nil {
		return nil, nil
	}
	if member := protocol.NamedBy(req.Method); member != "" {
		if name, ok := jsonrpc.StringField(params, member); ok {
			h.Set(protocol.HeaderName, protocol.EncodeHeader(name))
		}
	}
	for name, values := range req.Header {
		if strings.HasPrefix(name, protocol.HeaderParamPrefix) {
			h[name] = values
		}
	}
	if req.Method != protocol.MethodToolsCall {
		return h, nil
	}
	fields, err := jsonrpc.Fields(params, "name", "arguments")
	if err != nil {
		return nil, err
	}
	var tool string
	_ = json.Unmarshal(fields[0], &tool)
	known := d.conn.tools.of(tool)
	for _, p := range known { // the body counts, not the caller's header
		h.Del(protocol.HeaderParamPrefix + p.Name)
	}
	values, err := protocol.ParamValues(known, fields[1])
	if err != nil { // the server decides whether that is an error
		d.conn.tel.log.DebugContext(ctx, "an argument of a tool cannot be mirrored in a header", "tool", tool, "err", err)
	}
	for name, value := range values {
		h.Set(name, value)
	}
	return h, nil
}

// adaptResponse implements dialect. It removes the tools from a list that clients must not use because their
// annotations for headers are invalid.
func (d *modernDialect) adaptResponse(ctx context.Context, req Request, response jsonrpc.Message) jsonrpc.Message {
	if req.Method != protocol.MethodToolsList || !d.overHTTP() {
		return response
	}
	fields, err := jsonrpc.Fields(response.Result, "tools")
	var tools []json.RawMessage
	if err != nil || json.Unmarshal(fields[0], &tools) != nil {
		return response
	}
	kept := make([][]byte, 0, len(tools))
	for _, tool := range tools {
		name, _, err := paramHeadersOf(tool)
		if err != nil {
			d.conn.tel.log.WarnContext(ctx, "a tool is left out: its x-mcp-header annotations are invalid", "tool", name, "err", err)
			continue
		}
		kept = append(kept, tool)
	}
	if len(kept) == len(tools) {
		return response
	}
	list := append(append([]byte{'['}, bytes.Join(kept, []byte{','})...), ']') // json.Marshal would compact the tools
	if result, err := jsonrpc.Rewrite(response.Result, jsonrpc.Edit{Name: "tools", Value: list}); err == nil {
		response.Result = result
	}
	return response
}
