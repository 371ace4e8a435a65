package gateway

import (
	"cmp"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"strings"

	"github.com/mcphub-go/mcphub/pkg/budget"
	"github.com/mcphub-go/mcphub/pkg/gateway/observe"
	"github.com/mcphub-go/mcphub/pkg/gateway/stream"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
	"github.com/mcphub-go/mcphub/pkg/session"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

// modernRequest is one request of a modern client, parsed once.
type modernRequest struct {
	message jsonrpc.Message
	name    string          // the value that Mcp-Name mirrors: a tool, prompt, resource or task
	named   bool            // the request has a name
	token   json.RawMessage // the progress token; nil: none
	client  modernClient

	ctx context.Context //nolint:containedctx // with the span and the derived session
	op  *observe.Operation
	out *stream.Stream // of the response; nil for server/discover and subscriptions/listen

	group  *budget.Account // of all requests of the client; nil: no limit
	memory budget.Account  // for what waits to be written
}

// modernClient is the client of a modern request, as _meta and the HTTP request describe it.
type modernClient struct {
	identity  upstream.Identity
	name      string // of clientInfo
	version   string // of clientInfo
	logLevel  string // empty: the client wants no log messages
	principal string // the authenticated client; empty: anonymous
	cwd       string // the working directory
	ip        string
	headers   http.Header // Mcp-Param-*
}

// refuse answers the request with an error instead of a stream.
func (req *modernRequest) refuse(w http.ResponseWriter, e *jsonrpc.Error) {
	response := jsonrpc.NewError(req.message.ID, e)
	req.op.End(req.ctx, response, nil)
	req.op.Respond(req.ctx, response)
	status := modernStatus(e.Code)
	if e == errMemoryFull {
		status = memoryStatus(w.Header(), e)
	}
	refuse(w, status, req.message.ID, e)
}

// retry returns the requestState of the request, or nil, and its inputResponses.
func (req *modernRequest) retry() (state *string, answers json.RawMessage, e *jsonrpc.Error) {
	fields, err := jsonrpc.Fields(req.message.Params, "requestState", "inputResponses")
	if err != nil {
		return nil, nil, jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "invalid params: %v", err)
	}
	if fields[0] == nil {
		return nil, fields[1], nil
	}
	state = new(string)
	if json.Unmarshal(fields[0], state) != nil {
		return nil, nil, jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "requestState is not a string")
	}
	return state, fields[1], nil
}

// isModern reports whether a message belongs to the modern era. Versions are dates, which compare as
// strings. A request that names its version only in _meta is modern, too, and is refused for the missing header.
func isModern(r *http.Request, m jsonrpc.Message) bool {
	if version := r.Header.Get(protocol.HeaderProtocolVersion); version != "" {
		return version >= protocol.ModernVersion
	}
	if r.Header.Get(protocol.HeaderSessionID) != "" || m.Kind() != jsonrpc.Request {
		return false
	}
	meta, err := jsonrpc.Fields(m.Params, "_meta")
	if err != nil {
		return false
	}
	version, err := jsonrpc.Fields(meta[0], protocol.MetaProtocolVersion)
	return err == nil && version[0] != nil
}

// isRemoved reports whether the modern protocol has removed a method of the legacy one. Legacy servers
// know it, modern clients do not.
func isRemoved(method string) bool {
	switch method {
	case protocol.MethodInitialize, protocol.MethodPing, protocol.MethodLoggingSetLevel,
		protocol.MethodResourcesSubscribe, protocol.MethodResourcesUnsubscribe, protocol.MethodTasksList, protocol.MethodTasksResult,
		protocol.MethodSamplingCreateMessage, protocol.MethodElicitationCreate, protocol.MethodRootsList:
		return true
	}
	return false
}

