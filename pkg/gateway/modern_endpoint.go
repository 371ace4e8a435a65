package gateway

import (
	"net/http"
	"sync/atomic"

	"github.com/mcphub-go/mcphub/pkg/gateway/stream"
	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
	"github.com/mcphub-go/mcphub/pkg/session"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

// modernEndpoint answers the messages of modern clients, specification 2026-07-28. There is no handshake and no
// session: every request says what it needs, and a client that closes the connection has cancelled its request. Its
// methods may be called concurrently.
type modernEndpoint struct {
	*core
	bridges       *bridges
	suspended     *suspendedCalls[*multiRoundCall]
	subscriptions *subscriptions
	inFlight      atomic.Int64 // requests
}

// modernShare is the limit of the requests of all modern clients in flight, as a multiple of the limit
// of one session.
const modernShare = 16

func newModernEndpoint(c *core) *modernEndpoint {
	return &modernEndpoint{core: c, bridges: newBridges(c), suspended: newSuspendedCalls[*multiRoundCall](),
		subscriptions: newSubscriptions(c)}
}

// serve answers a message of a modern client.
func (x *modernEndpoint) serve(w http.ResponseWriter, r *http.Request, m jsonrpc.Message) {
	switch m.Kind() {
	case jsonrpc.Response:
		x.tel.CountUnmatched()
		refuse(w, http.StatusBadRequest, "", jsonrpc.Errorf(jsonrpc.CodeInvalidRequest,
			"servers send no requests in this protocol version, so there is nothing to answer"))
	case jsonrpc.Notification:
		x.notification(w, r, m)
	default:
		x.request(w, r, m)
	}
}

// notification handles a notification. The modern protocol has none that a client sends by HTTP. A
// transparent hub forwards methods that it does not know.
func (x *modernEndpoint) notification(w http.ResponseWriter, r *http.Request, m jsonrpc.Message) {
	if version := r.Header.Get(protocol.HeaderProtocolVersion); version != protocol.ModernVersion {
		x.refuse(w, http.StatusBadRequest, m, unsupportedVersion(version))
		return
	}
	ctx, op := x.tel.StartOperation(r, "", protocol.ModernVersion, m)
	if only := x.router.Only; only != nil && !protocol.IsMethod(m.Method) {
		if err := only.Link(upstream.LinkConfig{Modern: true}).Notify(ctx, m.Method, m.Params); err != nil {
			x.log.DebugContext(ctx, "a notification of the client was not forwarded", "err", instrument.Redacted(err))
		}
	} else {
		x.tel.Dropped("unsupported")
	}
	op.End(ctx, jsonrpc.Message{}, nil)
	w.WriteHeader(http.StatusAccepted)
}

// request answers a request.
func (x *modernEndpoint) request(w http.ResponseWriter, r *http.Request, m jsonrpc.Message) {
	req := &modernRequest{message: m}
	req.ctx, req.op = x.tel.StartOperation(r, "", protocol.ModernVersion, m)
	if e := x.parseModern(r, req); e != nil {
		req.refuse(w, e)
		return
	}
	derived := x.cfg.Sessions.AcquireDerived(req.ctx, req.client.session(r))
	defer derived.Release()
	req.ctx = session.WithID(req.ctx, derived.ID()) // for the log
	req.group = x.groups.Of(derived.ID())
	req.memory.Open(x.cfg.Memory, req.group)
	x.cfg.Sessions.LogUse(req.ctx, derived.ID())
	x.tel.Tap.Message(req.ctx, instrument.In, m, req.op.AboutRequest())
	switch m.Method {
	case protocol.MethodServerDiscover:
		x.discover(w, req)
	case protocol.MethodSubscriptionsListen:
		x.subscriptions.listen(w, r, req)
	default:
		x.call(w, r, req)
	}
}

// discover answers server/discover.
func (x *modernEndpoint) discover(w http.ResponseWriter, req *modernRequest) {
	x.router.AwaitServers(req.ctx)
	response := jsonrpc.NewResult(req.message.ID, x.router.DiscoverResult())
	req.op.End(req.ctx, response, nil)
	req.op.Respond(req.ctx, response)
	stream.WriteJSON(w, http.StatusOK, response.Encode())
}

// call answers a request that goes to a server or to the catalog.
func (x *modernEndpoint) call(w http.ResponseWriter, r *http.Request, req *modernRequest) {
	if x.inFlight.Add(1) > int64(x.cfg.maxInFlight())*modernShare {
		x.inFlight.Add(-1)
		w.Header().Set("Retry-After", "1")
		req.op.End(req.ctx, jsonrpc.Message{}, errBusy)
		req.op.Respond(req.ctx, jsonrpc.NewError(req.message.ID, errBusy))
		refuse(w, http.StatusServiceUnavailable, req.message.ID, errBusy)
		return
	}
	defer x.inFlight.Add(-1)
	req.out = stream.NewLog(x.retention, &req.memory, "", protocol.ModernVersion).NewPost(1, req.message.ID)
	c, e := x.startOrResume(req)
	if e != nil {
		req.refuse(w, e)
		return
	}
	x.sender.Respond(w, r, req.out, false)
	c.disconnected(req)
}

// startOrResume starts the call of a request, or resumes the suspended call whose requestState the request
// has.
func (x *modernEndpoint) startOrResume(req *modernRequest) (*multiRoundCall, *jsonrpc.Error) {
	state, answers, e := req.retry()
	if e != nil {
		return nil, e
	}
	if state != nil && !x.serverKeepsState(req) {
		c, round, err := x.suspended.find(*state, req.client.principal, digestOf(req.message))
		if err != nil {
			return nil, jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "%v", err)
		}
		return c, c.resume(req, round, answers)
	}
	c := newMultiRoundCall(x.core, x.bridges, x.suspended, req)
	if err := c.held.Grow(sizeOf(req.message)); err != nil {
		return nil, memoryError(err)
	}
	x.background.Go(c.run)
	return c, nil
}

// serverKeepsState reports whether the requestState of a request was issued by its server. A modern server
// issues it itself; for a legacy one the hub does.
func (x *modernEndpoint) serverKeepsState(req *modernRequest) bool {
	server := x.router.Only
	if server == nil {
		if target, ok := x.router.Lookup(req.message.Method, req.name); ok && req.message.Method != protocol.MethodResourcesRead {
			server = x.router.Pool.Server(target.Server)
		} else {
			server = x.router.Pool.Server(x.router.ServerOf(req.name))
		}
	}
	return server == nil || server.Modern()
}

// drain ends the calls that wait for their clients, and the bridges.
func (x *modernEndpoint) drain() {
	x.suspended.stop()
	x.bridges.close()
}
