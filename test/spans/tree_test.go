package spans

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
	"github.com/mcphub-go/mcphub/test/golden"
)

// forest writes spans as trees. Words replace what differs from run to run.
type forest struct {
	children map[string][]*hubtest.Span // by the id of the parent, in the order of their starts
	byID     map[string]*hubtest.Span
	names    map[string]string // words for the ids of sessions and of spans of other programs
	several  bool              // there are several hubs: write their names
	parents  bool              // write the parents that are spans of other programs
}

// arrange sorts neighbours of the same name, which may have started at the same
// time, into an order that does not depend on the time.
func (f *forest) arrange(siblings []*hubtest.Span) {
	for i := 0; i < len(siblings); {
		j := i + 1
		for j < len(siblings) && siblings[j].Name == siblings[i].Name {
			j++
		}
		slices.SortStableFunc(siblings[i:j], func(a, b *hubtest.Span) int {
			return strings.Compare(order(a), order(b))
		})
		i = j
	}
}

// order returns a text by which siblings of the same name are sorted.
func order(s *hubtest.Span) string {
	for _, a := range s.Attributes {
		if a.Key == "mcphub.attempt" {
			return "~" + a.GetValue().String() // sorts after the first attempt, which has no number
		}
	}
	return s.Attribute("mcphub.backend")
}

func id(raw []byte) string { return hex.EncodeToString(raw) }

func newForest(spans []*hubtest.Span, names map[string]string) *forest {
	f := &forest{children: map[string][]*hubtest.Span{}, byID: map[string]*hubtest.Span{}, names: names}
	for _, s := range spans {
		parent := ""
		if len(s.ParentSpanId) > 0 {
			parent = id(s.ParentSpanId)
		}
		f.children[parent] = append(f.children[parent], s)
		f.byID[id(s.SpanId)] = s
		f.several = f.several || s.Service != spans[0].Service
	}
	for _, siblings := range f.children {
		f.arrange(siblings)
	}
	return f
}

// check reports orphans, children that start before their parent or belong to
// another trace, spans that were exported twice, spans that end before they start,
// and spans that lost attributes, events or links.
func (f *forest) check(t *testing.T, spans []*hubtest.Span) {
	t.Helper()
	for _, s := range spans {
		parent := f.byID[id(s.ParentSpanId)]
		switch {
		case f.byID[id(s.SpanId)] != s:
			t.Errorf("the span %s is there twice", s.Name)
		case s.EndTimeUnixNano < s.StartTimeUnixNano:
			t.Errorf("the span %s ends before it starts", s.Name)
		case len(s.ParentSpanId) == 0 || f.names[id(s.ParentSpanId)] != "":
		case parent == nil:
			t.Errorf("the span %s has a parent that was not exported", s.Name)
		case parent.StartTimeUnixNano > s.StartTimeUnixNano || id(parent.TraceId) != id(s.TraceId):
			t.Errorf("the span %s is no child of %s", s.Name, parent.Name)
		}
		if !strings.HasPrefix(s.Scope, "github.com/mcphub-go/mcphub/pkg/") {
			t.Errorf("the span %s is of %s", s.Name, s.Scope)
		}
		if s.DroppedAttributesCount+s.DroppedEventsCount+s.DroppedLinksCount > 0 {
			t.Errorf("the span %s has lost something", s.Name)
		}
	}
}

// below writes the trees of the children of the span with that id; "" for the roots.
func (f *forest) below(b *strings.Builder, parent, indent string) {
	for _, s := range f.children[parent] {
		f.write(b, s, indent)
	}
}

// tree returns the tree of a span.
func (f *forest) tree(s *hubtest.Span) string {
	var b strings.Builder
	f.write(&b, s, "")
	return b.String()
}

func (f *forest) write(b *strings.Builder, s *hubtest.Span, indent string) {
	fmt.Fprintf(b, "%s%s %s", indent, strings.TrimPrefix(s.Kind.String(), "SPAN_KIND_"), s.Name)
	if f.several {
		fmt.Fprintf(b, " of %s", s.Service)
	}
	if code := s.GetStatus().GetCode(); code != tracepb.Status_STATUS_CODE_UNSET {
		fmt.Fprintf(b, " %s %q", strings.TrimPrefix(code.String(), "STATUS_CODE_"), masked(s.GetStatus().GetMessage()))
	}
	b.WriteString("\n")
	fill(b, indent+"  | ", f.attributes(s.Attributes))
	if f.parents && f.byID[id(s.ParentSpanId)] == nil {
		fmt.Fprintf(b, "%s  parent: %s\n", indent, cmp.Or(f.names[id(s.ParentSpanId)], "none"))
	}
	if s.TraceState != "" {
		fmt.Fprintf(b, "%s  tracestate %s\n", indent, s.TraceState)
	}
	for _, l := range s.Links {
		fmt.Fprintf(b, "%s  link to %s\n", indent, f.linked(l))
	}
	for _, e := range s.Events {
		fmt.Fprintf(b, "%s  event %s %s\n", indent, e.Name, strings.Join(f.attributes(e.Attributes), " "))
	}
	f.below(b, id(s.SpanId), indent+"    ")
}

func (f *forest) linked(l *tracepb.Span_Link) string {
	if to := f.byID[id(l.SpanId)]; to != nil {
		return to.Name
	}
	if name := f.names[id(l.SpanId)]; name != "" {
		return name
	}
	return "nothing known"
}

// attributes writes each as key=value, in the order of their keys.
func (f *forest) attributes(attributes []*commonpb.KeyValue) (all []string) {
	for _, a := range attributes {
		value := ""
		switch v := a.GetValue().GetValue().(type) {
		case *commonpb.AnyValue_StringValue:
			value = v.StringValue
		case *commonpb.AnyValue_IntValue:
			value = strconv.FormatInt(v.IntValue, 10)
		default:
			value = a.GetValue().String()
		}
		switch a.Key {
		case "jsonrpc.request.id":
			value = "<id>"
		case "client.port", "server.port":
			value = "<port>"
		case "mcp.session.id", "mcphub.session.id":
			value = f.session(value)
		case "exception.message":
			value = masked(value)
		}
		if strings.ContainsAny(value, " \n") {
			value = strconv.Quote(value)
		}
		all = append(all, a.Key+"="+value)
	}
	slices.Sort(all)
	return all
}

func (f *forest) session(id string) string {
	if name := f.names[id]; name != "" {
		return name
	}
	return "<a session>"
}

var (
	aPort  = regexp.MustCompile(`127\.0\.0\.1:\d+`)
	aPause = regexp.MustCompile(`next attempt in [0-9.ms]+`)
	anID   = regexp.MustCompile(`[0-9A-Z]{26}|[0-9a-f]{32}`)
)

// masked replaces what differs from run to run in a text.
func masked(text string) string {
	text = aPort.ReplaceAllString(text, "127.0.0.1:<port>")
	return anID.ReplaceAllString(aPause.ReplaceAllString(text, "next attempt in <pause>"), "<id>")
}

// fill writes words in lines of limited length that begin with the prefix.
func fill(b *strings.Builder, prefix string, words []string) {
	line := ""
	for _, word := range words {
		if line != "" && len(prefix)+len(line)+len(word) > 140 {
			fmt.Fprintf(b, "%s%s\n", prefix, line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	if line != "" {
		fmt.Fprintf(b, "%s%s\n", prefix, line)
	}
}

// compareTrees compares trees with the file of that name in testdata.
func compareTrees(t *testing.T, name, trees string) {
	t.Helper()
	golden.Compare(t, filepath.Join("testdata", name+".txt"), trees)
}
