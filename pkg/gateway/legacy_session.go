package gateway

import (
	"context"
	"crypto/rand"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/mcphub-go/mcphub/pkg/budget"
	"github.com/mcphub-go/mcphub/pkg/gateway/observe"
	"github.com/mcphub-go/mcphub/pkg/gateway/stream"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/session"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

// clientSession is the live half of a session: its requests in flight, its streams, and its links to servers. It is a
// session.Live, a routing.Subscriber, and the upstream.Sink of what its connections send outside of a call. Maps are
// made when they are first needed, because most sessions are idle. Its methods may be called concurrently.
type clientSession struct {
	*core
	id     string
	opened session.Session // the record when this half was started
	memory *budget.Account // nil: no limit
	prefix string          // of the ids of server requests and events; unique across restarts
	ctx    context.Context //nolint:containedctx // ends with the session
	cancel context.CancelCauseFunc
	forget func(*clientSession) // removes it from legacySessions

	mu          sync.Mutex
	ended       bool                      // Close was called
	calls       map[jsonrpc.ID]inFlight   // requests in flight
	links       map[string]*upstream.Link // by server
	streams     *stream.Log               // nil: not needed yet; see streamLog
	reconnected bool                      // reconnect was called

	requests     serverRequests // that wait for the client
	changes      listChanges    // of a transparent hub
	elicitations elicitations   // of shared servers
	taskOwners   taskOwners
	roots        rootsRequest
	answersPings atomic.Bool // the client has answered one
}

// inFlight is a request of the client in flight.
type inFlight struct {
	cancel context.CancelCauseFunc
	out    *stream.Stream // of its response
}

func newClientSession(c *core, s session.Session, forget func(*clientSession)) *clientSession {
	cs := &clientSession{core: c, id: s.ID, opened: s, memory: c.cfg.Memory.Account(),
		prefix: rand.Text()[:stream.EpochLength], forget: forget}
	cs.ctx, cs.cancel = context.WithCancelCause(session.WithID(context.Background(), s.ID))
	cs.requests.prefix = cs.prefix
	return cs
}

// Close cancels everything that runs for the session, and closes its connections in the
// background.
func (cs *clientSession) Close(why session.Reason) {
	cs.cancel(observe.EndedError{Reason: why})
	cs.forget(cs)
	cs.mu.Lock()
	links, streams := cs.links, cs.streams
	cs.links, cs.ended = nil, true
	cs.mu.Unlock()
	unwanted := cs.interests.Leave(cs)
	if streams != nil {
		streams.Close()
	}
	if why != session.Shutdown {
		cs.interests.EndUnwanted(unwanted)
	}
	for _, l := range links {
		cs.background.Go(func() { l.Close(why != session.Shutdown) })
	}
}

// callContext derives the context of a call: it has the values of ctx, and it ends with the session
// or when it is cancelled.
func (cs *clientSession) callContext(ctx context.Context) (context.Context, context.CancelCauseFunc) {
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(cs.ctx, func() { cancel(context.Cause(cs.ctx)) })
	return ctx, func(cause error) {
		stop()
		cancel(cause)
	}
}

// begin adds a request in flight. It refuses a second one with the same id, and one beyond limit.
func (cs *clientSession) begin(id jsonrpc.ID, call inFlight, limit int) *jsonrpc.Error {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.calls[id].cancel != nil {
		return jsonrpc.Errorf(jsonrpc.CodeInvalidRequest, "a request with this id is in flight already")
	}
	if len(cs.calls) >= limit {
		return jsonrpc.Errorf(jsonrpc.CodeInternal, "the session has %d requests in flight already", limit)
	}
	put(&cs.calls, id, call)
	return nil
}

// end removes a request in flight.
func (cs *clientSession) end(id jsonrpc.ID) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	delete(cs.calls, id)
}

// cancelCall cancels the request that notifications/cancelled names. It finds requests of this session only.
func (cs *clientSession) cancelCall(m jsonrpc.Message) {
	fields, err := jsonrpc.Fields(m.Params, "requestId")
	if err != nil || fields[0] == nil {
		return
	}
	cs.mu.Lock()
	call := cs.calls[jsonrpc.ID(fields[0])]
	cs.mu.Unlock()
	if call.cancel != nil {
		call.cancel(observe.ErrClientCancelled)
	}
}

// sendOnCall adds m to the stream of any request in flight that the client reads. It reports false if there is none.
func (cs *clientSession) sendOnCall(ctx context.Context, m jsonrpc.Message) bool {
	cs.mu.Lock()
	calls := slices.Collect(maps.Values(cs.calls))
	cs.mu.Unlock()
	for _, call := range calls {
		if call.out.Push(m.Encode(), stream.ReadNow) == "" {
			cs.tel.Sent(ctx, m)
			return true
		}
	}
	return false
}

// streamLog returns the log of the session's streams.
func (cs *clientSession) streamLog() *stream.Log {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.streams == nil {
		cs.streams = stream.NewLog(cs.retention, cs.memory, cs.prefix, cs.opened.ProtocolVersion)
		if cs.ended {
			cs.streams.Close()
		}
	}
	return cs.streams
}

// send adds m to a GET stream. If that is not possible it returns the reason for the metric of dropped
// notifications. ctx has the span and session that m belongs to.
func (cs *clientSession) send(ctx context.Context, m jsonrpc.Message, d stream.Delivery) (reason string) {
	if reason = cs.streamLog().Send(m.Encode(), d); reason == "" {
		cs.tel.Sent(ctx, m)
	}
	return reason
}

// push sends a notification that belongs to no request.
func (cs *clientSession) push(m jsonrpc.Message) {
	if reason := cs.send(cs.ctx, m, stream.MayWait); reason != "" {
		cs.tel.Dropped(reason)
	}
}

// Updated implements routing.Subscriber.
func (cs *clientSession) Updated(server string, m jsonrpc.Message) {
	cs.tel.Tap.FromServer(cs.ctx, server, m)
	cs.push(m)
}
