package upstream

import (
	"context"
	"encoding/hex"
	"hash/maphash"
	"math/bits"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
)

// exemplarPause is the time between two exemplars of one series and magnitude.
// A scrape shows the last one only, and each costs as much as a whole span.
const exemplarPause = 100 * time.Millisecond

// Exemplars gives observations the trace that they belong to, but not more often
// than somebody could see it. Series that are no more leave nothing behind: what
// is known of them is in a table of fixed size, where two may share a place, and
// then an exemplar of one may be missed for the pause. It may be used concurrently.
type Exemplars struct {
	seed  maphash.Seed
	begun time.Time
	last  [1024]atomic.Int64 // ns after begun, of the last exemplar; 0: none
}

// NewExemplars returns an Exemplars that has given none.
func NewExemplars() *Exemplars {
	return &Exemplars{seed: maphash.MakeSeed(), begun: time.Now().Add(-time.Hour)}
}

// Observe records d with o, and the trace of ctx if that is sampled.
func (x *Exemplars) Observe(ctx context.Context, o prometheus.Observer, d time.Duration) {
	sc := trace.SpanContextFromContext(ctx)
	if e, ok := o.(prometheus.ExemplarObserver); ok && sc.IsSampled() && x.due(o, d) {
		e.ObserveWithExemplar(d.Seconds(), labelsOf(sc))
		return
	}
	o.Observe(d.Seconds())
}

// due reports whether the series of o may have an exemplar for something that
// took about as long as d, and takes the place if so.
func (x *Exemplars) due(o prometheus.Observer, d time.Duration) bool {
	magnitude := uint64(bits.Len64(uint64(max(0, d)))) //nolint:gosec // not negative
	last := &x.last[(maphash.Comparable(x.seed, o)+magnitude)%uint64(len(x.last))]
	now, before := int64(time.Since(x.begun)), last.Load()
	return now-before >= int64(exemplarPause) && last.CompareAndSwap(before, now)
}

func labelsOf(sc trace.SpanContext) prometheus.Labels {
	traceID, spanID := sc.TraceID(), sc.SpanID()
	text := make([]byte, 0, 48)
	text = hex.AppendEncode(hex.AppendEncode(text, traceID[:]), spanID[:])
	ids := string(text)
	return prometheus.Labels{"trace_id": ids[:32], "span_id": ids[32:]}
}
