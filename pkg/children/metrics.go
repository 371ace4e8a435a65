package children

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics are the instruments of a Ledger.
type metrics struct {
	leftovers map[string]prometheus.Counter // process groups, by outcome
	reaped    prometheus.Counter
}

// The outcomes for a process group that an earlier hub may have left.
const (
	ended     = "ended"
	survived  = "survived"   // SIGKILL
	notProved = "not_proved" // to be of an earlier hub
)

func newMetrics(r prometheus.Registerer) *metrics {
	f := promauto.With(r)
	leftovers := f.NewCounterVec(prometheus.CounterOpts{Name: "mcphub_leftover_process_groups_total",
		Help: "Process groups of the children of an earlier hub that were found at the start."}, []string{"outcome"})
	m := &metrics{leftovers: map[string]prometheus.Counter{}, reaped: f.NewCounter(prometheus.CounterOpts{
		Name: "mcphub_reaped_processes_total",
		Help: "Processes that the hub did not start and that ended as its children, because it is process 1."})}
	for _, outcome := range []string{ended, survived, notProved} {
		m.leftovers[outcome] = leftovers.WithLabelValues(outcome)
	}
	return m
}
