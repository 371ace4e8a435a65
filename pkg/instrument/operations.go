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
	maxToolLabel      = 256 // bytes of a tool name; a longer one is not a label value
)

// Operation describes one operation. Its values need not be bounded.
type Operation struct {
	Method    string
	Tool      string // of tools/call
	ErrorType string // empty for a success
	Transport string // tcp or pipe
	Version   string // of the protocol; empty before it is negotiated
}

// Operations records operations in an OperationHistogram with bounded labels. Its Recorders, one for each peer, delete
// the series of what no longer exists.
//
// A tool becomes a label value when it is first called while it is listed and fewer tools than the limit are label
// values. It loses its series when it is no longer listed. The values that the hub or a server chose and that do not
// become label values are recorded under Other and counted as overflow: a listed tool beyond the limit, an error code,
// a protocol version. An unknown method or tool is recorded under Other and not counted, because only the client chose
// it and nobody needs its series.
//
// The methods of Operations and its Recorders may be called concurrently.
type Operations struct {
	duration  *OperationHistogram
	toolLimit int // tools that are label values at the same time; below 0: no tool is a label value

	toolOverflow, errorOverflow, versionOverflow prometheus.Counter

	// Observe holds mu for reading from the choice of the labels until the series is updated, so that Prune cannot delete a
	// series in between.
	mu            sync.RWMutex
	labelledTools int // tools that are label values, of all Recorders
}

// NewOperations makes Operations that record in h, and registers the overflow counter of hop. toolLimit is the number
// of tools that are label values at the same time: 0 means 200, and below 0 gen_ai_tool_name stays empty.
func NewOperations(r prometheus.Registerer, hop string, h *OperationHistogram, toolLimit int) *Operations {
	overflow := promauto.With(r).NewCounterVec(prometheus.CounterOpts{Name: "mcphub_metric_label_overflow_total",
		Help: "Operations recorded under _OTHER for want of a label value: a listed tool beyond the limit, " +
			"an error code of a server's own, an unknown version of a stored session.",
		ConstLabels: prometheus.Labels{"hop": hop}}, []string{"label"})
	return &Operations{
		duration:        h,
		toolLimit:       cmp.Or(toolLimit, defaultToolLabels),
		toolOverflow:    overflow.WithLabelValues("gen_ai_tool_name"),
		errorOverflow:   overflow.WithLabelValues("error_type"),
		versionOverflow: overflow.WithLabelValues("mcp_protocol_version"),
	}
}

func (o *Operations) errorLabel(errorType string) string {
	label := ErrorTypeLabel(errorType)
	if label == Other && errorType != Other {
		o.errorOverflow.Inc()
	}
	return label
}

func (o *Operations) versionLabel(version string) string {
	label := VersionLabel(version)
	if label != version {
		o.versionOverflow.Inc()
	}
	return label
}

// Recorder records the operations with one peer: a server, or all clients.
type Recorder struct {
	operations *Operations
	backend    string // value of mcphub_backend; empty if the histogram has no such label
	isListed   func(tool string) bool

	// guarded by operations.mu
	tools  map[string]*labelledTool
	closed bool
}

// labelledTool is a tool that is a label value. It is removed before its series are.
type labelledTool struct {
	last atomic.Pointer[operationSeries] // of the last call; the next one most often has the same labels
}

// Recorder makes a Recorder. backend is the value of mcphub_backend, empty if the histogram has no such label. isListed
// reports whether a tool is listed now. It must be fast and must not take a lock that a caller of a Recorder method
// holds. After a change of the list, isListed must return the new state before Prune is called.
func (o *Operations) Recorder(backend string, isListed func(tool string) bool) *Recorder {
	return &Recorder{operations: o, backend: backend, isListed: isListed, tools: map[string]*labelledTool{}}
}

// Observe records an operation that took d, with the trace of ctx as exemplar if it is sampled. After Close it does
// nothing.
func (r *Recorder) Observe(ctx context.Context, o Operation, d time.Duration) {
	all := r.operations
	o.Method, o.ErrorType, o.Version = MethodLabel(o.Method), all.errorLabel(o.ErrorType), all.versionLabel(o.Version)
	switch {
	case o.Method != protocol.MethodToolsCall, all.toolLimit < 0:
		o.Tool = ""
	case o.Tool == "":
		o.Tool = Other
	}
	all.mu.RLock()
	defer all.mu.RUnlock()
	if r.tools[o.Tool] == nil && r.mayLabel(o.Tool) {
		all.mu.RUnlock()
		r.labelTool(o.Tool)
		all.mu.RLock()
	}
	if r.closed {
		return
	}
	tool := r.tools[o.Tool]
	if tool == nil {
		o.Tool = r.sharedLabel(o.Tool)
		all.duration.Observe(ctx, o, r.backend, d)
		return
	}
	k := operationKey{o, r.backend}
	s := tool.last.Load()
	if s == nil || s.key != k {
		s = all.duration.seriesFor(k)
		tool.last.Store(s)
	}
	s.observe(ctx, d)
}

// mayLabel reports whether tool, which is not a label value, may become one. The caller holds operations.mu.
func (r *Recorder) mayLabel(tool string) bool {
	return tool != "" && r.operations.labelledTools < r.operations.toolLimit && r.isListedLabel(tool)
}

// labelTool makes tool a label value, unless it may no longer become one.
func (r *Recorder) labelTool(tool string) {
	r.operations.mu.Lock()
	defer r.operations.mu.Unlock()
	if !r.closed && r.tools[tool] == nil && r.mayLabel(tool) {
		r.tools[strings.Clone(tool)] = &labelledTool{} // a substring of a request would keep the request in memory
		r.operations.labelledTools++
	}
}

// sharedLabel returns the label value of tool, which is not a label value itself, and counts an overflow if tool is
// listed. The caller holds operations.mu.
func (r *Recorder) sharedLabel(tool string) string {
	if tool == "" {
		return ""
	}
	if r.isListedLabel(tool) {
		r.operations.toolOverflow.Inc()
	}
	return Other
}

// isListedLabel reports whether tool is listed and its name is valid as a label value.
func (r *Recorder) isListedLabel(tool string) bool {
	return tool != Other && len(tool) <= maxToolLabel && utf8.ValidString(tool) && r.isListed(tool)
}

// Prune deletes the series of the tools that are no longer listed. It must be called after each change of the list.
func (r *Recorder) Prune() {
	r.operations.mu.Lock()
	defer r.operations.mu.Unlock()
	for tool := range r.tools {
		if !r.isListed(tool) {
			delete(r.tools, tool)
			r.operations.labelledTools--
			r.removeSeries(func(o Operation) bool { return o.Tool == tool })
		}
	}
}

// Close deletes all series of the peer. Operations that end later are not recorded.
func (r *Recorder) Close() {
	r.operations.mu.Lock()
	defer r.operations.mu.Unlock()
	r.closed = true
	r.operations.labelledTools -= len(r.tools)
	clear(r.tools)
	r.removeSeries(func(Operation) bool { return true })
}

// removeSeries deletes the series of the peer that match. The caller holds operations.mu for writing.
func (r *Recorder) removeSeries(match func(o Operation) bool) {
	r.operations.duration.remove(func(o Operation, backend string) bool { return backend == r.backend && match(o) })
}
