package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mcphub-go/mcphub/pkg/budget"
	"github.com/mcphub-go/mcphub/pkg/gateway/observe"
	"github.com/mcphub-go/mcphub/pkg/gateway/routing"
	"github.com/mcphub-go/mcphub/pkg/gateway/stream"
	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
	"github.com/mcphub-go/mcphub/pkg/session"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

// The limits of subscriptions/listen.
const (
	maxSubscriptionStreams = 1024 // of all clients
	maxSubscriptionURIs    = 1000 // of one stream
	subscriptionQueue      = 256  // messages that wait to be written to one stream
	subscribeConcurrency   = 16   // requests to servers at once, for one stream
)

// subscription is the stream of one subscriptions/listen, specification 2026-07-28,
// basic/utilities/subscriptions. It is a routing.Subscriber. The goroutine of the HTTP request writes the stream.
type subscription struct {
	*core
	id    jsonrpc.ID      // of the request subscriptions/listen
	lists map[string]bool // the list_changed methods that the client wants; set before use
	out   chan []byte     // messages that wait to be written
	check chan struct{}   // receives when its connections may be lost
	ctx   context.Context //nolint:containedctx // of the request, with its span and session

	queued subscriptionMemory

	agreed atomic.Pointer[[]string] // URIs that servers have accepted; nil: not known yet

	links     map[*upstream.Server]*upstream.Link // used by the goroutine of the request
	repairing atomic.Bool                         // repair is running
}

// changeFilter is the member notifications of subscriptions/listen and its acknowledgement.
type changeFilter struct {
	Tools     bool     `json:"toolsListChanged,omitempty"`
	Prompts   bool     `json:"promptsListChanged,omitempty"`
	Resources bool     `json:"resourcesListChanged,omitempty"`
	URIs      []string `json:"resourceSubscriptions,omitempty"`
}

// subscriptions owns the open streams of subscriptions/listen. Its methods may be called concurrently.
type subscriptions struct {
	*core

	mu   sync.Mutex
	open map[*subscription]bool
}

func newSubscriptions(c *core) *subscriptions {
	return &subscriptions{core: c, open: map[*subscription]bool{}}
}

// add adds a stream. It reports false if there are too many.
func (x *subscriptions) add(s *subscription) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.open) >= maxSubscriptionStreams {
		return false
	}
	x.open[s] = true
	return true
}

// remove removes a stream that has ended.
func (x *subscriptions) remove(s *subscription) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.open, s)
}

// all returns the open streams.
func (x *subscriptions) all() []*subscription {
	x.mu.Lock()
	defer x.mu.Unlock()
	all := make([]*subscription, 0, len(x.open))
	for s := range x.open {
		all = append(all, s)
	}
	return all
}

// listChanged sends each stream notifications of these methods, and has its own connections checked: they
// may be lost.
func (x *subscriptions) listChanged(methods map[string]bool) {
	for _, s := range x.all() {
		s.checkLinks()
		for method := range methods {
			s.Notify(jsonrpc.Message{Method: method})
		}
	}
}

// listen answers subscriptions/listen, until the client closes the connection.
func (x *subscriptions) listen(w http.ResponseWriter, r *http.Request, req *modernRequest) {
	params, err := jsonrpc.Fields(req.message.Params, "notifications")
	var filter changeFilter
	// The quotes are counted first: a list of very many short strings takes many times the memory of its text.
	if err != nil || params[0] == nil || bytes.Count(params[0], []byte(`"`)) > 4*maxSubscriptionURIs ||
		json.Unmarshal(params[0], &filter) != nil || len(filter.URIs) > maxSubscriptionURIs {
		req.refuse(w, jsonrpc.Errorf(jsonrpc.CodeInvalidParams,
			"subscriptions/listen needs notifications, an object that says what to listen to, with up to %d resources",
			maxSubscriptionURIs))
		return
	}
	x.router.AwaitServers(req.ctx) // restrict needs the capabilities of the servers
	s := &subscription{core: x.core, id: req.message.ID, ctx: req.ctx, out: make(chan []byte, subscriptionQueue),
		check: make(chan struct{}, 1), links: map[*upstream.Server]*upstream.Link{}}
	s.queued.held.On(&req.memory)
	defer s.queued.close()
	if err := s.queued.held.Grow(sizeOf(req.message)); err != nil {
		req.refuse(w, memoryError(err))
		return
	}
	filter = s.restrict(filter)
	if !x.add(s) {
		w.Header().Set("Retry-After", "30")
		response := jsonrpc.NewError(s.id, errBusy)
		req.op.End(s.ctx, response, nil)
		req.op.Respond(s.ctx, response)
		refuse(w, http.StatusServiceUnavailable, s.id, errBusy)
		return
	}
	defer s.close()
	defer x.remove(s)
	filter.URIs = s.subscribe(req.client, filter.URIs)
	req.op.End(s.ctx, jsonrpc.Message{Result: json.RawMessage(`{}`)}, nil) // the span must not last as long as the stream
	defer req.op.InFlight.Cancel(instrument.Disconnected)                  // unless the hub ends the stream
	events := x.streamMetrics.Start(w, stream.KindSubscription)
	events.End(s.write(r, req.op, events, filter))
}

