package gateway

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mcphub-go/mcphub/pkg/gateway/stream"
	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
	"github.com/mcphub-go/mcphub/pkg/session"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

// clientSession is the live half of a session: its requests under way, its
// streams, and its links to the servers. It is a session.Live, and the
// upstream.Sink of what its servers send outside of a call.
type clientSession struct {
	g      *Gateway
	id     string
	opened session.Session // as it was when this half was opened
	prefix string          // of the ids of questions and events, unique across restarts
	ctx    context.Context //nolint:containedctx // ends with the session
	cancel context.CancelCauseFunc

	mu      sync.Mutex // the maps are made when first needed: most sessions are idle
	ended   bool
	subs    map[string]bool // subscribed URIs, as in the record, which is gone when the session ends
	calls   map[jsonrpc.ID]context.CancelCauseFunc
	links   map[string]*upstream.Link
	streams *stream.Log // made when first needed
	asks    map[jsonrpc.ID]chan jsonrpc.Message
	asked   int64

	progress map[jsonrpc.ID]questionProgress // of those of asks whose server wants to hear of it

	changes    map[string]bool   // list changes told a moment ago; true: and there were more
	taskOwners map[string]string // servers by the ids of the tasks they keep for the client

	elicited elicited // by shared servers

	listening    bool
	rootsAsked   bool
	askingRoots  bool
	rootsStale   bool        // they changed while the client was asked
	answersPings atomic.Bool // it has answered one
}

// maxAsks bounds the questions to one client that wait for an answer.
const maxAsks = 64

// endedError is the cause of calls whose session has ended.
type endedError struct{ reason session.Reason }

func (e endedError) Error() string {
	if e.reason == session.Shutdown {
		return "the hub is being restarted; whether the request was carried out is not known"
	}
	return "the session has ended: " + string(e.reason)
}

func newClientSession(g *Gateway, s session.Session) *clientSession {
	cs := &clientSession{g: g, id: s.ID, opened: s, prefix: rand.Text()[:stream.EpochLength]}
	cs.ctx, cs.cancel = context.WithCancelCause(session.WithID(context.Background(), s.ID))
	for _, uri := range s.Subscriptions {
		put(&cs.subs, uri, true)
	}
	return cs
}

// put puts a value into a map that may still have to be made.
func put[K comparable, V any](m *map[K]V, k K, v V) {
	if *m == nil {
		*m = map[K]V{}
	}
	(*m)[k] = v
}

// Close cancels everything that runs for the session. Its connections are
// closed in the background, which Gateway.Wait waits for.
func (cs *clientSession) Close(why session.Reason) {
	cs.cancel(endedError{why})
	cs.g.forget(cs)
	cs.mu.Lock()
	links, subs, streams := cs.links, cs.subs, cs.streams
	cs.links, cs.subs, cs.ended = nil, nil, true
	cs.mu.Unlock()
	if streams != nil {
		streams.Close()
	}
	if why != session.Shutdown {
		cs.g.unsubscribe(cs, subs)
	}
	for _, l := range links {
		cs.g.running.Go(func() { l.Close(why != session.Shutdown) })
	}
}

// callContext derives the context of a call: it has ctx's values, and it ends
// when the session does or when it is cancelled.
func (cs *clientSession) callContext(ctx context.Context) (context.Context, context.CancelCauseFunc) {
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(cs.ctx, func() { cancel(context.Cause(cs.ctx)) })
	return ctx, func(cause error) {
		stop()
		cancel(cause)
	}
}

// begin notes that the request id is under way.
func (cs *clientSession) begin(id jsonrpc.ID, cancel context.CancelCauseFunc, limit int) *jsonrpc.Error {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.calls[id] != nil {
		return jsonrpc.Errorf(jsonrpc.CodeInvalidRequest, "a request with this id is under way already")
	}
	if len(cs.calls) >= limit {
		return jsonrpc.Errorf(jsonrpc.CodeInternal, "the session has %d requests under way already", limit)
	}
	put(&cs.calls, id, cancel)
	return nil
}

func (cs *clientSession) end(id jsonrpc.ID) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	delete(cs.calls, id)
}

