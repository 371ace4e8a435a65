package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
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

const (
	maxListeners      = 1024 // streams of changes at once, of all clients
	maxListenURIs     = 1000 // of one stream
	subscriptionQueue = 256  // messages that wait to be written to one stream
)

// subscription is a stream on which a modern client hears what changed,
// specification 2026-07-28, basic/utilities/subscriptions.
type subscription struct {
	g     *Gateway
	id    jsonrpc.ID
	kinds map[string]bool // methods of the list_changed notifications it wants
	out   chan []byte
	wake  chan struct{}   // its connections may have been lost
	ctx   context.Context //nolint:containedctx // of the request, for its span and session

	// Guarded by Gateway.mu.
	uris   []string // of the resources it wants and may get
	agreed []string // those of them that servers have agreed to; nil: not known yet

	links     map[*upstream.Server]*upstream.Link // used by one goroutine
	repairing atomic.Bool
}

// changeFilter is what a client wants to hear, and what it will.
type changeFilter struct {
	Tools     bool     `json:"toolsListChanged,omitempty"`
	Prompts   bool     `json:"promptsListChanged,omitempty"`
	Resources bool     `json:"resourcesListChanged,omitempty"`
	URIs      []string `json:"resourceSubscriptions,omitempty"`
}

// subscription serves subscriptions/listen until the client goes away.
func (g *Gateway) subscription(ctx context.Context, w http.ResponseWriter, r *http.Request, m jsonrpc.Message, about aboutClient,
	op *operation, fail func(*jsonrpc.Error),
) {
	params, err := jsonrpc.Fields(m.Params, "notifications")
	var filter changeFilter
	if err != nil || params[0] == nil || json.Unmarshal(params[0], &filter) != nil || len(filter.URIs) > maxListenURIs {
		fail(jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "subscriptions/listen needs notifications, an object that says what to listen to, with up to %d resources", maxListenURIs))
		return
	}
	g.settled(ctx) // before that nobody can say what there is to hear of
	s := &subscription{g: g, id: m.ID, ctx: ctx, out: make(chan []byte, subscriptionQueue), wake: make(chan struct{}, 1),
		links: map[*upstream.Server]*upstream.Link{}}
	filter = s.honour(filter)
	if !g.addSubscription(s) {
		w.Header().Set("Retry-After", "30")
		response := jsonrpc.NewError(m.ID, errBusy)
		op.end(ctx, response, nil)
		g.responded(ctx, op, response)
		refuse(w, http.StatusServiceUnavailable, m.ID, errBusy)
		return
	}
	defer s.close()
	s.subscribe(ctx, about, &filter)
	op.end(ctx, jsonrpc.Message{Result: json.RawMessage(`{}`)}, nil) // a span is not to last as long as a stream
	defer op.flight.Cancel(instrument.Disconnected)                  // unless the hub ended the stream
	events := g.tel.streams.Start(w, stream.KindSubscription)
	events.End(s.feed(r, op, events, jsonrpc.Message{Method: protocol.MethodSubscriptionsAcknowledged, Params: s.acknowledgement(filter)}))
}

// honour returns the part of the filter that somebody will speak of, and notes it.
func (s *subscription) honour(filter changeFilter) changeFilter {
	capabilities, err := jsonrpc.Fields(s.g.capabilities(), "tools", "prompts", "resources")
	if err != nil {
		return changeFilter{}
	}
	s.kinds = map[string]bool{}
	for i, kind := range []struct {
		wanted *bool
		method string
	}{
		{&filter.Tools, protocol.MethodToolsListChanged},
		{&filter.Prompts, protocol.MethodPromptsListChanged},
		{&filter.Resources, protocol.MethodResourcesListChanged},
	} {
		has, err := jsonrpc.Fields(capabilities[i], "listChanged")
		if err != nil || string(has[0]) != "true" {
			*kind.wanted = false
		}
		s.kinds[kind.method] = *kind.wanted
	}
	slices.Sort(filter.URIs)
	filter.URIs = slices.Compact(filter.URIs)
	return filter
}