// restrict returns the part of the filter that servers report, and keeps the methods of its lists.
func (s *subscription) restrict(filter changeFilter) changeFilter {
	capabilities, err := jsonrpc.Fields(s.router.Capabilities(), "tools", "prompts", "resources")
	if err != nil {
		return changeFilter{}
	}
	s.lists = map[string]bool{}
	for i, list := range []struct {
		wanted *bool
		method string
	}{
		{&filter.Tools, protocol.MethodToolsListChanged},
		{&filter.Prompts, protocol.MethodPromptsListChanged},
		{&filter.Resources, protocol.MethodResourcesListChanged},
	} {
		has, err := jsonrpc.Fields(capabilities[i], "listChanged")
		if err != nil || string(has[0]) != "true" {
			*list.wanted = false
		}
		s.lists[list.method] = *list.wanted
	}
	slices.Sort(filter.URIs)
	filter.URIs = slices.Compact(filter.URIs)
	return filter
}

// subscribe asks the servers for updates of resources, and returns the URIs that they have accepted. An update that
// a server sends at once is not missed.
func (s *subscription) subscribe(client modernClient, uris []string) []string {
	s.interests.Join(s, "", uris)
	ctx, cancel := context.WithTimeoutCause(s.ctx, routing.ResumeTimeout, upstream.ErrTimeout)
	defer cancel()
	var calls sync.WaitGroup
	slots := make(chan struct{}, subscribeConcurrency)
	for _, uri := range uris {
		server := s.router.Pool.Server(s.router.ServerOf(uri))
		if server == nil {
			s.interests.Unsubscribe(s, uri)
			continue
		}
		link := s.link(server, client)
		slots <- struct{}{}
		calls.Go(func() {
			defer func() { <-slots }()
			response, err := link.Call(ctx, upstream.Request{Method: protocol.MethodResourcesSubscribe, Params: protocol.URIParams(uri)})
			if err != nil || response.Error != nil {
				s.interests.Unsubscribe(s, uri)
				s.log.DebugContext(ctx, "a server does not send updates of a resource", "upstream", server.Name(),
					"err", instrument.Redacted(err))
			}
		})
	}
	calls.Wait()
	agreed := s.interests.Subscriptions(s)
	slices.Sort(agreed)
	s.agreed.Store(&agreed)
	return agreed
}

// link returns the link of the subscription to a server.
func (s *subscription) link(server *upstream.Server, client modernClient) *upstream.Link {
	if l := s.links[server]; l != nil {
		return l
	}
	l := server.Link(upstream.LinkConfig{Sink: subscriptionSink{s}, Identity: client.identity, Modern: true, OnReady: s.resubscribe,
		Owner: session.WithID(context.Background(), session.IDFrom(s.ctx))})
	s.links[server] = l
	return l
}

// checkLinks makes the subscription repair its own connections.
func (s *subscription) checkLinks() {
	select {
	case s.check <- struct{}{}:
	default:
	}
}

// repair makes lost connections of the subscription's own again, in the background. There are no calls over
// them that would do it.
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
	s.background.Go(func() {
		defer s.repairing.Store(false)
		ctx, cancel := context.WithTimeoutCause(ctx, routing.ResumeTimeout, upstream.ErrTimeout)
		defer cancel()
		for _, l := range own {
			if err := l.Connect(ctx); err != nil {
				s.log.DebugContext(ctx, "the connection of a subscription is not back yet", "err", instrument.Redacted(err))
			}
		}
	})
}

// resubscribe subscribes again on a new connection.
func (s *subscription) resubscribe(ctx context.Context, c *upstream.Conn) error {
	agreed := s.agreed.Load()
	if agreed == nil {
		return nil
	}
	for _, uri := range *agreed {
		if s.router.ServerOf(uri) != c.Server() {
			continue
		}
		_, err := c.Call(ctx, upstream.Request{Method: protocol.MethodResourcesSubscribe, Params: protocol.URIParams(uri)})
		// A refusal must not end the other subscriptions.
		if _, refused := errors.AsType[*jsonrpc.Error](err); err != nil && !refused {
			return err
		}
	}
	return nil
}

