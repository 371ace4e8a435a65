package gateway

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

const (
	resumeTimeout      = 30 * time.Second // to repeat to a server what an earlier connection was told
	unsubscribeTimeout = 5 * time.Second  // to end what nobody wants any more
)

// subscriber receives the updates of resources that it has subscribed to: a legacy session, or a
// modern subscription.
type subscriber interface {
	// updated takes notifications/resources/updated of server. It does not block.
	updated(server string, m jsonrpc.Message)
}

// interests knows what the clients want of the servers whose connection they share. Such a server
// has one client, the hub. It is told what any client wants, and each client gets what it asked for itself. The records of the
// sessions keep the same wishes durably; interests is the live index of the open ones.
// Its methods may be called concurrently.
type interests struct {
	router     *router
	background *background
	log        *slog.Logger

	mu         sync.Mutex
	wishes     map[subscriber]*wish
	byURI      map[string]map[subscriber]bool
	sessions   [8]int            // number of sessions by the severity of their log level
	modernMost map[string]string // by server: the most verbose level that modern requests asked for
}

// wish is what one subscriber wants.
type wish struct {
	uris  map[string]bool
	level string // empty: no level was set
}

func newInterests(r *router, b *background, log *slog.Logger) *interests {
	return &interests{router: r, background: b, log: log, wishes: map[subscriber]*wish{},
		byURI: map[string]map[subscriber]bool{}, modernMost: map[string]string{}}
}

// join adds a subscriber with its level, which may be empty, and its subscriptions.
func (x *interests) join(who subscriber, level string, uris []string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.wishes[who] = &wish{}
	x.change(who, level)
	for _, uri := range uris {
		x.add(who, uri)
	}
}

// leave removes a subscriber, and returns its subscriptions that nobody else has.
func (x *interests) leave(who subscriber) (unwanted []string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	w := x.wishes[who]
	if w == nil {
		return nil
	}
	for uri := range w.uris {
		x.remove(who, uri)
		if len(x.byURI[uri]) == 0 {
			unwanted = append(unwanted, uri)
		}
	}
	x.change(who, "")
	delete(x.wishes, who)
	return unwanted
}

// subscribe adds a subscription. A subscriber that has left stays away.
func (x *interests) subscribe(who subscriber, uri string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.add(who, uri)
}

// unsubscribe removes a subscription.
func (x *interests) unsubscribe(who subscriber, uri string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.remove(who, uri)
}

// add is subscribe with mu held.
func (x *interests) add(who subscriber, uri string) {
	w := x.wishes[who]
	if w == nil {
		return
	}
	put(&w.uris, uri, true)
	of := x.byURI[uri]
	put(&of, who, true)
	x.byURI[uri] = of
}

// remove is unsubscribe with mu held.
func (x *interests) remove(who subscriber, uri string) {
	if w := x.wishes[who]; w != nil {
		delete(w.uris, uri)
	}
	delete(x.byURI[uri], who)
	if len(x.byURI[uri]) == 0 {
		delete(x.byURI, uri)
	}
}

// setLevel sets the log level of a session.
func (x *interests) setLevel(who subscriber, level string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.change(who, level)
}

// change is setLevel with mu held.
func (x *interests) change(who subscriber, level string) {
	w := x.wishes[who]
	if w == nil {
		return
	}
	if i := protocol.LogSeverity(w.level); i >= 0 {
		x.sessions[i]--
	}
	if i := protocol.LogSeverity(level); i >= 0 {
		x.sessions[i]++
	}
	w.level = level
}

// wantsLog reports whether a session wants the notifications/message m. A session that has not
// set a level gets all of them.
func (x *interests) wantsLog(who subscriber, m jsonrpc.Message) bool {
	level, ok := jsonrpc.StringField(m.Params, "level")
	x.mu.Lock()
	defer x.mu.Unlock()
	w := x.wishes[who]
	return w == nil || !ok || protocol.LogSeverity(level) >= protocol.LogSeverity(w.level)
}

// wants reports whether who has subscribed to uri or to a resource that uri is a part of.
func (x *interests) wants(who subscriber, uri string) (wants bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if w := x.wishes[who]; w != nil {
		eachCovering(uri, func(have string) { wants = wants || w.uris[have] })
	}
	return wants
}

// wantedBesides reports whether anybody but who, which may be nil, has subscribed to uri.
func (x *interests) wantedBesides(who subscriber, uri string) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	n := len(x.byURI[uri])
	if x.byURI[uri][who] {
		n--
	}
	return n > 0
}

// subscriptions returns the subscriptions of who.
func (x *interests) subscriptions(who subscriber) (uris []string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if w := x.wishes[who]; w != nil {
		for uri := range w.uris {
			uris = append(uris, uri)
		}
	}
	return uris
}

