package instrument

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mcphub-go/mcphub/pkg/instrument/instrumenttest"
)

// toolList is a list of tools that a test can change.
type toolList struct{ names atomic.Pointer[[]string] }

func (l *toolList) set(names ...string) { l.names.Store(&names) }

func (l *toolList) lists(tool string) bool { return slices.Contains(*l.names.Load(), tool) }

// newRecorder returns a Recorder of the server s, which lists tools.
func newRecorder(limit int, tools ...string) (*prometheus.Registry, *Operations, *Recorder, *toolList) {
	reg, list := prometheus.NewRegistry(), &toolList{}
	list.set(tools...)
	x := NewOperations(reg, "backend", newOperationHistogram(reg, "x_seconds", "X.", "mcphub_backend"), limit)
	return reg, x, x.Recorder("s", list.lists), list
}

func (r *Recorder) call(tool string) {
	r.Observe(context.Background(), Operation{Method: "tools/call", Tool: tool, Transport: "pipe"}, time.Millisecond)
}

// toolsOf returns how often each value of gen_ai_tool_name was recorded.
func toolsOf(t *testing.T, g prometheus.Gatherer, name string) map[string]int {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]int{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if f.GetName() == name && l.GetName() == "gen_ai_tool_name" {
					counts[l.GetValue()] += int(m.GetHistogram().GetSampleCount())
				}
			}
		}
	}
	return counts
}

func wantTools(t *testing.T, g prometheus.Gatherer, want map[string]int) {
	t.Helper()
	if got := toolsOf(t, g, "x_seconds"); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("recorded are %v, want %v", got, want)
	}
}

func overflow(t *testing.T, g prometheus.Gatherer, label string) float64 {
	t.Helper()
	return instrumenttest.Value(t, g, "mcphub_metric_label_overflow_total", "hop", "backend", "label", label)
}

func TestToolIsALabelOnlyWhileListed(t *testing.T) {
	t.Parallel()
	long := string(make([]byte, maxToolLabel+1))
	reg, _, m, _ := newRecorder(0, "a", "", Other, long, "\xff")
	for _, tool := range []string{"a", "invented", "", Other, long, "\xff"} {
		m.call(tool)
	}
	m.Observe(t.Context(), Operation{Method: "ping", Tool: "a", Transport: "pipe"}, 0)
	wantTools(t, reg, map[string]int{"a": 1, Other: 5, "": 1})
	if n := overflow(t, reg, "gen_ai_tool_name"); n != 0 {
		t.Errorf("%v unlisted tools count as overflow", n)
	}
}

func TestToolsBeyondTheLimitShareALabelAndAreCounted(t *testing.T) {
	t.Parallel()
	reg, x, m, list := newRecorder(2, "a", "b", "c")
	other := x.Recorder("t", list.lists)
	for _, tool := range []string{"a", "b", "c", "a", "invented"} {
		m.call(tool)
	}
	other.call("a") // a tool of another server
	wantTools(t, reg, map[string]int{"a": 2, "b": 1, Other: 3})
	if n := overflow(t, reg, "gen_ai_tool_name"); n != 2 {
		t.Errorf("overflow is %v, want 2: c and a of the other server", n)
	}
	list.set("b", "c")
	m.Prune() // which makes room
	m.call("c")
	wantTools(t, reg, map[string]int{"b": 1, "c": 1, Other: 3})
}

func TestTwoHundredToolsHaveLabelsByDefault(t *testing.T) {
	t.Parallel()
	var tools []string
	for i := range 300 {
		tools = append(tools, fmt.Sprintf("t%d", i))
	}
	reg, _, m, _ := newRecorder(0, tools...)
	for _, tool := range tools {
		m.call(tool)
	}
	if n := len(toolsOf(t, reg, "x_seconds")); n != 201 {
		t.Errorf("%d values", n)
	}
	if n := overflow(t, reg, "gen_ai_tool_name"); n != 100 {
		t.Errorf("overflow is %v", n)
	}
}

func TestCallsShareASeriesWithoutToolLabels(t *testing.T) {
	t.Parallel()
	reg, _, m, _ := newRecorder(-1, "a", "b")
	m.call("a")
	m.call("b")
	wantTools(t, reg, map[string]int{"": 2})
	if n := overflow(t, reg, "gen_ai_tool_name"); n != 0 {
		t.Errorf("overflow is %v", n)
	}
}