// Updated implements routing.Subscriber.
func (s *subscription) Updated(server string, m jsonrpc.Message) {
	s.tel.Tap.FromServer(s.ctx, server, m)
	s.Notify(m)
}

// Notify sends a notification of a server or of the hub, if the client wants it.
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
		s.queue(m)
	}
}

// wants reports whether the client wants the notification m.
func (s *subscription) wants(m jsonrpc.Message) bool {
	if s.lists[m.Method] {
		return true
	}
	if m.Method != protocol.MethodResourcesUpdated {
		return false
	}
	uri, ok := jsonrpc.StringField(m.Params, "uri")
	return ok && s.interests.Wants(s, uri)
}

// subscriptionSink is the upstream.Sink of the own connections of a subscription.
type subscriptionSink struct{ s *subscription }

// Notify sends updates. The hub gets list changes over its own connection, and sends them when it has read the
// lists.
func (k subscriptionSink) Notify(m jsonrpc.Message) {
	if !protocol.IsListChanged(m.Method) {
		k.s.Notify(m)
	}
}

// Ask refuses the request, because there is no call to which it could belong.
func (k subscriptionSink) Ask(ctx context.Context, m jsonrpc.Message) (json.RawMessage, error) {
	return unrelated{k.s.tel}.Ask(ctx, m)
}

// queue adds a message to the stream, or drops it if the client reads too slowly.
func (s *subscription) queue(m jsonrpc.Message) {
	message := m.Encode()
	if !s.queued.add(len(message)) {
		s.tel.Dropped("slow_reader")
		return
	}
	select {
	case s.out <- message:
		s.tel.Sent(s.ctx, m)
	default:
		s.queued.remove(len(message))
		s.tel.Dropped("slow_reader")
	}
}

// subscriptionMemory is the memory of the messages that wait to be written to one stream. The zero value has no limit. Its
// methods may be called concurrently.
type subscriptionMemory struct {
	mu     sync.Mutex
	closed bool
	held   budget.Hold
}

// add reserves memory for a message. It reports false if there is none, or after close.
func (x *subscriptionMemory) add(size int) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return !x.closed && x.held.Grow(int64(size)) == nil
}

// remove gives the memory of a message back.
func (x *subscriptionMemory) remove(size int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.closed {
		x.held.Force(-int64(size))
	}
}

// close gives everything back.
func (x *subscriptionMemory) close() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.closed = true
	x.held.Release()
}

// acknowledgement returns notifications/subscriptions/acknowledged.
func (s *subscription) acknowledgement(filter changeFilter) jsonrpc.Message {
	agreed, err := json.Marshal(filter)
	if err != nil { // strings and booleans are JSON
		panic(err)
	}
	params := append(append(json.RawMessage(`{"_meta":`), s.meta()...), `,"notifications":`...)
	return jsonrpc.Message{Method: protocol.MethodSubscriptionsAcknowledged, Params: append(append(params, agreed...), '}')}
}

// meta returns the _meta of the messages of the stream.
func (s *subscription) meta() json.RawMessage {
	return append(append(append(json.RawMessage(`{`), jsonrpc.String(protocol.MetaSubscriptionID)...), ':'), append([]byte(s.id), '}')...)
}

// write writes the acknowledgement and what follows, until the client or the hub ends the stream. It returns
// the reason.
func (s *subscription) write(r *http.Request, op *observe.Operation, events *stream.Events, filter changeFilter) stream.Reason {
	first := s.acknowledgement(filter)
	s.tel.Sent(s.ctx, first)
	if !events.Message("", first.Encode()) {
		return stream.WriteFailed
	}
	beat := time.NewTicker(s.cfg.heartbeat())
	defer beat.Stop()
	for {
		ok := true
		select {
		case m := <-s.out:
			ok = events.Message("", m)
			s.queued.remove(len(m))
		case <-beat.C:
			ok = events.Comment("keep-alive")
			s.repair(r.Context())
		case <-s.check:
			s.repair(r.Context())
		case <-s.draining:
			last := jsonrpc.NewResult(s.id, append(append(json.RawMessage(`{"resultType":"complete","_meta":`), s.meta()...), '}'))
			op.Respond(s.ctx, last)
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

// close unsubscribes from the servers and closes its own connections, in the background.
func (s *subscription) close() {
	s.interests.EndUnwanted(s.interests.Leave(s))
	for _, link := range s.links {
		if link.Isolated() {
			s.background.Go(func() { link.Close(true) })
		}
	}
}
