// Package gateway is the MCP endpoint: Streamable HTTP in front, servers behind.
//
//	POST ── guard ── session ── route ──┬─ answered here: initialize, ping, merged lists
//	                                    └─ forwarded over the session's Link to a server
//	GET  ── guard ── session ── stream of what belongs to no request, or one that was lost
//
// What is forwarded stays the bytes it was: names and progress tokens are the
// only things rewritten.
package gateway

import (
	"cmp"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/mcphub-go/mcphub/pkg/catalog"
	"github.com/mcphub-go/mcphub/pkg/gateway/stream"
	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
	"github.com/mcphub-go/mcphub/pkg/session"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

// Config is what a Gateway needs. Sessions, Pool and Catalog must be set.
type Config struct {
	Sessions *session.Manager
	Pool     *upstream.Pool
	Catalog  *catalog.Catalog

	// Transparent passes names, lists, errors and unknown methods through to
	// the only server there is.
	Transparent bool
	Version     string // of the hub, for initialize

	PageSize int                     // items of one page of a merged list; default 1000
	Bridge   map[string]BridgePolicy // by server; default: BridgePrincipal

	MaxRequestBytes int64                      // body of one request; default 4 MiB
	MaxInFlight     int                        // requests of one session at once; default 256
	Heartbeat       time.Duration              // pause between comments on a silent stream; default 15s
	Principal       func(*http.Request) string // who asks; default: anonymous

	Patience     time.Duration // wait for an answer before the response becomes a stream; default 100ms
	ResumeEvents int           // kept of one session for a client that lost its connection; default 1024
	ResumeBytes  int64         // of them, besides what waits for a client that is there; default 1 MiB
	ResumeWindow time.Duration // since an event was written or its stream lost; default 5m

	Logger         *slog.Logger                  // default: discard
	TracerProvider trace.TracerProvider          // default: no-op
	Propagator     propagation.TextMapPropagator // nil: tracing is off
	TraceParent    TraceParent                   // default: ParentRemote
	Baggage        []string                      // keys of baggage that go on to servers; default: none
	Registerer     prometheus.Registerer         // default: metrics are not exported
	ToolLabels     int                           // tools with label sets of their own; default 200, below 0: none
}

func (c Config) maxRequestBytes() int64   { return cmp.Or(c.MaxRequestBytes, 4<<20) }
func (c Config) pageSize() int            { return cmp.Or(c.PageSize, 1000) }
func (c Config) maxInFlight() int         { return cmp.Or(c.MaxInFlight, 256) }
func (c Config) heartbeat() time.Duration { return cmp.Or(c.Heartbeat, 15*time.Second) }

func (c Config) patience() time.Duration { return cmp.Or(c.Patience, 100*time.Millisecond) }

func (c Config) retention(metrics *stream.Metrics) *stream.Retention {
	return &stream.Retention{Metrics: metrics, Events: cmp.Or(c.ResumeEvents, 1024), Bytes: cmp.Or(c.ResumeBytes, 1<<20), Window: cmp.Or(c.ResumeWindow, 5*time.Minute)}
}

// Gateway serves the MCP endpoint. Make one with New and serve it; Drain and
// Wait end it.
type Gateway struct {
	cfg      Config
	log      *slog.Logger
	tel      *telemetry
	keep     *stream.Retention
	sender   *stream.Sender
	only     *upstream.Server // the server of a transparent hub
	draining chan struct{}
	drain    sync.Once
	running  tasks // calls and the ends of sessions

	mu      sync.Mutex
	open    map[*clientSession]bool
	upSince map[string]time.Time // of the connection to a shared server
	subs    map[*subscription]bool
	levels  map[string]string // the most talkative that modern clients have asked of a shared server

	bridges     *bridges
	parked      *parked
	modernCalls atomic.Int64 // under way
}

// New makes a Gateway. It starts nothing.
func New(cfg Config) *Gateway {
	g := &Gateway{cfg: cfg, log: cmp.Or(cfg.Logger, slog.New(slog.DiscardHandler)), tel: newTelemetry(cfg),
		draining: make(chan struct{}), open: map[*clientSession]bool{}, upSince: map[string]time.Time{}}
	g.subs, g.levels = map[*subscription]bool{}, map[string]string{}
	g.parked = newParked()
	g.bridges = &bridges{g: g, open: map[bridgeKey]*bridge{}}
	g.keep = cfg.retention(g.tel.streams)
	g.sender = &stream.Sender{Metrics: g.tel.streams, Heartbeat: cfg.heartbeat(), Patience: cfg.patience(), Draining: g.draining}
	if servers := cfg.Pool.Servers(); cfg.Transparent && len(servers) == 1 {
		g.only = servers[0]
	}
	return g
}

// ServeHTTP answers one HTTP request on the endpoint, see specification
// 2025-11-25, basic/transports, streamable HTTP.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodPost:
		g.post(w, r)
	case http.MethodGet:
		g.get(w, r)
	case http.MethodDelete:
		g.delete(w, r)
	default:
		w.Header().Set("Allow", "GET, POST, DELETE")
		refuse(w, http.StatusMethodNotAllowed, "", jsonrpc.Errorf(jsonrpc.CodeInvalidRequest, "method %.16q is not allowed", r.Method))
	}
}

