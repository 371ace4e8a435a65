package gateway

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"sync"
	"time"

	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

// BridgePolicy says which modern requests share a session with a legacy server
// that keeps one per client.
type BridgePolicy string

// The policies.
const (
	BridgePrincipal BridgePolicy = "principal" // those of one client of one principal; the default
	BridgeRequest   BridgePolicy = "request"   // none
	BridgeShared    BridgePolicy = "shared"    // all that declare the same capabilities
)

const (
	bridgeIdle = 10 * time.Minute // that a session is kept for the next request
	maxBridges = 1000
)

// bridges are the connections to servers that modern clients use. A modern
// client has no session, so the hub holds one for it where a server needs one.
type bridges struct {
	g *Gateway

	mu     sync.Mutex
	open   map[bridgeKey]*bridge
	closed bool
}

// bridgeKey says for whom a bridge is. Capabilities are declared once per
// session, so those who declare others have another.
type bridgeKey struct{ server, client string }

// bridge is a way to a server.
type bridge struct {
	all  *bridges
	key  bridgeKey
	link *upstream.Link
	own  bool // a session of its own, which is to be closed

	// Guarded by bridges.mu.
	users int
	idle  *time.Timer // closes it; nil while it is used
	since time.Time   // of idle

	raising chan struct{} // held by the request that tells the server a level
	mu      sync.Mutex
	level   string // that the server was told
}

// enter returns the bridge to server for a request of the client. The caller
// leaves it after the request.
func (b *bridges) enter(server *upstream.Server, about aboutClient) (*bridge, error) {
	if !server.Isolated() || server.Stateless() {
		link := server.Link(upstream.LinkConfig{Identity: about.identity, Modern: true})
		return &bridge{all: b, link: link}, nil
	}
	policy := b.g.cfg.Bridge[server.Name()]
	key := bridgeKey{server.Name(), about.bridgeKey(policy)}
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
	made := &bridge{all: b, key: key, own: true, users: 1, raising: make(chan struct{}, 1)}
	made.link = server.Link(upstream.LinkConfig{Sink: stray{b.g, server.Name()}, Identity: about.identity, Modern: true,
		Many: policy == BridgeShared, OnReady: made.ready})
	if policy == BridgeRequest {
		made.key.client = rand.Text()
	}
	b.open[made.key] = made
	return made, nil
}

// leave gives the bridge back.
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
	if b.closed || b.g.cfg.Bridge[br.key.server] == BridgeRequest {
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

// evict closes the bridge that is idle longest. It reports whether there was
// one. The caller holds mu.
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

// drop closes a bridge in the background; Gateway.Wait waits for it. The caller
// holds mu.
func (b *bridges) drop(br *bridge) {
	delete(b.open, br.key)
	if br.idle != nil {
		br.idle.Stop()
	}
	b.g.running.Go(func() { br.link.Close(true) })
}

// close closes the bridges that nobody uses now, and the others when they are
// left.
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

// bridgeKey tells clients apart. Those who are not authenticated are told apart
// by where they are and what they say of themselves.
func (a aboutClient) bridgeKey(policy BridgePolicy) string {
	sum := sha256.New()
	add := func(s string) { _, _ = sum.Write([]byte(s + "\x00")) } // never fails
	add(string(a.identity.Capabilities))
	if policy != BridgeShared {
		add(string(a.identity.ClientInfo))
		add(a.principal)
		if a.principal == "" {
			add(a.ip)
			add(a.cwd)
		}
	}
	return hex.EncodeToString(sum.Sum(nil)[:16])
}

// raiseLevel has a legacy server send the log messages that a request wants. It
// is not made to send fewer again: each request gets what it wants out of them.
func (br *bridge) raiseLevel(ctx context.Context, server *upstream.Server, level string) error {
	if level == "" || server.Modern() {
		return nil
	}
	init, _ := server.Initialized()
	has, err := jsonrpc.Fields(init.Capabilities, "logging")
	if err != nil || has[0] == nil {
		return nil // a server without readable capabilities is asked for nothing
	}
	ctx, cancel := context.WithTimeoutCause(ctx, resumeTimeout, upstream.ErrTimeout)
	defer cancel()
	if br.own {
		return br.raise(ctx, level)
	}
	g := br.all.g
	if !g.wantLevel(server.Name(), level) {
		return nil
	}
	_, err = br.link.Call(ctx, upstream.Request{Method: protocol.MethodLoggingSetLevel, Params: protocol.LevelParams(g.levelFor(server, nil, level))})
	if err != nil {
		g.forgetLevel(server.Name())
	}
	return err
}

// raise is raiseLevel over a connection of the bridge's own.
func (br *bridge) raise(ctx context.Context, level string) error {
	select {
	case br.raising <- struct{}{}:
		defer func() { <-br.raising }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if told := br.told(); told != "" && protocol.LogSeverity(told) <= protocol.LogSeverity(level) {
		return nil
	}
	if _, err := br.link.Call(ctx, upstream.Request{Method: protocol.MethodLoggingSetLevel, Params: protocol.LevelParams(level)}); err != nil {
		return err
	}
	br.mu.Lock()
	defer br.mu.Unlock()
	br.level = level
	return nil
}

func (br *bridge) told() string {
	br.mu.Lock()
	defer br.mu.Unlock()
	return br.level
}

// ready tells a new session with the server what the one before was told.
func (br *bridge) ready(ctx context.Context, c *upstream.Conn) error {
	level := br.told()
	if level == "" {
		return nil
	}
	_, err := c.Call(ctx, upstream.Request{Method: protocol.MethodLoggingSetLevel, Params: protocol.LevelParams(level)})
	return err
}

// stray takes what a session with a server brings that belongs to no request.
type stray struct {
	g      *Gateway
	server string
}

func (s stray) Notify(m jsonrpc.Message) {
	if !protocol.IsListChanged(m.Method) { // the hub's own connection hears of those
		s.g.tel.dropped("ambiguous")
	}
}

func (s stray) Ask(_ context.Context, m jsonrpc.Message) (json.RawMessage, error) {
	return nil, jsonrpc.Errorf(jsonrpc.CodeMethodNotFound, "no request is under way that %s could belong to", instrument.MethodLabel(m.Method))
}