// parseModern reads and checks the headers and _meta of a request, specification 2026-07-28, basic, _meta, and
// basic/transports, standard request headers.
func (c *core) parseModern(r *http.Request, req *modernRequest) *jsonrpc.Error {
	for _, name := range []string{protocol.HeaderProtocolVersion, protocol.HeaderMethod, protocol.HeaderName} {
		if len(r.Header.Values(name)) > 1 {
			return jsonrpc.Errorf(protocol.CodeHeaderMismatch, "there is more than one %s header", name)
		}
	}
	header := r.Header.Get(protocol.HeaderProtocolVersion)
	version, e := req.parseMeta()
	if e != nil && (version == "" || version == header) && header != "" && header != protocol.ModernVersion {
		e = unsupportedVersion(header) // the rules of that version are not known
	}
	switch {
	case e != nil:
		return e
	case header == "":
		return jsonrpc.Errorf(protocol.CodeHeaderMismatch, "the MCP-Protocol-Version header is missing")
	case header != version:
		return jsonrpc.Errorf(protocol.CodeHeaderMismatch, "the MCP-Protocol-Version header and the protocolVersion in _meta differ")
	case version != protocol.ModernVersion:
		return unsupportedVersion(version)
	}
	c.addClient(r, &req.client)
	if e := req.parseName(); e != nil {
		return e
	}
	if err := protocol.CheckStandard(r.Header, req.message.Method, req.name, req.named); err != nil {
		return jsonrpc.Errorf(protocol.CodeHeaderMismatch, "%v", err)
	}
	if isRemoved(req.message.Method) {
		return jsonrpc.Errorf(jsonrpc.CodeMethodNotFound, "there is no method %s in protocol version %s", req.message.Method, version)
	}
	if req.message.Method == protocol.MethodToolsCall {
		if err := c.checkArguments(r, req); err != nil {
			return jsonrpc.Errorf(protocol.CodeHeaderMismatch, "%v", err)
		}
	}
	return nil
}

// parseMeta reads params._meta, and returns the protocol version that it names.
func (req *modernRequest) parseMeta() (version string, e *jsonrpc.Error) {
	missing := func(what string) *jsonrpc.Error {
		return jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "params._meta needs %q", what)
	}
	params, err := jsonrpc.Fields(req.message.Params, "_meta")
	if err != nil {
		return "", jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "invalid params: %v", err)
	}
	meta, err := jsonrpc.Fields(params[0], protocol.MetaProtocolVersion, protocol.MetaClientCapabilities, protocol.MetaClientInfo,
		protocol.MetaLogLevel, "progressToken")
	if err != nil {
		return "", jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "invalid params._meta: %v", err)
	}
	capabilities, info, level := meta[1], meta[2], meta[3]
	req.token = meta[4]
	if json.Unmarshal(meta[0], &version) != nil || version == "" {
		return "", missing(protocol.MetaProtocolVersion)
	}
	if len(capabilities) == 0 || capabilities[0] != '{' {
		return version, missing(protocol.MetaClientCapabilities)
	}
	if len(capabilities)+len(info) > maxCapabilities {
		return version, jsonrpc.Errorf(jsonrpc.CodeInvalidParams,
			"the capabilities and info of a client may have %d bytes together", maxCapabilities)
	}
	if len(info) > 0 && info[0] != '{' {
		return version, jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "params._meta: %q is not an object", protocol.MetaClientInfo)
	}
	c := &req.client
	c.name, _ = jsonrpc.StringField(info, "name")
	c.version, _ = jsonrpc.StringField(info, "version")
	c.identity = upstream.Identity{ClientInfo: completeInfo(info), Capabilities: capabilities}
	if level != nil && (json.Unmarshal(level, &c.logLevel) != nil || !protocol.IsLogLevel(c.logLevel)) {
		return version, jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "unknown log level: %.32s", level)
	}
	return version, nil
}