// Open starts the live half of a session; session.Config.Open wants it.
func (g *Gateway) Open(_ context.Context, s session.Session) (session.Live, error) {
	cs := newClientSession(g, s)
	g.mu.Lock()
	g.open[cs] = true
	g.mu.Unlock()
	g.resume(g.cfg.Pool.Servers(), []session.Session{s})
	return cs, nil
}

func (g *Gateway) forget(cs *clientSession) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.open, cs)
}

func (g *Gateway) openSessions() []*clientSession {
	g.mu.Lock()
	defer g.mu.Unlock()
	all := make([]*clientSession, 0, len(g.open))
	for cs := range g.open {
		all = append(all, cs)
	}
	return all
}

// ListChanged tells every connected client that merged lists have changed. It
// is to be called whenever a server was listed, or removed from the catalog, with
// no kinds if none has changed.
func (g *Gateway) ListChanged(kinds []catalog.Kind) {
	g.tel.served.Prune()
	for _, server := range g.reconnected() {
		g.resume([]*upstream.Server{server}, g.openStored(server.Name()))
	}
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
	for _, s := range g.subscriptions() {
		s.wakeUp() // its own connections may have to be made again, too
		for method := range methods {
			s.Notify(jsonrpc.Message{Method: method})
		}
	}
	if g.only != nil && g.only.Isolated() {
		return // each session hears it from its own connection to the server
	}
	for _, cs := range g.openSessions() {
		for method := range methods {
			cs.push(jsonrpc.Message{Method: method})
		}
	}
}

// ServerNotification takes what a shared connection sent that belongs to no
// call. Only an update of a resource and the end of an elicitation have
// recipients that can be told.
func (g *Gateway) ServerNotification(server string, m jsonrpc.Message) {
	if g.elicitationCompleted(server, m) {
		return
	}
	uri, ok := jsonrpc.StringField(m.Params, "uri")
	if m.Method != protocol.MethodResourcesUpdated || !ok {
		g.tel.dropped("ambiguous")
		g.log.Debug("a notification of a shared connection has no recipient", "upstream", server, "method", instrument.MethodLabel(m.Method))
		return
	}
	for _, cs := range g.openSessions() {
		if cs.subscribed(uri) {
			g.heard(cs.ctx, server, m)
			cs.push(m)
		}
	}
	for _, s := range g.subscriptions() {
		if g.cfg.Sessions.Tailed() && s.wants(m) {
			g.heard(s.ctx, server, m)
		}
		s.Notify(m)
	}
}

// Drain closes the streams that would stay open for ever. Requests under way
// go on.
func (g *Gateway) Drain() {
	g.drain.Do(func() {
		close(g.draining)
		g.parked.stop() // nobody will come back to them here
		g.bridges.close()
	})
}

// Wait waits until every call and every ended session has been seen off.
func (g *Gateway) Wait(ctx context.Context) error { return g.running.wait(ctx) }

// serverInfo is how the hub introduces itself.
func (g *Gateway) serverInfo() json.RawMessage {
	b, _ := json.Marshal(map[string]string{"name": "mcphub", "title": "mcphub", "version": cmp.Or(g.cfg.Version, "dev")})
	return b
}
