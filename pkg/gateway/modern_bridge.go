package gateway

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"sync"
	"time"

	"github.com/mcphub-go/mcphub/pkg/gateway/observe"
	"github.com/mcphub-go/mcphub/pkg/gateway/routing"
	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

const (
	bridgeIdle = 10 * time.Minute // time for which an unused bridge is kept
	maxBridges = 1000             // limit of the open bridges
)

// bridges owns the connections to servers for modern clients. A modern client has no session, so the hub
// holds one for it at a server that needs one. Its methods may be called concurrently.
type bridges struct {
	policies   map[string]BridgePolicy // by server
	interests  *routing.Interests
	background *background
	tel        *observe.Telemetry

	mu     sync.Mutex
	open   map[bridgeKey]*bridge // those with a session of their own
	closed bool                  // the hub stops
}

// bridgeKey identifies the client of a bridge. A session has one set of capabilities, so clients with
// different ones have different bridges.
type bridgeKey struct{ server, client string }

// bridge is the link of a modern client to a server.
type bridge struct {
	all     *bridges
	key     bridgeKey
	link    *upstream.Link
	own     bool         // the link has a session of its own, which is closed with it
	unasked heldRequests // of the server

	capabilities json.RawMessage // of the client

	// Guarded by bridges.mu.
	users int         // requests that use it
	idle  *time.Timer // closes the bridge; nil while it is used
	since time.Time   // when idle was started

	raising chan struct{} // has an element while a request sets the level at the server
	mu      sync.Mutex
	level   string // the newest level that was set at the server; empty: none
}

func newBridges(c *core) *bridges {
	return &bridges{policies: c.cfg.Bridge, interests: c.interests, background: c.background, tel: c.tel,
		open: map[bridgeKey]*bridge{}}
}

// enter returns the bridge to server for a request of the client. The caller leaves it after the request.
func (b *bridges) enter(server *upstream.Server, client modernClient) (*bridge, error) {
	if !server.Isolated() || server.Stateless() {
		link := server.Link(upstream.LinkConfig{Identity: client.identity, Modern: true})
		return &bridge{all: b, link: link}, nil
	}
	policy := b.policies[server.Name()]
	key := bridgeKey{server.Name(), client.bridgeKey(policy)}
	b.mu.Lock()
	defer b.mu.Unlock()
	if found := b.open[key]; found != nil && policy != BridgeRequest {
		found.users++
		if found.idle != nil {
			found.idle.Stop()
			found.idle = nil
		}
		return found, nil
	}
	if b.closed {
		return nil, jsonrpc.Errorf(jsonrpc.CodeInternal, "the hub is being restarted; try again later")
	}
	if len(b.open) >= maxBridges && !b.evict() {
		return nil, jsonrpc.Errorf(jsonrpc.CodeInternal, "too many sessions with servers are open for clients without one; try again later")
	}
	made := &bridge{all: b, key: key, own: true, users: 1, raising: make(chan struct{}, 1),
		capabilities: client.identity.Capabilities}
	made.link = server.Link(upstream.LinkConfig{Sink: made, Identity: client.identity, Modern: true,
		Shared: policy == BridgeShared, OnReady: made.ready})
	if policy == BridgeRequest {
		made.key.client = rand.Text()
	}
	b.open[made.key] = made
	return made, nil
}

// leave ends the use of the bridge by a request.
func (br *bridge) leave() {
	if !br.own {
		return
	}
	b := br.all
	b.mu.Lock()
	defer b.mu.Unlock()
	if br.users--; br.users > 0 {
		return
	}
	if b.closed || b.policies[br.key.server] == BridgeRequest {
		b.drop(br)
		return
	}
	br.since = time.Now()
	br.idle = time.AfterFunc(bridgeIdle, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if br.users == 0 && b.open[br.key] == br {
			b.drop(br)
		}
	})
}

// evict closes the bridge that has been idle longest. It reports whether there was one. The caller holds
// mu.
func (b *bridges) evict() bool {
	var oldest *bridge
	for _, br := range b.open {
		if br.users == 0 && (oldest == nil || br.since.Before(oldest.since)) {
			oldest = br
		}
	}
	if oldest != nil {
		b.drop(oldest)
	}
	return oldest != nil
}

// drop closes a bridge in the background. The caller holds mu.
func (b *bridges) drop(br *bridge) {
	delete(b.open, br.key)
	if br.idle != nil {
		br.idle.Stop()
	}
	b.background.Go(func() { br.link.Close(true) })
}

