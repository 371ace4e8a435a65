package instrument

import (
	"cmp"
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/mcphub-go/mcphub/pkg/protocol"
)

const (
	defaultToolLabels = 200
	maxToolLabel      = 256 // bytes of a tool's name; a longer one is no label
)

// Operations records operations in an OperationHistogram, so that
// its label sets stay bounded and those of what is gone disappear.
//
// A tool gets a place, and with it label sets of its own, when it is first called
// while it is listed. It loses them when it is listed no more. What finds no place
// is recorded under Other and counted, and so is what else had to be folded although
// the hub or a server chose it. What only a client has chosen, an unknown method or
// tool, is recorded under Other and not counted: nobody misses its series.
//
// Its methods may be called concurrently.
type Operations struct {
	duration *OperationHistogram
	limit    int // tools with a place; below 0 no tool is a label

	tools, errors, versions prometheus.Counter // operations folded, by label

	mu    sync.RWMutex // held for reading while recording: no operation is between its label and its series when a tool goes
	taken int          // places, of all meters
}

// Operation is what is recorded of one operation besides its duration. The values
// need not be bounded.
type Operation struct {
	Method    string
	Tool      string // of tools/call
	ErrorType string // empty for a success
	Transport string // tcp or pipe
	Version   string // of the protocol; empty if it is not settled
}

// NewOperations makes Operations that record in h, and registers the counter of
// what was folded on hop. limit is how many tools have label sets of their own;
// 0: 200, below 0: gen_ai_tool_name stays empty.
func NewOperations(r prometheus.Registerer, hop string, h *OperationHistogram, limit int) *Operations {
	folded := promauto.With(r).NewCounterVec(prometheus.CounterOpts{Name: "mcphub_metric_label_overflow_total",
		Help:        "Operations recorded under _OTHER for want of a label value: a listed tool beyond the limit, an error code of a server's own, an unknown version of a stored session.",
		ConstLabels: prometheus.Labels{"hop": hop}}, []string{"label"})
	return &Operations{duration: h, limit: cmp.Or(limit, defaultToolLabels), tools: folded.WithLabelValues("gen_ai_tool_name"),
		errors: folded.WithLabelValues("error_type"), versions: folded.WithLabelValues("mcp_protocol_version")}
}

// Meter records the operations with one peer: a server, or all clients.
type Recorder struct {
	all     *Operations
	backend string // empty if the histogram has no such label
	lists   func(tool string) bool

	// guarded by all.mu
	places map[string]*toolPlace
	closed bool
}

// toolPlace is that of a tool. What was recorded last is at hand for the next call,
// which is most often alike. It goes before its series do.
type toolPlace struct {
	last atomic.Pointer[operationSeries]
}

// Meter makes a Meter. lists says whether a tool is listed now; it must be quick,
// take no lock that is held around a method of the Meter, and have changed before
// Prune is called. backend is the value of mcphub_backend, empty if h has no such label.
func (x *Operations) Recorder(backend string, lists func(tool string) bool) *Recorder {
	return &Recorder{all: x, backend: backend, lists: lists, places: map[string]*toolPlace{}}
}

// Observe records an operation that took d, with the trace of ctx as exemplar if it
// is sampled. It does nothing after Close.
func (m *Recorder) Observe(ctx context.Context, o Operation, d time.Duration) {
	x := m.all
	o.Method, o.ErrorType, o.Version = MethodLabel(o.Method), x.errorLabel(o.ErrorType), x.versionLabel(o.Version)
	switch {
	case o.Method != protocol.MethodToolsCall, x.limit < 0:
		o.Tool = ""
	case o.Tool == "":
		o.Tool = Other
	}
	x.mu.RLock()
	defer x.mu.RUnlock()
	if m.places[o.Tool] == nil && m.wantsPlace(o.Tool) {
		x.mu.RUnlock()
		m.place(o.Tool)
		x.mu.RLock()
	}
	if m.closed {
		return
	}
	p := m.places[o.Tool]
	if p == nil {
		o.Tool = m.toolLabel(o.Tool)
		x.duration.Observe(ctx, o, m.backend, d)
		return
	}
	k := operationKey{o, m.backend}
	s := p.last.Load()
	if s == nil || s.key != k {
		s = x.duration.of(k)
		p.last.Store(s)
	}
	s.observe(ctx, d)
}

// Prune takes their places and label sets from the tools that are listed no more.
// It is to be called after each change of what is listed.
func (m *Recorder) Prune() {
	m.all.mu.Lock()
	defer m.all.mu.Unlock()
	for tool := range m.places {
		if !m.lists(tool) {
			delete(m.places, tool)
			m.all.taken--
			m.forget(func(o Operation) bool { return o.Tool == tool })
		}
	}
}

// Close takes away all label sets of the peer. An operation that ends later leaves
// no trace.
func (m *Recorder) Close() {
	m.all.mu.Lock()
	defer m.all.mu.Unlock()
	m.closed = true
	m.all.taken -= len(m.places)
	clear(m.places)
	m.forget(func(Operation) bool { return true })
}

// forget deletes the peer's label sets that match. The caller holds all.mu for
// writing.
func (m *Recorder) forget(match func(o Operation) bool) {
	m.all.duration.remove(func(o Operation, backend string) bool { return backend == m.backend && match(o) })
}

// wantsPlace reports whether tool, which has none, can have one. The caller holds all.mu.
func (m *Recorder) wantsPlace(tool string) bool {
	return tool != "" && m.all.taken < m.all.limit && m.listed(tool)
}

// place gives tool a place, unless that has become impossible.
func (m *Recorder) place(tool string) {
	m.all.mu.Lock()
	defer m.all.mu.Unlock()
	if !m.closed && m.places[tool] == nil && m.wantsPlace(tool) {
		m.places[strings.Clone(tool)] = &toolPlace{} // a part of a request would keep all of it
		m.all.taken++
	}
}

// toolLabel is the label value of tool, which has no place, and counts one that
// should have been its own. The caller holds all.mu.
func (m *Recorder) toolLabel(tool string) string {
	if tool == "" {
		return ""
	}
	if m.listed(tool) {
		m.all.tools.Inc()
	}
	return Other
}

// listed reports whether tool is listed under a name that a label can have.
func (m *Recorder) listed(tool string) bool {
	return tool != Other && len(tool) <= maxToolLabel && utf8.ValidString(tool) && m.lists(tool)
}

func (x *Operations) errorLabel(kind string) string {
	label := ErrorTypeLabel(kind)
	if label == Other && kind != Other {
		x.errors.Inc()
	}
	return label
}

func (x *Operations) versionLabel(version string) string {
	label := VersionLabel(version)
	if label != version {
		x.versions.Inc()
	}
	return label
}

// VersionLabel bounds the label of a protocol version: a session that another
// program stored may have any.
func VersionLabel(version string) string {
	if version == "" || protocol.IsVersion(version) {
		return version
	}
	return Other
}