// subscribe has the servers tell of the resources, and leaves those in the
// filter that they will tell of. What they tell at once is not missed.
func (s *subscription) subscribe(ctx context.Context, about aboutClient, filter *changeFilter) {
	s.g.mu.Lock()
	s.uris = slices.Clone(filter.URIs)
	s.g.mu.Unlock()
	var asking sync.WaitGroup
	ctx, cancel := context.WithTimeoutCause(ctx, resumeTimeout, upstream.ErrTimeout)
	defer cancel()
	slots := make(chan struct{}, 16) // requests at once
	for _, uri := range filter.URIs {
		server := s.g.cfg.Pool.Server(s.g.serverOf(uri))
		if server == nil {
			s.giveUp(uri)
			continue
		}
		link := s.link(server, about)
		slots <- struct{}{}
		asking.Go(func() {
			defer func() { <-slots }()
			response, err := link.Call(ctx, upstream.Request{Method: protocol.MethodResourcesSubscribe, Params: protocol.URIParams(uri)})
			if err != nil || response.Error != nil {
				s.giveUp(uri)
				s.g.log.DebugContext(ctx, "a server does not tell of a resource", "upstream", server.Name(), "err", instrument.Redacted(err))
			}
		})
	}
	asking.Wait()
	s.g.mu.Lock()
	defer s.g.mu.Unlock()
	s.agreed, filter.URIs = s.uris, s.uris
}

// giveUp takes a resource out that no server will tell of.
func (s *subscription) giveUp(uri string) {
	s.g.mu.Lock()
	defer s.g.mu.Unlock()
	// A new list: others may read the one that was.
	s.uris = slices.DeleteFunc(slices.Clone(s.uris), func(have string) bool { return have == uri })
}

// link is the subscription's way to a server: a connection of its own, where
// clients have some.
func (s *subscription) link(server *upstream.Server, about aboutClient) *upstream.Link {
	if l := s.links[server]; l != nil {
		return l
	}
	l := server.Link(upstream.LinkConfig{Sink: updates{s}, Identity: about.identity, Modern: true, OnReady: s.again,
		Owner: session.WithID(context.Background(), session.IDFrom(s.ctx))})
	s.links[server] = l
	return l
}

// wakeUp has the connections looked after.
func (s *subscription) wakeUp() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// repair makes connections of the subscription's own again that were lost, in the
// background: there are no calls over them that would.
func (s *subscription) repair(ctx context.Context) {
	var own []*upstream.Link
	for _, l := range s.links {
		if l.Isolated() {
			own = append(own, l)
		}
	}
	if len(own) == 0 || !s.repairing.CompareAndSwap(false, true) {
		return
	}
	s.g.running.Go(func() {
		defer s.repairing.Store(false)
		ctx, cancel := context.WithTimeoutCause(ctx, resumeTimeout, upstream.ErrTimeout)
		defer cancel()
		for _, l := range own {
			if err := l.Connect(ctx); err != nil {
				s.g.log.DebugContext(ctx, "the connection of a subscription is not back yet", "err", instrument.Redacted(err))
			}
		}
	})
}

// again subscribes anew after a connection was lost.
func (s *subscription) again(ctx context.Context, c *upstream.Conn) error {
	s.g.mu.Lock()
	uris := s.agreed
	s.g.mu.Unlock()
	for _, uri := range uris {
		if s.g.serverOf(uri) != c.Server() {
			continue
		}
		_, err := c.Call(ctx, upstream.Request{Method: protocol.MethodResourcesSubscribe, Params: protocol.URIParams(uri)})
		if _, refused := errors.AsType[*jsonrpc.Error](err); err != nil && !refused { // the others are worth the connection
			return err
		}
	}
	return nil
}

// Notify takes what a server, or the hub, has to say.
func (s *subscription) Notify(m jsonrpc.Message) {
	if !s.wants(m) {
		return
	}
	meta, err := jsonrpc.Fields(m.Params, "_meta")
	if err != nil {
		return
	}
	tagged, err := jsonrpc.Rewrite(meta[0], jsonrpc.Edit{Name: protocol.MetaSubscriptionID, Value: json.RawMessage(s.id)})
	if err != nil {
		return
	}
	if m.Params, err = jsonrpc.Rewrite(m.Params, jsonrpc.Edit{Name: "_meta", Value: tagged}); err == nil {
		s.say(m)
	}
}

