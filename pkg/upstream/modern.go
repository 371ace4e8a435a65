package upstream

import (
	"context"
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
//	ping                   server/discover                     modern_call.go
//	logging/setLevel       a member of _meta of each request   modern_call.go
//	resources/subscribe    a stream of subscriptions/listen    modern_listen.go
//	server requests        multi-round calls                   modern_input.go
type modernDialect struct {
	conn       *Conn
	identity   Identity // of the sender of requests that have none of their own
	subscriber *subscriber

	mu    sync.Mutex
	level string // the log level that requests of the connection ask for
}

func newModernDialect(c *Conn, identity Identity) *modernDialect {
	d := &modernDialect{conn: c, identity: identity}
	d.subscriber = &subscriber{conn: c, dialect: d, set: newSubscriptionSet()}
	return d
}

func (d *modernDialect) era() protocol.Era { return protocol.Modern }

func (d *modernDialect) canCancel(method string) bool { return method != protocol.MethodInitialize }

func (d *modernDialect) logLevel() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.level
}

// requestMeta implements dialect. It sets the members that describe the sender of a request, specification 2026-07-28,
// basic, _meta. Modern callers have them already.
func (d *modernDialect) requestMeta(req Request) requestMeta {
	if !req.addMeta {
		return requestMeta{}
	}
	identity := d.identity
	if req.identity != nil {
		identity = *req.identity
	}
	m := requestMeta{version: jsonrpc.String(protocol.ModernVersion), capabilities: protocol.ModernCapabilities(identity.Capabilities),
		clientInfo: identity.ClientInfo}
	if level := d.logLevel(); level != "" {
		m.logLevel = jsonrpc.String(level)
	}
	return m
}

// notification implements dialect. By HTTP a request is cancelled by closing its stream.
func (d *modernDialect) notification(method string) (http.Header, bool) {
	switch method {
	case protocol.MethodInitialized, protocol.MethodRootsListChanged:
		return nil, false
	case protocol.MethodCancelled:
		return nil, !d.conn.spec.kind().HasStreams()
	}
	return d.standardHeader(method), true
}

// receive implements dialect. The server acknowledges the hub's own subscriptions, and puts their id into what it
// sends.
func (d *modernDialect) receive(related *call, m jsonrpc.Message) (jsonrpc.Message, bool) {
	if m.Method == protocol.MethodSubscriptionsAcknowledged {
		d.subscriber.acknowledged(related, m)
		return m, false
	}
	return withoutSubscription(m), true
}

// listen implements dialect.
func (d *modernDialect) listen(context.Context) { d.conn.background.start(nil, d.subscriber.run) }

// awaitListening implements dialect.
func (d *modernDialect) awaitListening(ctx context.Context) { d.subscriber.awaitAnswer(ctx) }

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

// overHTTP reports whether messages have HTTP headers, which mirror parts of their body.
func (d *modernDialect) overHTTP() bool { return d.conn.spec.kind().HasHeaders() }

// standardHeader returns the headers that every modern message by HTTP has, or nil.
func (d *modernDialect) standardHeader(method string) http.Header {
	if !d.overHTTP() {
		return nil
	}
	return http.Header{protocol.HeaderProtocolVersion: {protocol.ModernVersion}, protocol.HeaderMethod: {method}}
}
