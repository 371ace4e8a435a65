package instrument

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

// Repairs counts the messages that are not quite JSON-RPC: those that could mean one thing only, by what was repaired,
// and those that could not be read. It may be used concurrently.
type Repairs struct {
	repaired   *prometheus.CounterVec // by what was repaired
	unreadable *prometheus.CounterVec // by what became of it
}

// NewRepairs registers the counters of hop. All label sets exist from the start.
func NewRepairs(r prometheus.Registerer, hop string) *Repairs {
	f := promauto.With(r)
	labels := prometheus.Labels{"hop": hop}
	x := &Repairs{
		repaired: f.NewCounterVec(prometheus.CounterOpts{Name: "mcphub_messages_repaired_total", ConstLabels: labels,
			Help: "Messages that were not quite JSON-RPC but had one meaning only, by what was repaired."}, []string{"repair"}),
		unreadable: f.NewCounterVec(prometheus.CounterOpts{Name: "mcphub_messages_unreadable_total", ConstLabels: labels,
			Help: "Messages that could not be read, by whether somebody could be told."}, []string{"outcome"}),
	}
	for _, repair := range jsonrpc.AllRepairs().Names() {
		x.repaired.WithLabelValues(repair)
	}
	for _, told := range []bool{false, true} {
		x.unreadable.WithLabelValues(unreadableOutcome(told))
	}
	return x
}

// CountRepaired counts a message in which all of these were repaired.
func (x *Repairs) CountRepaired(all jsonrpc.Repairs) {
	for _, repair := range all.Names() {
		x.repaired.WithLabelValues(repair).Inc()
	}
}

// CountUnreadable counts a message that could not be read. Told: who waits for it, or has sent it, got an error.
func (x *Repairs) CountUnreadable(told bool) {
	x.unreadable.WithLabelValues(unreadableOutcome(told)).Inc()
}

func unreadableOutcome(told bool) string {
	if told {
		return "told"
	}
	return "dropped"
}