func (s *subscription) wants(m jsonrpc.Message) bool {
	if s.kinds[m.Method] {
		return true
	}
	if m.Method != protocol.MethodResourcesUpdated {
		return false
	}
	uri, ok := jsonrpc.StringField(m.Params, "uri")
	s.g.mu.Lock()
	defer s.g.mu.Unlock()
	return ok && slices.ContainsFunc(s.uris, func(have string) bool { return covers(have, uri) })
}

// covers reports whether a subscription to one resource is to hear of another:
// a server may name a part of it, specification 2025-11-25, schema,
// ResourceUpdatedNotification.
func covers(have, uri string) bool {
	return have == uri || strings.HasPrefix(uri, strings.TrimSuffix(have, "/")+"/")
}

// updates is the upstream.Sink of a subscription's own connections. Of lists the
// hub's own connection tells, when the hub has read them.
type updates struct{ s *subscription }

func (u updates) Notify(m jsonrpc.Message) {
	if !protocol.IsListChanged(m.Method) {
		u.s.Notify(m)
	}
}

// Ask refuses: there is no call that a question could belong to.
func (u updates) Ask(_ context.Context, m jsonrpc.Message) (json.RawMessage, error) {
	return nil, jsonrpc.Errorf(jsonrpc.CodeMethodNotFound, "no request is under way that %s could belong to", instrument.MethodLabel(m.Method))
}

// say puts a message on the stream.
func (s *subscription) say(m jsonrpc.Message) {
	select {
	case s.out <- m.Encode():
		s.g.said(s.ctx, m)
	default:
		s.g.tel.dropped("slow_reader")
	}
}

func (s *subscription) acknowledgement(filter changeFilter) json.RawMessage {
	agreed, err := json.Marshal(filter)
	if err != nil { // texts and booleans are JSON
		panic(err)
	}
	params := append(append(json.RawMessage(`{"_meta":`), s.meta()...), `,"notifications":`...)
	return append(append(params, agreed...), '}')
}

func (s *subscription) meta() json.RawMessage {
	return append(append(append(json.RawMessage(`{`), jsonrpc.String(protocol.MetaSubscriptionID)...), ':'), append([]byte(s.id), '}')...)
}

// feed writes the acknowledgement, and what comes until the client or the hub
// goes away. It says which.
func (s *subscription) feed(r *http.Request, op *operation, events *stream.Events, first jsonrpc.Message) stream.Reason {
	s.g.said(s.ctx, first)
	if !events.Message("", first.Encode()) {
		return stream.WriteFailed
	}
	beat := time.NewTicker(s.g.cfg.heartbeat())
	defer beat.Stop()
	for {
		ok := true
		select {
		case m := <-s.out:
			ok = events.Message("", m)
		case <-beat.C:
			ok = events.Comment("keep-alive")
			s.repair(r.Context())
		case <-s.wake:
			s.repair(r.Context())
		case <-s.g.draining:
			last := jsonrpc.NewResult(s.id, append(append(json.RawMessage(`{"resultType":"complete","_meta":`), s.meta()...), '}'))
			s.g.responded(s.ctx, op, last)
			events.Message("", last.Encode())
			return stream.Shutdown
		case <-r.Context().Done():
			return stream.ClientGone
		}
		if !ok {
			return stream.WriteFailed
		}
	}
}

// close ends what the servers have been asked for, in the background.
func (s *subscription) close() {
	g := s.g
	g.mu.Lock()
	delete(g.subs, s)
	uris := s.uris
	g.mu.Unlock()
	for server, link := range s.links {
		if link.Isolated() {
			g.running.Go(func() { link.Close(true) })
			continue
		}
		g.running.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), unsubscribeTimeout)
			defer cancel()
			for _, uri := range uris {
				if g.serverOf(uri) == server.Name() && !g.wantedBesides("", uri) && server.Status().State == upstream.Up {
					_, _ = link.Call(ctx, upstream.Request{Method: protocol.MethodResourcesUnsubscribe, Params: protocol.URIParams(uri)}) // it only tidies up
				}
			}
		})
	}
}

func (g *Gateway) addSubscription(s *subscription) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.subs) >= maxListeners {
		return false
	}
	g.subs[s] = true
	return true
}

func (g *Gateway) subscriptions() []*subscription {
	g.mu.Lock()
	defer g.mu.Unlock()
	all := make([]*subscription, 0, len(g.subs))
	for s := range g.subs {
		all = append(all, s)
	}
	return all
}
