package routing

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

// ResumeTimeout limits the requests that renew subscriptions and log levels at a server.
const ResumeTimeout = 30 * time.Second

// unsubscribeTimeout limits the requests that end unwanted subscriptions.
const unsubscribeTimeout = 5 * time.Second

// Subscriber receives the updates of resources that it has subscribed to: a legacy session, or a
// modern subscription.
type Subscriber interface {
	// Updated takes notifications/resources/updated of server. It does not block.
	Updated(server string, m jsonrpc.Message)
}

// Interests knows what the clients want of the servers whose connection they share: subscriptions and log levels. Such
// a server has one client, the hub. The hub asks it for what any client wants, and each client gets only what it asked
// for. The records of the sessions store the same interests; Interests is the index of those of the open sessions and
// modern subscriptions. Its methods may be called concurrently.
type Interests struct {
	router     *Router
	background func(fn func()) // runs fn on a goroutine
	log        *slog.Logger

	mu         sync.Mutex
	interests  map[Subscriber]*interest
	byURI      map[string]map[Subscriber]bool // the subscribers of each resource
	lengths    map[int]int                    // number of the URIs in byURI by their length
	sessions   [8]int                         // number of sessions by the severity of their log level
	modernMost map[string]string              // by server: the most verbose level that modern requests asked for
}

// interest is what one subscriber wants.
type interest struct {
	uris  map[string]bool // its subscriptions
	level string          // empty: no level was set
}

// NewInterests makes an Interests without subscribers. background runs a function on a goroutine that the caller
// waits for.
func NewInterests(r *Router, background func(fn func()), log *slog.Logger) *Interests {
	return &Interests{router: r, background: background, log: log, interests: map[Subscriber]*interest{},
		byURI: map[string]map[Subscriber]bool{}, lengths: map[int]int{}, modernMost: map[string]string{}}
}

// Join adds a subscriber with its level, which may be empty, and its subscriptions.
func (x *Interests) Join(who Subscriber, level string, uris []string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.interests[who] = &interest{}
	x.change(who, level)
	for _, uri := range uris {
		x.add(who, uri)
	}
}

// Leave removes a subscriber, and returns its subscriptions that no other subscriber has.
func (x *Interests) Leave(who Subscriber) (unwanted []string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	w := x.interests[who]
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
	delete(x.interests, who)
	return unwanted
}

// Subscribe adds a subscription. It does nothing for a subscriber that has left.
func (x *Interests) Subscribe(who Subscriber, uri string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.add(who, uri)
}

// Unsubscribe removes a subscription.
func (x *Interests) Unsubscribe(who Subscriber, uri string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.remove(who, uri)
}

// add is Subscribe with mu held.
func (x *Interests) add(who Subscriber, uri string) {
	w := x.interests[who]
	if w == nil {
		return
	}
	if w.uris == nil {
		w.uris = map[string]bool{}
	}
	w.uris[uri] = true
	if x.byURI[uri] == nil {
		x.byURI[uri] = map[Subscriber]bool{}
		x.lengths[len(uri)]++
	}
	x.byURI[uri][who] = true
}

// remove is Unsubscribe with mu held.
func (x *Interests) remove(who Subscriber, uri string) {
	if w := x.interests[who]; w != nil {
		delete(w.uris, uri)
	}
	of := x.byURI[uri]
	if !of[who] {
		return
	}
	if delete(of, who); len(of) > 0 {
		return
	}
	delete(x.byURI, uri)
	if x.lengths[len(uri)]--; x.lengths[len(uri)] == 0 {
		delete(x.lengths, len(uri))
	}
}

// SetLevel sets the log level of a session.
func (x *Interests) SetLevel(who Subscriber, level string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.change(who, level)
}

// change is SetLevel with mu held.
func (x *Interests) change(who Subscriber, level string) {
	w := x.interests[who]
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

// WantsLog reports whether a session wants the notifications/message m. A session that has not
// set a level gets all of them.
func (x *Interests) WantsLog(who Subscriber, m jsonrpc.Message) bool {
	level, ok := jsonrpc.StringField(m.Params, "level")
	x.mu.Lock()
	defer x.mu.Unlock()
	w := x.interests[who]
	return w == nil || !ok || protocol.LogSeverity(level) >= protocol.LogSeverity(w.level)
}

// Wants reports whether who has subscribed to uri or to a resource that uri is a part of.
func (x *Interests) Wants(who Subscriber, uri string) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if w := x.interests[who]; w != nil {
		for have := range w.uris {
			if strings.HasPrefix(uri, have) && covers(uri, len(have)) {
				return true
			}
		}
	}
	return false
}

