// Package gateway is the MCP endpoint: Streamable HTTP in front, servers behind.
//
//	Gateway            New, Drain, Wait, and what servers report to clients (gateway.go)
//	├─ door            HTTP: GET, POST, DELETE, batches (http_*.go, refuse.go)
//	├─ legacySessions  the live halves of sessions, their requests and streams (legacy_*.go)
//	├─ modernEndpoint  requests that stand alone, their multi-round calls and subscriptions (modern_*.go)
//	├─ router          finds the server for a request, merges lists and capabilities (package routing)
//	├─ interests       what clients want of servers whose connection they share (package routing)
//	├─ streams         resumable event streams of a session (package stream)
//	└─ telemetry       spans, metrics and the tap of messages (package observe)
//
// In front of it are the Guard, which keeps foreign web pages out and lets listed ones in (guard.go, cors.go), and
// Endpoint, which answers at wrong addresses (address.go).
//
// A request goes down this list: door, era, router, connection to a server (package upstream). The bytes of a
// message stay as they are; names and progress tokens are the only parts that are rewritten.
//
// The live half of a session exists from the first use of the session until it ends or the hub stops. Each call has a
// goroutine of its own, because it does not end with its HTTP request. All goroutines run in a background, for which
// Gateway.Wait waits.
package gateway

import (
	"context"
	"net/http"
	"sync"

	"github.com/mcphub-go/mcphub/pkg/catalog"
	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
	"github.com/mcphub-go/mcphub/pkg/session"
)

// Gateway serves the MCP endpoint. Make one with New and serve it; Drain and Wait end it. Its
// methods may be called concurrently.
type Gateway struct {
	*door
	drain sync.Once // of Drain
}

// New makes a Gateway. It starts nothing.
func New(cfg Config) *Gateway {
	c := newCore(cfg)
	return &Gateway{door: &door{core: c, legacy: newLegacySessions(c), modern: newModernEndpoint(c)}}
}

// ServeHTTP answers one HTTP request, see specification 2025-11-25, basic/transports, streamable
// HTTP.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodPost:
		g.post(w, r)
	case http.MethodGet:
		g.get(w, r)
	case http.MethodDelete:
		g.delete(w, r)
	case http.MethodOptions: // of a preflight, the Guard takes care
		w.Header().Set("Allow", "GET, POST, DELETE, OPTIONS")
		w.WriteHeader(http.StatusNoContent)
	default:
		w.Header().Set("Allow", "GET, POST, DELETE, OPTIONS")
		refuse(w, http.StatusMethodNotAllowed, "", jsonrpc.Errorf(jsonrpc.CodeInvalidRequest, "method %.16q is not allowed", r.Method))
	}
}

// Open starts the live half of a session. It is meant for session.Config.Open.
func (g *Gateway) Open(_ context.Context, s session.Session) (session.Live, error) {
	return g.legacy.start(s), nil
}

// ServerConnected renews the subscriptions and the log level of clients at a shared server. Call it whenever the hub
// has connected to a server, again or for the first time, and after the catalog has its lists, which say for which
// server a subscription is. It is meant for upstream.Config.OnConnected.
func (g *Gateway) ServerConnected(server string) {
	if s := g.cfg.Pool.Server(server); s != nil && !s.Isolated() {
		g.interests.Connected(s)
	}
}

// ListChanged sends list_changed for the merged lists of these kinds to every connected client. Call it after every
// change of the catalog, also if kinds is empty: it removes the series of tools that no longer exist, too.
func (g *Gateway) ListChanged(kinds []catalog.Kind) {
	g.tel.Prune()
	methods := map[string]bool{}
	for _, k := range kinds {
		switch k {
		case catalog.Tools:
			methods[protocol.MethodToolsListChanged] = true
		case catalog.Prompts:
			methods[protocol.MethodPromptsListChanged] = true
		default:
			methods[protocol.MethodResourcesListChanged] = true
		}
	}
	g.modern.subscriptions.listChanged(methods)
	if g.router.Only != nil && g.router.Only.Isolated() {
		return // each session gets list_changed over its own connection to the server
	}
	g.legacy.listChanged(methods)
}

// ServerNotification takes a notification of a shared connection that belongs to no call. Only the
// update of a resource and the completion of an elicitation have recipients that are known.
func (g *Gateway) ServerNotification(server string, m jsonrpc.Message) {
	if g.legacy.elicitationCompleted(server, m) {
		return
	}
	uri, ok := jsonrpc.StringField(m.Params, "uri")
	if m.Method != protocol.MethodResourcesUpdated || !ok {
		g.tel.Dropped("ambiguous")
		g.log.Debug("a notification of a shared connection has no recipient", "upstream", server,
			"method", instrument.MethodLabel(m.Method))
		return
	}
	for _, who := range g.interests.Subscribers(uri) {
		who.Updated(server, m)
	}
}

// PassMessage passes a message event to the followers of the session of ctx. It is meant for
// upstream.Config.OnMessage. It does not block, and keeps nothing of e.
func (g *Gateway) PassMessage(ctx context.Context, e instrument.MessageEvent) { g.tel.Tap.Pass(ctx, e) }

// Drain closes the streams that would stay open indefinitely. Requests in flight continue.
func (g *Gateway) Drain() {
	g.drain.Do(func() {
		close(g.draining)
		g.modern.drain()
	})
}

// Wait waits until every call and every ended session is finished, or until ctx ends, whose cause it
// returns.
func (g *Gateway) Wait(ctx context.Context) error { return g.background.wait(ctx) }
