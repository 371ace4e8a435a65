package gateway

import (
	"cmp"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"slices"
	"strings"

	"github.com/mcphub-go/mcphub/pkg/gateway/stream"
	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
	"github.com/mcphub-go/mcphub/pkg/session"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

// The modern protocol, specification 2026-07-28: no handshake and no session.
// Every request says what it needs, its answer is all there is, and a client
// that goes away has cancelled it.

// isModern reports whether a message belongs to the modern era. Versions are
// dates, which compare as texts. A client that names no version in the header
// but one in _meta is modern, too, and will be told what it forgot.
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

// modern answers a message of a modern client.
func (g *Gateway) modern(w http.ResponseWriter, r *http.Request, m jsonrpc.Message) {
	if m.Kind() == jsonrpc.Response {
		g.tel.unmatched()
		refuse(w, http.StatusBadRequest, "", jsonrpc.Errorf(jsonrpc.CodeInvalidRequest, "servers ask nothing in this protocol version, so there is nothing to answer"))
		return
	}
	if m.Kind() == jsonrpc.Notification {
		g.modernNotification(w, r, m)
		return
	}
	ctx, op := g.tel.startServe(r, "", protocol.ModernVersion, m)
	fail := func(e *jsonrpc.Error) {
		response := jsonrpc.NewError(m.ID, e)
		op.end(ctx, response, nil)
		g.responded(ctx, op, response)
		refuse(w, modernStatus(e.Code), m.ID, e)
	}
	about, e := g.readModern(r, m)
	if e != nil {
		fail(e)
		return
	}
	work := g.cfg.Sessions.Derive(ctx, about.session(r))
	defer work.Release()
	ctx = session.WithID(ctx, work.ID()) // for the log
	g.show(ctx, instrument.In, m, op.toAsk())
	switch m.Method {
	case protocol.MethodServerDiscover:
		g.settled(ctx)
		response := jsonrpc.NewResult(m.ID, g.discovery())
		op.end(ctx, response, nil)
		g.responded(ctx, op, response)
		stream.WriteJSON(w, http.StatusOK, response.Encode())
	case protocol.MethodSubscriptionsListen:
		g.subscription(ctx, w, r, m, about, op, fail)
	default:
		g.modernRequest(ctx, w, r, m, about, op, fail)
	}
}

// modernNotification takes a notification: there is none that a client has to
// send by HTTP. A transparent hub passes on what it does not know.
func (g *Gateway) modernNotification(w http.ResponseWriter, r *http.Request, m jsonrpc.Message) {
	if version := r.Header.Get(protocol.HeaderProtocolVersion); version != protocol.ModernVersion {
		g.refuse(w, http.StatusBadRequest, m, unsupportedVersion(version))
		return
	}
	ctx, op := g.tel.startServe(r, "", protocol.ModernVersion, m)
	if g.only != nil && instrument.MethodLabel(m.Method) == instrument.Other {
		if err := g.only.Link(upstream.LinkConfig{Modern: true}).Notify(ctx, m.Method, m.Params); err != nil {
			g.log.DebugContext(ctx, "a notification of the client was not forwarded", "err", instrument.Redacted(err))
		}
	} else {
		g.tel.dropped("unsupported")
	}
	op.end(ctx, jsonrpc.Message{}, nil)
	w.WriteHeader(http.StatusAccepted)
}

// aboutClient is what a modern request says of its sender.
type aboutClient struct {
	identity  upstream.Identity
	name      string
	version   string
	logLevel  string
	principal string
	cwd       string
	ip        string
	params    http.Header // its Mcp-Param headers
}

// gone are the methods that the modern protocol took away. Other servers of the
// hub may know them, modern clients do not.
var gone = []string{protocol.MethodInitialize, protocol.MethodPing, protocol.MethodLoggingSetLevel, protocol.MethodResourcesSubscribe, protocol.MethodResourcesUnsubscribe,
	protocol.MethodTasksList, protocol.MethodTasksResult, protocol.MethodSamplingCreateMessage, protocol.MethodElicitationCreate, protocol.MethodRootsList}

// readModern reads and checks what every modern request has to say, specification
// 2026-07-28, basic, _meta, and basic/transports, standard request headers.
func (g *Gateway) readModern(r *http.Request, m jsonrpc.Message) (aboutClient, *jsonrpc.Error) {
	for _, name := range []string{protocol.HeaderProtocolVersion, "Mcp-Method", "Mcp-Name"} {
		if len(r.Header.Values(name)) > 1 {
			return aboutClient{}, jsonrpc.Errorf(protocol.CodeHeaderMismatch, "there is more than one %s header", name)
		}
	}
	header := r.Header.Get(protocol.HeaderProtocolVersion)
	about, version, e := g.readMeta(r, m)
	if e != nil && (version == "" || version == header) && header != "" && header != protocol.ModernVersion {
		e = unsupportedVersion(header) // whose rules are not known
	}
	if e != nil {
		return about, e
	}
	switch {
	case header == "":
		return about, jsonrpc.Errorf(protocol.CodeHeaderMismatch, "the MCP-Protocol-Version header is missing")
	case header != version:
		return about, jsonrpc.Errorf(protocol.CodeHeaderMismatch, "the MCP-Protocol-Version header and the protocolVersion in _meta differ")
	case version != protocol.ModernVersion:
		return about, unsupportedVersion(version)
	}
	name, named := g.nameOf(m)
	if member := protocol.NamedBy(m.Method); member != "" && !named {
		if _, err := jsonrpc.Fields(m.Params, member); err != nil { // a server might take the one that no header mirrors
			return about, jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "invalid params: %v", err)
		}
	}
	if err := protocol.CheckStandard(r.Header, m.Method, name, named); err != nil {
		return about, jsonrpc.Errorf(protocol.CodeHeaderMismatch, "%v", err)
	}
	if slices.Contains(gone, m.Method) {
		return about, jsonrpc.Errorf(jsonrpc.CodeMethodNotFound, "there is no method %s in protocol version %s", m.Method, version)
	}
	if m.Method == protocol.MethodToolsCall {
		if err := g.checkParams(r, m, name); err != nil {
			return about, jsonrpc.Errorf(protocol.CodeHeaderMismatch, "%v", err)
		}
	}
	return about, nil
}

