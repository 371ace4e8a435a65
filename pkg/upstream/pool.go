package upstream

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

// Config is what a Pool needs to know.
type Config struct {
	Identity Identity // of the hub, for connections that are nobody's in particular

	// OnConnected is called whenever the hub's own connection to a server has been made, again or for the
	// first time, before OnInventory. It must not block.
	OnConnected func(server string)

	// OnInventory is called when a server was listed, OnNotification with what
	// a shared connection sent that belongs to no call. They must not block.
	OnInventory    func(server string, inv Inventory)
	OnNotification func(server string, m jsonrpc.Message)

	// OnMessage is called with each message that goes by while Watched says so,
	// which is asked each time. ctx has the values of the call that the message is
	// about, or else those of LinkConfig.Owner. They must not block.
	Watched   func() bool
	OnMessage func(ctx context.Context, p instrument.MessageEvent)

	// HasSession reports whether a client session is there, for the count of the
	// connections that outlive theirs. It is called at each scrape; nil: none is missed.
	HasSession  func(id string) bool
	OrphanGrace time.Duration // that a connection may outlive its session; default 30s

	Logger         *slog.Logger                  // default: discard
	TracerProvider trace.TracerProvider          // default: no-op
	Propagator     propagation.TextMapPropagator // nil: tracing is off, and valid trace contexts of clients go through
	Baggage        []string                      // keys of baggage that go through: of servers to clients, and with tracing off of clients, too; default: none
	Registerer     prometheus.Registerer         // default: metrics are not exported
	ToolLabels     int                           // tools with label sets of their own; default 200, below 0: none
}

// Pool is all configured servers.
type Pool struct {
	servers []*Server
	byName  map[string]*Server
}

// NewPool makes a Pool of the servers in specs, whose names differ. It starts
// nothing.
func NewPool(specs []Spec, cfg Config) *Pool {
	tel := newTelemetry(cfg)
	p := &Pool{byName: map[string]*Server{}}
	for _, spec := range specs {
		s := newServer(spec, cfg, tel)
		p.servers = append(p.servers, s)
		p.byName[spec.Name] = s
	}
	if cfg.Registerer != nil {
		cfg.Registerer.MustRegister(newOrphans(p, cfg))
	}
	return p
}

// Run keeps the servers connected until ctx ends, then closes the hub's own
// connections to them and waits.
func (p *Pool) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, s := range p.servers {
		wg.Go(func() { s.run(ctx) })
	}
	wg.Wait()
	return nil
}

// Servers returns the servers in the order of their configuration.
func (p *Pool) Servers() []*Server { return p.servers }

// Server returns the server of that name, or nil.
func (p *Pool) Server(name string) *Server { return p.byName[name] }

// Settled waits until each server has been connected to or has failed to, or
// until ctx ends. It reports whether all have.
func (p *Pool) Settled(ctx context.Context) bool {
	for _, s := range p.servers {
		select {
		case <-s.attempt():
		case <-ctx.Done():
			return false
		}
	}
	return true
}
