package admin

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// errDisplaced is the cause of the end of a request whose place a newer one has.
var errDisplaced = errors.New("a newer request has the place of this one")

// Kinds of requests that take a place for long, values of the label kind.
const (
	placeEvents   = "events"
	placeMessages = "messages"
	placeProfile  = "profile" // of the processor
	placeTrace    = "trace"
	placeDelta    = "delta" // of two profiles
)

// newPlaces returns the places of each kind: so many requests are served at once. There is one processor profile and one
// trace of a process.
func newPlaces(log *slog.Logger, registerer prometheus.Registerer) map[string]*places {
	displaced := promauto.With(registerer).NewCounterVec(prometheus.CounterOpts{Name: "mcphub_admin_displaced_total",
		Help: "Streams and profiles of the admin listener that were ended for a newer one, by kind."}, []string{"kind"})
	all := map[string]*places{}
	for kind, limit := range map[string]int{placeEvents: 32, placeMessages: 16, placeProfile: 1, placeTrace: 1, placeDelta: 4} {
		all[kind] = &places{kind: kind, limit: limit, log: log, displaced: displaced.WithLabelValues(kind)}
	}
	return all
}

// places limits the requests of one kind that are served at once. It refuses none: whoever holds all places must not
// keep an operator from his own. If there is no place left, the newcomer gets that of another request.
type places struct {
	kind      string
	limit     int
	log       *slog.Logger
	displaced prometheus.Counter

	mu    sync.Mutex
	taken []*place // the oldest first
}

// place is the place of one request.
type place struct {
	ctx    context.Context //nolint:containedctx // of the request; ends with errDisplaced if a newer one needs the place
	cancel context.CancelCauseFunc
	peer   string
	free   chan struct{} // closed when the request has ended
	before *place        // had the place before; nil: it was free
}

// enter takes a place for r. The caller must call leave.
func (ps *places) enter(r *http.Request) *place {
	p := &place{peer: peerOf(r), free: make(chan struct{})}
	p.ctx, p.cancel = context.WithCancelCause(r.Context())
	ps.mu.Lock()
	if len(ps.taken) >= ps.limit {
		i := ps.victim(p.peer)
		p.before = ps.taken[i]
		ps.taken = append(ps.taken[:i], ps.taken[i+1:]...)
	}
	ps.taken = append(ps.taken, p)
	ps.mu.Unlock()
	if p.before != nil {
		p.before.cancel(errDisplaced)
		ps.displaced.Inc()
		ps.log.InfoContext(r.Context(), "a request of the admin listener was ended for a newer one", "kind", ps.kind,
			"limit", ps.limit, "ended", p.before.peer, "newer", r.RemoteAddr)
	}
	return p
}

// victim returns the index of the place to give to a newcomer: the oldest of the peer that would have the most places,
// so that nobody can take those of others. The caller holds mu.
func (ps *places) victim(newcomer string) int {
	counts := map[string]int{newcomer: 1}
	for _, p := range ps.taken {
		counts[p.peer]++
	}
	index := 0
	for i, p := range ps.taken {
		if counts[p.peer] > counts[ps.taken[index].peer] {
			index = i
		}
	}
	return index
}

// leave gives the place back.
func (ps *places) leave(p *place) {
	ps.mu.Lock()
	for i, other := range ps.taken {
		if other == p {
			ps.taken = append(ps.taken[:i], ps.taken[i+1:]...)
			break
		}
	}
	ps.mu.Unlock()
	p.cancel(nil)
	close(p.free)
}

// await waits until the request that had the place before has ended, and reports whether it has in time.
func (p *place) await(limit time.Duration) bool {
	if p.before == nil {
		return true
	}
	select {
	case <-p.before.free:
		return true
	case <-time.After(limit):
		return false
	}
}

// isDisplaced reports whether a newer request has the place.
func (p *place) isDisplaced() bool { return errors.Is(context.Cause(p.ctx), errDisplaced) }

// peerOf returns the address of the sender of r, without the port.
func peerOf(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}
