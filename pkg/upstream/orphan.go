package upstream

import (
	"cmp"
	"maps"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// orphanGrace is how long a connection may outlive its client session: long
// enough for a process to be stopped, or a server to be told, at leisure.
const orphanGrace = 30 * time.Second

// owners notes for which client sessions connections to a server are held. A
// connection is noted until nothing of it is left. It may be used concurrently.
type owners struct {
	mu    sync.Mutex
	conns map[*Conn]ownership
}

// ownership is whose a connection is.
type ownership struct {
	session string
	missed  time.Time // when the session was first found to be gone; zero: it is there
}

func (o *owners) own(c *Conn, session string) {
	if session == "" {
		return // the hub's, or of several clients
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.conns[c] = ownership{session: session}
}

// release notes that nothing of the connection is left.
func (o *owners) release(c *Conn) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.conns, c)
}

// orphaned counts the connections whose session has not been there for grace.
func (o *owners) orphaned(exists func(session string) bool, now time.Time, grace time.Duration) (n int) {
	o.mu.Lock()
	held := maps.Clone(o.conns)
	o.mu.Unlock()
	for c, own := range held { // exists may wait for locks of its own
		switch {
		case exists(own.session):
			own.missed = time.Time{}
		case own.missed.IsZero():
			own.missed = now
		}
		held[c] = own
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for c, own := range held {
		if _, still := o.conns[c]; !still {
			continue
		}
		o.conns[c] = own
		if !own.missed.IsZero() && now.Sub(own.missed) >= grace {
			n++
		}
	}
	return n
}

// orphans collects, at each scrape, the connections that nobody owns any more.
type orphans struct {
	pool *Pool
	cfg  Config
	desc *prometheus.Desc
}

func newOrphans(p *Pool, cfg Config) orphans {
	return orphans{p, cfg, prometheus.NewDesc("mcphub_backend_sessions_orphaned",
		"Connections to the server that are held for a client session which is gone; must be 0.", []string{"mcphub_backend"}, nil)}
}

// Describe implements prometheus.Collector.
func (x orphans) Describe(ch chan<- *prometheus.Desc) { ch <- x.desc }

// Collect implements prometheus.Collector.
func (x orphans) Collect(ch chan<- prometheus.Metric) {
	for _, s := range x.pool.servers {
		n := 0
		if x.cfg.HasSession != nil {
			n = s.owned.orphaned(x.cfg.HasSession, time.Now(), cmp.Or(x.cfg.OrphanGrace, orphanGrace))
		}
		ch <- prometheus.MustNewConstMetric(x.desc, prometheus.GaugeValue, float64(n), s.spec.Name)
	}
}