// readMeta reads _meta.
func (g *Gateway) readMeta(r *http.Request, m jsonrpc.Message) (about aboutClient, version string, e *jsonrpc.Error) {
	missing := func(what string) *jsonrpc.Error {
		return jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "params._meta needs %q", what)
	}
	params, err := jsonrpc.Fields(m.Params, "_meta")
	if err != nil {
		return about, "", jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "invalid params: %v", err)
	}
	meta, err := jsonrpc.Fields(params[0], protocol.MetaProtocolVersion, protocol.MetaClientCapabilities, protocol.MetaClientInfo, protocol.MetaLogLevel)
	if err != nil {
		return about, "", jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "invalid params._meta: %v", err)
	}
	if json.Unmarshal(meta[0], &version) != nil || version == "" {
		return about, "", missing(protocol.MetaProtocolVersion)
	}
	if len(meta[1]) == 0 || meta[1][0] != '{' {
		return about, version, missing(protocol.MetaClientCapabilities)
	}
	if len(meta[1])+len(meta[2]) > maxCapabilities {
		return about, version, jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "what a client says of itself may take %d bytes", maxCapabilities)
	}
	if len(meta[2]) > 0 && meta[2][0] != '{' {
		return about, version, jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "params._meta: %q is no object", protocol.MetaClientInfo)
	}
	about.name, _ = jsonrpc.StringField(meta[2], "name")
	about.version, _ = jsonrpc.StringField(meta[2], "version")
	about.identity = upstream.Identity{ClientInfo: introduction(meta[2]), Capabilities: meta[1]}
	if meta[3] != nil {
		if json.Unmarshal(meta[3], &about.logLevel) != nil || !protocol.IsLogLevel(about.logLevel) {
			return about, version, jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "unknown log level: %.32s", meta[3])
		}
	}
	about.principal = g.principal(r)
	about.params = paramHeaders(r.Header)
	about.cwd = clipPath(header(r, "X-Mcp-Cwd", "X-Cwd"))
	if about.ip, _, err = net.SplitHostPort(r.RemoteAddr); err != nil {
		about.ip = r.RemoteAddr
	}
	return about, version, nil
}