// WantedBesides reports whether a subscriber other than who, which may be nil, has subscribed to uri.
func (x *Interests) WantedBesides(who Subscriber, uri string) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	n := len(x.byURI[uri])
	if x.byURI[uri][who] {
		n--
	}
	return n > 0
}

// Subscriptions returns the subscriptions of who.
func (x *Interests) Subscriptions(who Subscriber) (uris []string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if w := x.interests[who]; w != nil {
		for uri := range w.uris {
			uris = append(uris, uri)
		}
	}
	return uris
}

// Subscribers returns the subscribers of uri and of the resources that uri is a part of. A server may send a long uri.
// So a prefix of uri is looked up only if a subscribed URI has its length: the cost grows with the subscriptions.
func (x *Interests) Subscribers(uri string) []Subscriber {
	x.mu.Lock()
	defer x.mu.Unlock()
	found := map[Subscriber]bool{}
	for length := range x.lengths {
		if length <= len(uri) && covers(uri, length) {
			for who := range x.byURI[uri[:length]] {
				found[who] = true
			}
		}
	}
	return slices.Collect(maps.Keys(found))
}

// covers reports whether a subscription to the first length bytes of uri includes uri. They must be uri itself or,
// because a server may send an update of a part of a resource (specification 2025-11-25, schema,
// ResourceUpdatedNotification), end before or after a slash.
func covers(uri string, length int) bool {
	return length == len(uri) || uri[length] == '/' || (length > 0 && uri[length-1] == '/')
}

// Level returns the log level for a shared server: the most verbose that any client wants, or an empty string.
func (x *Interests) Level(server string) string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return protocol.MoreVerbose(x.sessionLevel(), x.modernMost[server])
}

// sessionLevel returns the most verbose level of the sessions. The caller holds mu.
func (x *Interests) sessionLevel() string {
	for severity, n := range x.sessions {
		if n > 0 {
			return protocol.LogLevel(severity)
		}
	}
	return ""
}

// RaiseModern notes that a modern request wants level of a shared server. It reports whether that is
// more verbose than the level of earlier modern requests. The level is never lowered: each request filters for itself.
func (x *Interests) RaiseModern(server, level string) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	most := x.modernMost[server]
	if most != "" && protocol.MoreVerbose(most, level) == most {
		return false
	}
	x.modernMost[server] = level
	return true
}

// ForgetModern makes the next modern request set its level at the server again.
func (x *Interests) ForgetModern(server string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.modernMost, server)
}

// Connected renews all subscriptions and the log level at a shared server with a new connection, in the background.
func (x *Interests) Connected(server *upstream.Server) {
	x.mu.Lock()
	uris := make([]string, 0, len(x.byURI))
	for uri := range x.byURI {
		uris = append(uris, uri)
	}
	x.mu.Unlock()
	if len(uris) == 0 && x.Level(server.Name()) == "" {
		return
	}
	x.background(func() { x.renew(server, uris) })
}

// Opened renews the log level and the subscriptions of a session at the shared servers, in the background, after the
// session was opened again.
func (x *Interests) Opened(level string, uris []string) {
	if level == "" && len(uris) == 0 {
		return
	}
	for _, server := range x.router.Pool.Servers() {
		if !server.Isolated() {
			x.background(func() { x.renew(server, uris) })
		}
	}
}

// renew subscribes to those of uris that server has, and sets the most verbose level that any client wants.
func (x *Interests) renew(server *upstream.Server, uris []string) {
	ctx, cancel := context.WithTimeout(context.Background(), ResumeTimeout)
	defer cancel()
	if !x.router.Pool.WaitAttempted(ctx) {
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
		if has[1] != nil && x.router.ServerOf(uri) == server.Name() {
			call(protocol.MethodResourcesSubscribe, protocol.URIParams(uri))
		}
	}
	if level := x.Level(server.Name()); has[0] != nil && level != "" {
		call(protocol.MethodLoggingSetLevel, protocol.LevelParams(level))
	}
}

// EndUnwanted unsubscribes, in the background, from resources of shared servers whose last subscriber has left.
// Isolated servers need nothing: the connection of the subscriber ends.
func (x *Interests) EndUnwanted(uris []string) {
	servers := map[string]*upstream.Server{}
	for _, uri := range uris {
		server := x.router.Pool.Server(x.router.ServerOf(uri))
		if server != nil && !server.Isolated() && server.Status().State == upstream.Up {
			servers[uri] = server
		}
	}
	if len(servers) == 0 {
		return
	}
	x.background(func() {
		ctx, cancel := context.WithTimeout(context.Background(), unsubscribeTimeout)
		defer cancel()
		for uri, server := range servers {
			if x.WantedBesides(nil, uri) {
				continue // a client has subscribed meanwhile
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
