package budget

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// refusals count the refused reservations by their reason.
type refusals struct{ share, full atomic.Int64 }

// refuse counts a refusal of n bytes to an account that has used, and returns its reason.
func (b *Budget) refuse(used, n int64) error {
	if used+n > b.limit/littlePart && b.used.Load() < b.limit {
		b.refused.share.Add(1)
		return ErrShare
	}
	b.refused.full.Add(1)
	return ErrFull
}

var (
	limitDesc = prometheus.NewDesc("mcphub_memory_limit_bytes",
		"Bytes that the hub may hold for its clients: limits.memory without the part for messages that streams retain.", nil, nil)
	usedDesc = prometheus.NewDesc("mcphub_memory_used_bytes",
		"Bytes that the hub holds for its clients: requests, answers, queues and streams.", nil, nil)
	refusedDesc = prometheus.NewDesc("mcphub_memory_refusals_total",
		"Requests, answers and messages that got no memory, by reason: a session over its share, or the whole budget used up.",
		[]string{"reason"}, nil)
)

// Describe implements prometheus.Collector.
func (b *Budget) Describe(ch chan<- *prometheus.Desc) {
	ch <- limitDesc
	ch <- usedDesc
	ch <- refusedDesc
}

// Collect implements prometheus.Collector.
func (b *Budget) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v int64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v))
	}
	counter := func(v int64, reason string) {
		ch <- prometheus.MustNewConstMetric(refusedDesc, prometheus.CounterValue, float64(v), reason)
	}
	gauge(limitDesc, b.limit)
	gauge(usedDesc, b.used.Load())
	counter(b.refused.share.Load(), "share")
	counter(b.refused.full.Load(), "full")
}