// introduction is what a legacy server is told of the client, which has to have
// a name and a version there.
func introduction(info json.RawMessage) json.RawMessage {
	name, named := jsonrpc.StringField(info, "name")
	version, versioned := jsonrpc.StringField(info, "version")
	if named && versioned {
		return info
	}
	b, _ := json.Marshal(map[string]string{"name": cmp.Or(name, "unknown"), "version": version})
	return b
}

// paramHeaders are the headers that mirror arguments of tools. The hub passes on
// what it does not know, as intermediaries have to.
func paramHeaders(h http.Header) http.Header {
	var params http.Header
	for name, values := range h {
		if strings.HasPrefix(name, "Mcp-Param-") {
			if params == nil {
				params = http.Header{}
			}
			params[name] = values
		}
	}
	return params
}

// session is what people see of the client: its work session.
func (a aboutClient) session(r *http.Request) session.Session {
	return session.Session{
		ClientName: clip(cmp.Or(a.name, header(r, "X-Mcp-Client-Id", "X-Client-Id"))), ClientVersion: clip(a.version),
		ProtocolVersion: protocol.ModernVersion, Principal: a.principal, Cwd: a.cwd,
		Project: clip(header(r, "X-Mcp-Project", "X-Project")), UserAgent: clip(r.UserAgent()), IP: a.ip,
	}
}

// nameOf is what Mcp-Name has to mirror.
func (g *Gateway) nameOf(m jsonrpc.Message) (name string, named bool) {
	member := protocol.NamedBy(m.Method)
	if member == "" {
		return "", false
	}
	name, ok := jsonrpc.StringField(m.Params, member)
	return name, ok // a request without a name is refused for that
}

// checkParams compares the mirrored arguments of a tool with their headers.
func (g *Gateway) checkParams(r *http.Request, m jsonrpc.Message, name string) error {
	target, ok := g.lookup(m.Method, name)
	if !ok {
		return nil
	}
	server := g.cfg.Pool.Server(target.Server)
	if server == nil {
		return nil
	}
	known := server.ToolParams(target.Name)
	if len(known) == 0 {
		return nil
	}
	fields, err := jsonrpc.Fields(m.Params, "arguments")
	if err != nil {
		return err
	}
	return protocol.CheckParams(r.Header, known, fields[0])
}

func unsupportedVersion(version string) *jsonrpc.Error {
	supported := protocol.SupportedVersions()
	data, _ := json.Marshal(map[string]any{"supported": supported, "requested": clipTo(version, 32)})
	return &jsonrpc.Error{Code: protocol.CodeUnsupportedVersion, Data: data,
		Message: "unsupported protocol version; use one of: " + strings.Join(supported, ", ")}
}

// modernStatus is the HTTP status of an error that comes before any stream,
// specification 2026-07-28, basic/transports, error handling.
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