// link returns the session's way to a server.
func (cs *clientSession) link(server *upstream.Server) (*upstream.Link, error) {
	name := server.Name()
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.ended {
		return nil, context.Cause(cs.ctx)
	}
	l := cs.links[name]
	if l == nil {
		s := cs.opened
		info, _ := json.Marshal(map[string]string{"name": s.ClientName, "version": s.ClientVersion})
		capabilities := s.Capabilities
		if len(capabilities) == 0 || capabilities[0] != '{' { // a session of mcp-hub-lite may have none
			capabilities = json.RawMessage(`{}`)
		}
		l = server.Link(upstream.LinkConfig{
			Sink:     cs,
			Owner:    cs.ctx,
			Identity: upstream.Identity{ClientInfo: info, Capabilities: capabilities},
			Resume:   upstream.Bound(s.Upstreams[name]),
			Session:  cs.id,
			OnBound:  cs.bound,
			OnReady:  cs.ready,
		})
		put(&cs.links, name, l)
	}
	return l, nil
}

// uses reports whether the session has, or had before a restart, a connection
// of its own to the server.
func (cs *clientSession) uses(server string) bool {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	_, had := cs.opened.Upstreams[server]
	return had || cs.links[server] != nil
}

// listen connects to the servers that the session used before a restart, so
// that a client which only listens hears what it has subscribed to.
func (cs *clientSession) listen() {
	cs.mu.Lock()
	needless := cs.listening
	cs.listening = true
	cs.mu.Unlock()
	if needless {
		return
	}
	for name := range cs.opened.Upstreams {
		server := cs.g.cfg.Pool.Server(name)
		if server == nil || !server.Isolated() {
			continue
		}
		link, err := cs.link(server)
		if err != nil {
			return
		}
		cs.g.running.Go(func() {
			ctx, cancel := context.WithTimeout(cs.ctx, resumeTimeout)
			defer cancel()
			if err := link.Connect(ctx); err != nil {
				cs.g.log.DebugContext(ctx, "the session's connection to a server is not back yet", "session", cs.id, "err", instrument.Redacted(err))
			}
		})
	}
}

// bound keeps the session that a server gave, so that a restart can go on with it.
func (cs *clientSession) bound(ctx context.Context, server string, b upstream.Bound) error {
	what := session.EventUpstreamInitialised
	err := cs.g.cfg.Sessions.UpdateDurably(ctx, cs.id, func(s *session.Session) {
		if s.Upstreams[server].SessionID != "" {
			what = session.EventUpstreamReinitialised
		}
		if s.Upstreams == nil {
			s.Upstreams = map[string]session.Upstream{}
		}
		if b.SessionID == "" {
			delete(s.Upstreams, server)
			return
		}
		s.Upstreams[server] = session.Upstream(b)
	})
	if err == nil {
		cs.g.cfg.Sessions.Note(cs.id, what, server)
	}
	return err
}

// ready tells a server that has just been initialized for this client what an
// earlier connection was told.
func (cs *clientSession) ready(ctx context.Context, c *upstream.Conn) error {
	s, err := cs.g.cfg.Sessions.Get(ctx, cs.id)
	if err != nil {
		return err
	}
	has, err := jsonrpc.Fields(c.Initialized().Capabilities, "logging", "resources")
	if err != nil {
		return nil //nolint:nilerr // a server without readable capabilities is asked for nothing
	}
	if s.LogLevel != "" && has[0] != nil {
		_, err = c.Call(ctx, upstream.Request{Method: protocol.MethodLoggingSetLevel, Params: protocol.LevelParams(s.LogLevel)})
	}
	for _, uri := range s.Subscriptions {
		if err == nil && has[1] != nil && cs.g.serverOf(uri) == c.Server() {
			_, err = c.Call(ctx, upstream.Request{Method: protocol.MethodResourcesSubscribe, Params: protocol.URIParams(uri)})
		}
	}
	return err
}

// eachLink calls fn for every link there is.
func (cs *clientSession) eachLink(fn func(*upstream.Link)) {
	cs.mu.Lock()
	links := make([]*upstream.Link, 0, len(cs.links))
	for _, l := range cs.links {
		links = append(links, l)
	}
	cs.mu.Unlock()
	for _, l := range links {
		fn(l)
	}
}

