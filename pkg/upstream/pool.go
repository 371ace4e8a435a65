package upstream

import (
	"cmp"
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mcphub-go/mcphub/pkg/upstream/transport"
)

// Pool is all configured servers.
type Pool struct {
	servers []*Server
	byName  map[string]*Server
	graces  *transport.Graces // of their processes
}

// NewPool makes a Pool of the servers in specs, whose names differ. It starts nothing.
func NewPool(specs []Spec, cfg Config) *Pool {
	tel := newTelemetry(cfg)
	p := &Pool{byName: map[string]*Server{}, graces: transport.NewGraces()}
	room := newPlaces(cfg.MaxOwn)
	for _, spec := range specs {
		s := newServer(spec, cfg, tel, p.graces, room)
		p.servers = append(p.servers, s)
		p.byName[spec.Name] = s
	}
	if cfg.Registerer != nil {
		cfg.Registerer.MustRegister(newOrphans(p.servers, cfg))
	}
	return p
}

// Run keeps the servers connected until ctx ends. It then closes the hub's own connections to them and waits.
func (p *Pool) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, s := range p.servers {
		wg.Go(func() { s.supervisor.run(ctx) })
	}
	wg.Wait()
	return nil
}

// EndSoon has processes that are being ended, or will be, exit within budget or be killed. The first call counts.
func (p *Pool) EndSoon(budget time.Duration) { p.graces.Shorten(budget / 4) } // three steps, and what comes after them

// Servers returns the servers in the order of their configuration.
func (p *Pool) Servers() []*Server { return p.servers }

// Server returns the server of that name, or nil.
func (p *Pool) Server(name string) *Server { return p.byName[name] }

// WaitAttempted waits until the hub has connected to each server, or failed to, or until ctx ends. It reports false in
// the last case.
func (p *Pool) WaitAttempted(ctx context.Context) bool {
	for _, s := range p.servers {
		select {
		case <-s.state.attemptOver():
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// orphanGrace is how long a connection may outlive its client session: long enough to stop a process, or to end a
// session at a server.
const orphanGrace = 30 * time.Second

// orphans is a prometheus.Collector that counts, at each scrape, the connections whose client session is gone.
type orphans struct {
	servers []*Server
	exists  func(session string) bool // nil: all exist
	grace   time.Duration
	desc    *prometheus.Desc
}

func newOrphans(servers []*Server, cfg Config) orphans {
	return orphans{servers, cfg.HasSession, cmp.Or(cfg.OrphanGrace, orphanGrace), prometheus.NewDesc("mcphub_backend_sessions_orphaned",
		"Connections to the server that are held for a client session which is gone; must be 0.", []string{"mcphub_backend"}, nil)}
}

// Describe implements prometheus.Collector.
func (x orphans) Describe(ch chan<- *prometheus.Desc) { ch <- x.desc }

// Collect implements prometheus.Collector.
func (x orphans) Collect(ch chan<- prometheus.Metric) {
	for _, s := range x.servers {
		n := 0
		if x.exists != nil {
			n = s.dialer.owners.orphaned(x.exists, time.Now(), x.grace)
		}
		ch <- prometheus.MustNewConstMetric(x.desc, prometheus.GaugeValue, float64(n), s.Name())
	}
}