// discovery is the result of server/discover.
func (g *Gateway) discovery() json.RawMessage {
	capabilities := g.capabilities()
	if out, err := jsonrpc.Rewrite(capabilities, jsonrpc.Edit{Name: "tasks"}); err == nil {
		capabilities = out
	}
	result := struct {
		ResultType        string                     `json:"resultType"`
		SupportedVersions []string                   `json:"supportedVersions"`
		Capabilities      json.RawMessage            `json:"capabilities"`
		Instructions      string                     `json:"instructions,omitempty"`
		Meta              map[string]json.RawMessage `json:"_meta"`
		TTL               int64                      `json:"ttlMs"`
		CacheScope        string                     `json:"cacheScope"`
	}{"complete", protocol.SupportedVersions(), capabilities, g.instructions(),
		map[string]json.RawMessage{protocol.MetaServerInfo: g.serverInfo()}, 0, scopePrivate}
	b, err := json.Marshal(result)
	if err != nil { // a server's capabilities that are no JSON do not get this far
		panic(err)
	}
	return b
}

// modernRequest answers a request that goes to a server, or to the catalog.
func (g *Gateway) modernRequest(ctx context.Context, w http.ResponseWriter, r *http.Request, m jsonrpc.Message, about aboutClient,
	op *operation, fail func(*jsonrpc.Error),
) {
	if g.modernCalls.Add(1) > int64(g.cfg.maxInFlight())*modernShare {
		g.modernCalls.Add(-1)
		w.Header().Set("Retry-After", "1")
		op.end(ctx, jsonrpc.Message{}, errBusy)
		g.responded(ctx, op, jsonrpc.NewError(m.ID, errBusy))
		refuse(w, http.StatusServiceUnavailable, m.ID, errBusy)
		return
	}
	defer g.modernCalls.Add(-1)
	log := stream.NewLog(g.keep, "", protocol.ModernVersion)
	now := &round{id: m.ID, token: progressToken(m), out: log.NewPost(1, m.ID), op: op, ctx: ctx}
	c, e := g.converse(ctx, m, about, now)
	if e != nil {
		fail(e)
		return
	}
	g.sender.Respond(w, r, now.out, false)
	c.abandoned(now)
}

// modernShare is how many times the requests of one session all modern clients
// together may have under way.
const modernShare = 16

var errBusy = jsonrpc.Errorf(jsonrpc.CodeInternal, "the hub has too many requests under way; try again later")

// converse starts the conversation that a request begins, or goes on with the
// one that it belongs to.
func (g *Gateway) converse(ctx context.Context, m jsonrpc.Message, about aboutClient, now *round) (*conversation, *jsonrpc.Error) {
	fields, err := jsonrpc.Fields(m.Params, "requestState", "inputResponses")
	if err != nil {
		return nil, jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "invalid params: %v", err)
	}
	var sealed string
	if fields[0] != nil && json.Unmarshal(fields[0], &sealed) != nil {
		return nil, jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "requestState must be a text")
	}
	if fields[0] != nil && !g.keepsState(m) {
		c, rounds, err := g.parked.find(sealed, about.principal, digestOf(m))
		if err != nil {
			return nil, jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "%v", err)
		}
		return c, c.resume(now, rounds, fields[1])
	}
	c := g.newConversation(ctx, about, m)
	c.round = now
	g.running.Go(func() { c.run(m) })
	return c, nil
}

// keepsState reports whether the server that m is for gave its requestState: a
// modern one asks for itself, for a legacy one the hub does.
func (g *Gateway) keepsState(m jsonrpc.Message) bool {
	server := g.only
	if server == nil {
		name, _ := g.nameOf(m)
		if target, ok := g.lookup(m.Method, name); ok && m.Method != protocol.MethodResourcesRead {
			server = g.cfg.Pool.Server(target.Server)
		} else {
			server = g.cfg.Pool.Server(g.serverOf(name))
		}
	}
	return server == nil || server.Modern()
}

// progressToken is the token that the request wants its progress under.
func progressToken(m jsonrpc.Message) json.RawMessage {
	params, err := jsonrpc.Fields(m.Params, "_meta")
	if err != nil {
		return nil
	}
	meta, err := jsonrpc.Fields(params[0], "progressToken")
	if err != nil {
		return nil
	}
	return meta[0]
}