// Notify takes what a connection of this session sent outside of a call.
func (cs *clientSession) Notify(m jsonrpc.Message) {
	if protocol.IsListChanged(m.Method) && cs.g.only == nil {
		return // the hub's own connection hears it too, and its lists are what the client sees
	}
	if protocol.IsListChanged(m.Method) {
		cs.announce(m)
		return
	}
	cs.push(m)
}

// changePause is how long changes of a list are collected after the first.
const changePause = 250 * time.Millisecond

// announce tells the client that a list has changed. A storm of changes becomes
// a message at its beginning, and one for each changePause that it lasts.
func (cs *clientSession) announce(m jsonrpc.Message) {
	method := m.Method
	cs.mu.Lock()
	_, collecting := cs.changes[method]
	if !cs.ended {
		put(&cs.changes, method, collecting)
	}
	ended := cs.ended
	cs.mu.Unlock()
	if collecting || ended {
		return
	}
	cs.push(m)
	cs.g.running.Go(func() {
		timer := time.NewTimer(changePause)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-cs.ctx.Done():
		}
		cs.mu.Lock()
		again := cs.changes[method]
		delete(cs.changes, method)
		cs.mu.Unlock()
		if again && cs.ctx.Err() == nil {
			cs.announce(jsonrpc.Message{Method: method})
		}
	})
}

// Ask takes a question that a connection of this session asked outside of a call.
func (cs *clientSession) Ask(ctx context.Context, m jsonrpc.Message) (json.RawMessage, error) {
	if err := answerable(cs.opened.Capabilities, m); err != nil {
		return nil, err
	}
	return cs.ask(ctx, m, cs.question)
}

// push sends a notification that belongs to no request.
func (cs *clientSession) push(m jsonrpc.Message) {
	if reason := cs.send(cs.ctx, m, stream.MayWait); reason != "" {
		cs.g.tel.dropped(reason)
	}
}

// question sends a question that belongs to no request. It does not wait for a
// client that is not there.
func (cs *clientSession) question(ctx context.Context, m jsonrpc.Message) (reason string) {
	return cs.send(ctx, m, stream.ReadNow)
}

// send puts m on a GET stream, and says why if it cannot. ctx belongs to what m
// is about.
func (cs *clientSession) send(ctx context.Context, m jsonrpc.Message, until stream.Delivery) (reason string) {
	if reason = cs.log().Send(m.Encode(), until); reason == "" {
		cs.g.said(ctx, m)
	}
	return reason
}

// log returns what owns the session's streams.
func (cs *clientSession) log() *stream.Log {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.streams == nil {
		cs.streams = stream.NewLog(cs.g.keep, cs.prefix, cs.opened.ProtocolVersion)
		if cs.ended {
			cs.streams.Close()
		}
	}
	return cs.streams
}

// mayHave reports whether there is room for a subscription to uri in the
// session's record.
func (cs *clientSession) mayHave(uri string) bool {
	s, err := cs.g.cfg.Sessions.Get(cs.ctx, cs.id)
	size := len(uri)
	for _, have := range s.Subscriptions {
		if have != uri {
			size += len(have)
		}
	}
	return err != nil || size <= maxSubscriptions
}

// subscribed reports whether the client asked to hear of the resource.
func (cs *clientSession) subscribed(uri string) bool {
	s, err := cs.g.cfg.Sessions.Get(cs.ctx, cs.id)
	return err == nil && slices.ContainsFunc(s.Subscriptions, func(have string) bool {
		// A server may name a part of the resource, specification 2025-11-25, schema, ResourceUpdatedNotification.
		return have == uri || strings.HasPrefix(uri, strings.TrimSuffix(have, "/")+"/")
	})
}

// whyEnded is the cause of the end of a call, once the call has come to err. cause is
// that of its context.
func (g *Gateway) whyEnded(err, cause error) error {
	if !errors.Is(err, upstream.ErrLost) || errors.Is(cause, errClientCancelled) {
		return cause
	}
	select {
	case <-g.draining: // the servers may be stopped before the session is
		return endedError{session.Shutdown}
	default:
		return cause
	}
}

// callError is the JSON-RPC error for a call that got no answer.
func (g *Gateway) callError(err, cause error) *jsonrpc.Error {
	if ended, ok := errors.AsType[endedError](g.whyEnded(err, cause)); ok {
		return jsonrpc.Errorf(jsonrpc.CodeInternal, "%v", ended)
	}
	return jsonrpc.AsError(err)
}