// subscribers returns those who have subscribed to uri or to a resource that uri is a part of.
func (x *interests) subscribers(uri string) []subscriber {
	x.mu.Lock()
	defer x.mu.Unlock()
	found := map[subscriber]bool{}
	eachCovering(uri, func(have string) {
		for who := range x.byURI[have] {
			found[who] = true
		}
	})
	all := make([]subscriber, 0, len(found))
	for who := range found {
		all = append(all, who)
	}
	return all
}

// eachCovering calls fn with each subscribed URI that covers uri: uri itself and, since a server may
// name a part of a resource (specification 2025-11-25, schema, ResourceUpdatedNotification), each
// beginning of it that ends before or after a slash. It may call fn with one of them twice.
func eachCovering(uri string, fn func(have string)) {
	fn(uri)
	for i := range len(uri) {
		if uri[i] == '/' {
			fn(uri[:i])
			fn(uri[:i+1])
		}
	}
}

// level returns the log level to ask of a shared server: the most verbose that anybody wants, or an
// empty string.
func (x *interests) level(server string) string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return protocol.MoreVerbose(x.sessionLevel(), x.modernMost[server])
}

// sessionLevel returns the most verbose level of the sessions. The caller holds mu.
func (x *interests) sessionLevel() string {
	for severity, n := range x.sessions {
		if n > 0 {
			return protocol.LogLevel(severity)
		}
	}
	return ""
}

// raiseModern notes that a modern request wants level of a shared server. It reports whether that is
// more verbose than what modern requests asked for before. It is never lowered: each request filters for itself.
func (x *interests) raiseModern(server, level string) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	most := x.modernMost[server]
	if most != "" && protocol.MoreVerbose(most, level) == most {
		return false
	}
	x.modernMost[server] = level
	return true
}

// forgetModern makes the next modern request tell the server its level again.
func (x *interests) forgetModern(server string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.modernMost, server)
}

// connected tells a shared server, on a new connection, everything that clients want of it. It works
// in the background.
func (x *interests) connected(server *upstream.Server) {
	x.mu.Lock()
	uris := make([]string, 0, len(x.byURI))
	for uri := range x.byURI {
		uris = append(uris, uri)
	}
	x.mu.Unlock()
	if len(uris) == 0 && x.level(server.Name()) == "" {
		return
	}
	x.background.Go(func() { x.tell(server, uris) })
}

// opened tells the shared servers what a session wants that was opened again, in the background.
func (x *interests) opened(level string, uris []string) {
	if level == "" && len(uris) == 0 {
		return
	}
	for _, server := range x.router.pool.Servers() {
		if !server.Isolated() {
			x.background.Go(func() { x.tell(server, uris) })
		}
	}
}

// tell subscribes to those of uris that server has, and sets the level that anybody wants.
func (x *interests) tell(server *upstream.Server, uris []string) {
	ctx, cancel := context.WithTimeout(context.Background(), resumeTimeout)
	defer cancel()
	if !x.router.pool.Settled(ctx) {
		return
	}
	init, _ := server.Initialized()
	has, err := jsonrpc.Fields(init.Capabilities, "logging", "resources")
	if err != nil {
		return
	}
	link := server.Link(upstream.LinkConfig{})
	call := func(method string, params []byte) {
		if _, err := link.Call(ctx, upstream.Request{Method: method, Params: params}); err != nil {
			x.log.DebugContext(ctx, "a server was not told again what clients want of it", "upstream", server.Name(),
				"err", instrument.Redacted(err))
		}
	}
	for _, uri := range uris {
		if has[1] != nil && x.router.serverOf(uri) == server.Name() {
			call(protocol.MethodResourcesSubscribe, protocol.URIParams(uri))
		}
	}
	if level := x.level(server.Name()); has[0] != nil && level != "" {
		call(protocol.MethodLoggingSetLevel, protocol.LevelParams(level))
	}
}

// endUnwanted unsubscribes, in the background, from what an ended session was the last to want of
// shared servers. At isolated servers its whole connection ends.
func (x *interests) endUnwanted(uris []string) {
	servers := map[string]*upstream.Server{}
	for _, uri := range uris {
		server := x.router.pool.Server(x.router.serverOf(uri))
		if server != nil && !server.Isolated() && server.Status().State == upstream.Up {
			servers[uri] = server
		}
	}
	if len(servers) == 0 {
		return
	}
	x.background.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), unsubscribeTimeout)
		defer cancel()
		for uri, server := range servers {
			if x.wantedBesides(nil, uri) {
				continue // somebody has subscribed meanwhile
			}
			_, err := server.Link(upstream.LinkConfig{}).Call(ctx, upstream.Request{Method: protocol.MethodResourcesUnsubscribe,
				Params: protocol.URIParams(uri)})
			if err != nil {
				x.log.DebugContext(ctx, "a server was not told that nobody is subscribed any more", "upstream", server.Name(),
					"err", instrument.Redacted(err))
			}
		}
	})
}

// put puts a value into a map that is made when it is first needed.
func put[K comparable, V any](m *map[K]V, k K, v V) {
	if *m == nil {
		*m = map[K]V{}
	}
	(*m)[k] = v
}