func TestUnknownLabelValuesAreRecordedAsOther(t *testing.T) {
	t.Parallel()
	reg, _, m, _ := newRecorder(0)
	for _, o := range []Operation{
		{Method: "vendor/secret", ErrorType: "4711", Version: "2099-01-01"},
		{Method: "ping", ErrorType: "-32042", Version: "2025-06-18"},
		{Method: "ping", ErrorType: Other, Version: ""},
		{Method: "ping", ErrorType: "timeout"},
	} {
		m.Observe(t.Context(), o, 0)
	}
	for _, labels := range [][]string{
		{"mcp_method_name", Other, "error_type", Other, "mcp_protocol_version", Other},
		{"mcp_method_name", "ping", "error_type", "-32000", "mcp_protocol_version", "2025-06-18"},
		{"mcp_method_name", "ping", "error_type", Other, "mcp_protocol_version", ""},
		{"mcp_method_name", "ping", "error_type", "timeout"},
	} {
		if n := instrumenttest.Value(t, reg, "x_seconds", labels...); n != 1 {
			t.Errorf("%v: %v", labels, n)
		}
	}
	if e, v := overflow(t, reg, "error_type"), overflow(t, reg, "mcp_protocol_version"); e != 1 || v != 1 {
		t.Errorf("overflow of %v error codes and %v versions", e, v)
	}
}

func TestRemovedToolLosesItsSeriesAndStartsAnew(t *testing.T) {
	t.Parallel()
	reg, x, m, list := newRecorder(0, "a", "b")
	other := x.Recorder("t", list.lists)
	for range 3 {
		m.call("a")
	}
	m.call("b")
	other.call("a")
	list.set("b")
	m.Prune()
	wantTools(t, reg, map[string]int{"a": 1, "b": 1}) // a of the other server stays
	m.call("a")                                       // it began before the change
	wantTools(t, reg, map[string]int{"a": 1, "b": 1, Other: 1})
	list.set("a", "b")
	m.Prune()
	m.call("a")
	if n := instrumenttest.Value(t, reg, "x_seconds", "mcphub_backend", "s", "gen_ai_tool_name", "a"); n != 1 {
		t.Errorf("the tool that came back has %v calls", n)
	}
}

// Calls, changes of the list and Prune may interleave in any way. After the last Prune, only listed tools have series.
func TestRemovedToolDoesNotComeBackThroughConcurrentCalls(t *testing.T) {
	t.Parallel()
	reg, x, m, list := newRecorder(10, "even", "odd", "both")
	var calls, changes sync.WaitGroup
	done := make(chan struct{})
	for range 4 {
		calls.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				for _, tool := range []string{"even", "odd", "both"} {
					m.call(tool)
				}
			}
		})
	}
	for i := range 2 { // two goroutines, so that calls of Prune overlap too
		changes.Go(func() {
			for n := range 1000 {
				list.set([]string{"even", "odd"}[(n+i)%2], "both")
				m.Prune()
			}
		})
	}
	changes.Wait()
	list.set("both")
	m.Prune()
	close(done)
	calls.Wait()
	if got := toolsOf(t, reg, "x_seconds"); got["even"]+got["odd"] != 0 || got["both"] == 0 {
		t.Errorf("recorded are %v", got)
	}
	if x.labelledTools != 1 || len(m.tools) != 1 {
		t.Errorf("%d tools are label values, %v", x.labelledTools, m.tools)
	}
}

func TestRecordingAllocatesNothing(t *testing.T) {
	_, _, m, _ := newRecorder(1, "a", "b")
	ctx := t.Context()
	m.call("a")
	for _, tool := range []string{"a", "b", "invented"} {
		o := Operation{Method: "tools/call", Tool: tool, Transport: "pipe", Version: "2025-11-25"}
		if n := testing.AllocsPerRun(100, func() { m.Observe(ctx, o, time.Millisecond) }); n != 0 {
			t.Errorf("%s: %v allocations", tool, n)
		}
	}
}

// A Recorder caches the last series of a tool.
func TestOperationsOfAToolAreRecordedByTheirOwnLabels(t *testing.T) {
	t.Parallel()
	reg, _, m, list := newRecorder(0, "a")
	for range 3 {
		for _, kind := range []string{"", "", "tool_error"} {
			for _, version := range []string{"2025-06-18", "2025-11-25"} {
				m.Observe(t.Context(), Operation{Method: "tools/call", Tool: "a", ErrorType: kind, Transport: "pipe", Version: version}, 0)
			}
		}
	}
	want := func(n float64, labels ...string) {
		t.Helper()
		if got := instrumenttest.Value(t, reg, "x_seconds", labels...); got != n {
			t.Errorf("%v of %q, want %v", got, labels, n)
		}
	}
	want(6, "error_type", "", "mcp_protocol_version", "2025-06-18")
	want(3, "error_type", "tool_error", "mcp_protocol_version", "2025-11-25")
	want(18, "gen_ai_tool_name", "a")
	list.set()
	m.Prune()
	list.set("a")
	m.call("a") // not in the removed series
	want(1, "gen_ai_tool_name", "a")
}
