package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
	"github.com/mcphub-go/mcphub/pkg/upstream/transport"
)

// modernDialect is the dialect of servers without sessions: version 2026-07-28. For legacy callers it does what is gone
// from the protocol in the way that took its place:
//
//	ping                   server/discover
//	logging/setLevel       a member of _meta of each request
//	resources/subscribe    a stream of subscriptions/listen  (modern_subscriptions.go, modern_listen.go)
//	server requests        multi-round calls                 (modern_input.go)
type modernDialect struct {
	conn          *Conn
	identity      Identity // on whose behalf requests are made, where they do not say
	subscriptions *subscriptionSet

	mu    sync.Mutex
	level string // the log level that requests of the connection ask for
}

func newModernDialect(c *Conn, identity Identity) *modernDialect {
	return &modernDialect{conn: c, identity: identity, subscriptions: newSubscriptionSet()}
}

func (d *modernDialect) era() protocol.Era { return protocol.Modern }

func (d *modernDialect) canCancel(method string) bool { return method != protocol.MethodInitialize }

func (d *modernDialect) call(ctx context.Context, req Request) (jsonrpc.Message, error) {
	if req.Modern {
		return d.conn.roundTrip(ctx, d, req)
	}
	switch req.Method {
	case protocol.MethodPing:
		return d.ping(ctx, req)
	case protocol.MethodLoggingSetLevel:
		return d.setLevel(req)
	case protocol.MethodResourcesSubscribe, protocol.MethodResourcesUnsubscribe:
		return d.subscribe(ctx, req)
	case protocol.MethodSubscriptionsListen:
		// The hub subscribes itself. On a connection for all clients, the end of one stream may be that of others.
		return jsonrpc.Message{}, jsonrpc.Errorf(jsonrpc.CodeMethodNotFound,
			"there is no method %s in the protocol version of the client", req.Method)
	}
	req.addMeta = true
	response, err := d.multiRoundCall(ctx, req)
	if err != nil {
		return response, err
	}
	return protocol.ToLegacy(req.Method, response), nil
}

// ping sends server/discover, which also shows whether the server still is a modern one.
func (d *modernDialect) ping(ctx context.Context, req Request) (jsonrpc.Message, error) {
	spec := d.conn.spec
	response, err := d.conn.roundTrip(ctx, d, Request{Method: protocol.MethodServerDiscover, addMeta: true, identity: req.identity})
	switch {
	case err != nil:
		return response, err
	case response.Error != nil && spec.URL != "" && !mayRefuseDiscovery(response),
		response.Error == nil && parseDiscovery(response.Result) == nil:
		return jsonrpc.Message{}, serverError(spec.Name, errOtherEra)
	case response.Error == nil:
		response.Result = json.RawMessage(`{}`)
	}
	return response, nil
}

// setLevel sets the log level that requests ask for from now on.
func (d *modernDialect) setLevel(req Request) (jsonrpc.Message, error) {
	has, err := jsonrpc.Fields(d.conn.init.Capabilities, "logging")
	if err != nil || has[0] == nil {
		return jsonrpc.Message{}, jsonrpc.Errorf(jsonrpc.CodeMethodNotFound, "the server has no log messages")
	}
	level, _ := jsonrpc.StringField(req.Params, "level")
	if !protocol.IsLogLevel(level) {
		return jsonrpc.Message{}, jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "unknown log level: %.32q", level)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.level = level
	return jsonrpc.Message{Result: json.RawMessage(`{}`)}, nil
}

func (d *modernDialect) logLevel() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.level
}

// metaEdits implements dialect. It adds the members that describe the sender of a request, specification 2026-07-28,
// basic, _meta. Modern callers have them already.
func (d *modernDialect) metaEdits(req Request, _ json.RawMessage) (edits metaEdits) {
	if !req.addMeta {
		return edits
	}
	identity := d.identity
	if req.identity != nil {
		identity = *req.identity
	}
	edits.add(protocol.MetaProtocolVersion, jsonrpc.String(protocol.ModernVersion))
	edits.add(protocol.MetaClientCapabilities, protocol.ModernCapabilities(identity.Capabilities))
	if len(identity.ClientInfo) > 0 {
		edits.add(protocol.MetaClientInfo, identity.ClientInfo)
	}
	if level := d.logLevel(); level != "" {
		edits.add(protocol.MetaLogLevel, jsonrpc.String(level))
	}
	return edits
}

// notification implements dialect. By HTTP a request is cancelled by closing its stream.
func (d *modernDialect) notification(method string) (http.Header, bool) {
	switch method {
	case protocol.MethodInitialized, protocol.MethodRootsListChanged:
		return nil, false
	case protocol.MethodCancelled:
		return nil, !d.overHTTP()
	}
	return d.standardHeader(method), true
}

// receive implements dialect. The server acknowledges the hub's own subscriptions, and puts their id into what it
// sends.
func (d *modernDialect) receive(related *call, m jsonrpc.Message) (jsonrpc.Message, bool) {
	if m.Method == protocol.MethodSubscriptionsAcknowledged {
		d.acknowledged(related, m)
		return m, false
	}
	return withoutSubscription(m), true
}

// isOtherEra recognizes a legacy server: it refuses the request by an HTTP status, or with an error to no request, as
// it answers what belongs to no session.
func (d *modernDialect) isOtherEra(response jsonrpc.Message, err error) bool {
	if !d.overHTTP() {
		return false // a process does not change its era
	}
	if refused, ok := errors.AsType[transport.StatusError](err); ok {
		return refusesRequest(refused)
	}
	if err != nil || response.Error == nil {
		return errors.Is(err, errOtherEra)
	}
	return response.ID == jsonrpc.Null || jsonrpc.ParseError(response.Error).Code == protocol.CodeUnsupportedVersion
}

// refusesRequest reports whether a server answers so a POST of which it understands nothing.
func refusesRequest(e transport.StatusError) bool {
	return e.Code == http.StatusBadRequest || e.Code == http.StatusNotFound || e.Code == http.StatusMethodNotAllowed
}

// callEnded returns why a call of several requests ended when ctx did.
func (d *modernDialect) callEnded(ctx context.Context) error {
	if d.conn.background.stopped() {
		return serverError(d.conn.spec.Name, fmt.Errorf("%w: %w", ErrLost, transport.ErrClosed))
	}
	return serverError(d.conn.spec.Name, transport.CauseOf(ctx))
}

// withCallTimeout returns a context for a call of several requests. It ends with the timeout of a call, and with the
// connection.
func (d *modernDialect) withCallTimeout(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeoutCause(ctx, d.conn.spec.callTimeout(), ErrTimeout)
	stop := context.AfterFunc(d.conn.background.ctx, cancel)
	return ctx, func() { stop(); cancel() }
}
