package upstream

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"sync/atomic"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
)

// toolParams knows the tools that a server listed last, and their arguments that are
// mirrored in headers, specification 2026-07-28, basic/transports, x-mcp-header. It
// may be used concurrently.
type toolParams struct {
	byTool atomic.Pointer[map[string][]protocol.ParamHeader]
}

// lists reports whether the server listed tool.
func (t *toolParams) lists(tool string) bool {
	m := t.byTool.Load()
	if m == nil {
		return false
	}
	_, ok := (*m)[tool]
	return ok
}

func (t *toolParams) of(tool string) []protocol.ParamHeader {
	if m := t.byTool.Load(); m != nil {
		return (*m)[tool]
	}
	return nil
}

// learn takes over what the listed tools say.
func (t *toolParams) learn(tools []json.RawMessage) {
	byTool := map[string][]protocol.ParamHeader{}
	for _, tool := range tools {
		name, headers, err := paramsOf(tool)
		if err != nil {
			headers = nil
		}
		byTool[name] = headers
	}
	t.byTool.Store(&byTool)
}

// paramsOf reads one tool of a list.
func paramsOf(tool json.RawMessage) (name string, headers []protocol.ParamHeader, err error) {
	fields, err := jsonrpc.Fields(tool, "name", "inputSchema")
	if err != nil {
		return "", nil, nil //nolint:nilerr // not what is looked for here
	}
	_ = json.Unmarshal(fields[0], &name)
	headers, err = protocol.ParamHeaders(fields[1])
	return name, headers, err
}

// ToolParams returns the arguments of a tool of the server that a modern client
// has to mirror in headers.
func (s *Server) ToolParams(tool string) []protocol.ParamHeader { return s.tools.of(tool) }

// mirrors reports whether requests of c carry headers that mirror their body.
func (c *Conn) mirrors() bool { return c.modern() && c.spec.URL != "" }

// mirror makes the headers of a modern request by HTTP, specification
// 2026-07-28, basic/transports, standard request headers.
func (c *Conn) mirror(ctx context.Context, req Request, params json.RawMessage) (http.Header, error) {
	if c.spec.URL == "" {
		return nil, nil
	}
	h := c.standard(req.Method)
	if h == nil { // the era is being found out
		h = http.Header{protocol.HeaderProtocolVersion: {protocol.ModernVersion}, protocol.HeaderMethod: {req.Method}}
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
	known := c.tools.of(tool)
	for _, p := range known { // the body decides
		h.Del(protocol.HeaderParamPrefix + p.Name)
	}
	values, err := protocol.ParamValues(known, fields[1])
	if err != nil { // for the server to judge
		c.log.DebugContext(ctx, "an argument of a tool cannot be mirrored in a header", "tool", tool, "err", err)
	}
	for name, value := range values {
		h.Set(name, value)
	}
	return h, nil
}

// standard are the headers that every modern message by HTTP has; nil on other
// connections.
func (c *Conn) standard(method string) http.Header {
	if !c.mirrors() {
		return nil
	}
	return http.Header{protocol.HeaderProtocolVersion: {protocol.ModernVersion}, protocol.HeaderMethod: {method}}
}

// withoutPoison leaves tools out of a list that a client must not use: their
// annotations for headers are invalid.
func (c *Conn) withoutPoison(ctx context.Context, response jsonrpc.Message) jsonrpc.Message {
	fields, err := jsonrpc.Fields(response.Result, "tools")
	var tools []json.RawMessage
	if err != nil || json.Unmarshal(fields[0], &tools) != nil {
		return response
	}
	kept := make([][]byte, 0, len(tools))
	for _, tool := range tools {
		name, _, err := paramsOf(tool)
		if err != nil {
			c.log.WarnContext(ctx, "a tool is left out: its x-mcp-header annotations are invalid", "tool", name, "err", err)
			continue
		}
		kept = append(kept, tool)
	}
	if len(kept) == len(tools) {
		return response
	}
	list := append(append([]byte{'['}, bytes.Join(kept, []byte{','})...), ']') // json.Marshal would compact them
	if result, err := jsonrpc.Rewrite(response.Result, jsonrpc.Edit{Name: "tools", Value: list}); err == nil {
		response.Result = result
	}
	return response
}