// parseName reads the name that Mcp-Name mirrors.
func (req *modernRequest) parseName() *jsonrpc.Error {
	member := protocol.NamedBy(req.message.Method)
	if member == "" {
		return nil
	}
	if req.name, req.named = jsonrpc.StringField(req.message.Params, member); req.named {
		return nil
	}
	if _, err := jsonrpc.Fields(req.message.Params, member); err != nil { // a server might use the member that no header mirrors
		return jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "invalid params: %v", err)
	}
	return nil // the router refuses a request without a name
}

// completeInfo returns the clientInfo for a legacy server, to which name and version are mandatory.
func completeInfo(info json.RawMessage) json.RawMessage {
	name, named := jsonrpc.StringField(info, "name")
	version, versioned := jsonrpc.StringField(info, "version")
	if named && versioned {
		return info
	}
	b, _ := json.Marshal(map[string]string{"name": cmp.Or(name, "unknown"), "version": version})
	return b
}

// addClient adds to client the fields that come from the HTTP request.
func (c *core) addClient(r *http.Request, client *modernClient) {
	client.principal = c.principal(r)
	client.headers = paramHeaders(r.Header)
	client.cwd = clipPath(header(r, "X-Mcp-Cwd", "X-Cwd"))
	var err error
	if client.ip, _, err = net.SplitHostPort(r.RemoteAddr); err != nil {
		client.ip = r.RemoteAddr
	}
}

// paramHeaders returns the headers that mirror arguments of tools. The hub forwards those that it does not
// know, as intermediaries must.
func paramHeaders(h http.Header) http.Header {
	var params http.Header
	for name, values := range h {
		if strings.HasPrefix(name, protocol.HeaderParamPrefix) {
			if params == nil {
				params = http.Header{}
			}
			params[name] = values
		}
	}
	return params
}

// session returns the record of the derived session of the client.
func (c modernClient) session(r *http.Request) session.Session {
	return session.Session{
		ClientName: clip(cmp.Or(c.name, header(r, "X-Mcp-Client-Id", "X-Client-Id"))), ClientVersion: clip(c.version),
		ProtocolVersion: protocol.ModernVersion, Principal: c.principal, Cwd: c.cwd,
		Project: clip(header(r, "X-Mcp-Project", "X-Project")), UserAgent: clip(r.UserAgent()), IP: c.ip,
	}
}

// checkArguments compares the mirrored arguments of a tool with their headers.
func (c *core) checkArguments(r *http.Request, req *modernRequest) error {
	target, ok := c.router.Lookup(req.message.Method, req.name)
	if !ok {
		return nil
	}
	server := c.router.Pool.Server(target.Server)
	if server == nil {
		return nil
	}
	mirrored := server.ToolParams(target.Name)
	if len(mirrored) == 0 {
		return nil
	}
	fields, err := jsonrpc.Fields(req.message.Params, "arguments")
	if err != nil {
		return err
	}
	return protocol.CheckParams(r.Header, mirrored, fields[0])
}

// unsupportedVersion returns the error for a protocol version that the hub does not support.
func unsupportedVersion(version string) *jsonrpc.Error {
	supported := protocol.SupportedVersions()
	data, _ := json.Marshal(map[string]any{"supported": supported, "requested": clipTo(version, 32)})
	return &jsonrpc.Error{Code: protocol.CodeUnsupportedVersion, Data: data,
		Message: "unsupported protocol version; use one of: " + strings.Join(supported, ", ")}
}

// modernStatus returns the HTTP status of an error before any stream, specification 2026-07-28,
// basic/transports, error handling.
func modernStatus(code int) int {
	switch code {
	case jsonrpc.CodeMethodNotFound:
		return http.StatusNotFound
	case protocol.CodeHeaderMismatch, protocol.CodeMissingCapability, protocol.CodeUnsupportedVersion,
		jsonrpc.CodeParse, jsonrpc.CodeInvalidRequest, jsonrpc.CodeInvalidParams:
		return http.StatusBadRequest
	}
	return http.StatusOK
}