// close closes the unused bridges at once, and the others after their use.
func (b *bridges) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	for _, br := range b.open {
		if br.users == 0 {
			b.drop(br)
		}
	}
}

// bridgeKey returns what identifies the client under a policy. A client without authentication is identified by
// its address, working directory and clientInfo.
func (c modernClient) bridgeKey(policy BridgePolicy) string {
	sum := sha256.New()
	add := func(s string) { _, _ = sum.Write([]byte(s + "\x00")) } // never fails
	add(string(c.identity.Capabilities))
	if policy != BridgeShared {
		add(string(c.identity.ClientInfo))
		add(c.principal)
		if c.principal == "" {
			add(c.ip)
			add(c.cwd)
		}
	}
	return hex.EncodeToString(sum.Sum(nil)[:16])
}

// raiseLevel makes a legacy server send the log messages that a request wants. The level is never lowered: each
// request filters the messages for itself.
func (br *bridge) raiseLevel(ctx context.Context, server *upstream.Server, level string) error {
	if level == "" || server.Modern() {
		return nil
	}
	init, _ := server.Initialized()
	has, err := jsonrpc.Fields(init.Capabilities, "logging")
	if err != nil || has[0] == nil {
		return nil // a server without logging, or with unreadable capabilities, gets no level
	}
	ctx, cancel := context.WithTimeoutCause(ctx, routing.ResumeTimeout, upstream.ErrTimeout)
	defer cancel()
	if br.own {
		return br.raise(ctx, level)
	}
	interests := br.all.interests
	if !interests.RaiseModern(server.Name(), level) {
		return nil
	}
	level = protocol.MoreVerbose(level, interests.Level(server.Name()))
	_, err = br.link.Call(ctx, upstream.Request{Method: protocol.MethodLoggingSetLevel, Params: protocol.LevelParams(level)})
	if err != nil {
		interests.ForgetModern(server.Name())
	}
	return err
}

// raise is raiseLevel for a bridge with a session of its own.
func (br *bridge) raise(ctx context.Context, level string) error {
	select {
	case br.raising <- struct{}{}:
		defer func() { <-br.raising }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if current := br.currentLevel(); current != "" && protocol.LogSeverity(current) <= protocol.LogSeverity(level) {
		return nil
	}
	req := upstream.Request{Method: protocol.MethodLoggingSetLevel, Params: protocol.LevelParams(level)}
	if _, err := br.link.Call(ctx, req); err != nil {
		return err
	}
	br.mu.Lock()
	defer br.mu.Unlock()
	br.level = level
	return nil
}

// currentLevel returns the level that was set at the server, or an empty string.
func (br *bridge) currentLevel() string {
	br.mu.Lock()
	defer br.mu.Unlock()
	return br.level
}

// ready sets the level of the previous session with the server in the new one.
func (br *bridge) ready(ctx context.Context, c *upstream.Conn) error {
	level := br.currentLevel()
	if level == "" {
		return nil
	}
	_, err := c.Call(ctx, upstream.Request{Method: protocol.MethodLoggingSetLevel, Params: protocol.LevelParams(level)})
	return err
}

// Notify implements upstream.Sink for what belongs to no call.
func (br *bridge) Notify(m jsonrpc.Message) { unrelated{br.all.tel}.Notify(m) }

// Ask implements upstream.Sink for what belongs to no call.
func (br *bridge) Ask(ctx context.Context, m jsonrpc.Message) (json.RawMessage, error) {
	if !br.private() || !holds(m) {
		return unrelated{br.all.tel}.Ask(ctx, m)
	}
	if err := checkSupported(br.capabilities, m); err != nil {
		return nil, err
	}
	return br.unasked.ask(ctx, m)
}

// private reports whether the session with the server is for one client.
func (br *bridge) private() bool { return br.own && br.all.policies[br.key.server] != BridgeShared }

// unrelated is the upstream.Sink of messages that belong to no request.
type unrelated struct{ tel *observe.Telemetry }

// Notify drops the notification.
func (u unrelated) Notify(m jsonrpc.Message) {
	if !protocol.IsListChanged(m.Method) { // the hub gets those over its own connection, too
		u.tel.Dropped("ambiguous")
	}
}

// Ask refuses the request.
func (unrelated) Ask(_ context.Context, m jsonrpc.Message) (json.RawMessage, error) {
	return nil, jsonrpc.Errorf(jsonrpc.CodeMethodNotFound, "no request is in flight that %s could belong to",
		instrument.MethodLabel(m.Method))
}
