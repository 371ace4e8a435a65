package telemetry

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// consoleSpans shows spans to a person who has no collector: each trace as a tree.
//
//	trace 0af7651916cd43dd8448eb211c80319c at 12:00:01.234
//	  tools/call demo__echo  server  3.1ms
//	      mcp.method.name=tools/call
//	    tools/call echo  client  2.2ms
//
// The tree has the spans that were exported together. Others of the trace follow in a tree of their own.
type consoleSpans struct{ w io.Writer }

// ExportSpans implements [sdktrace.SpanExporter].
func (c consoleSpans) ExportSpans(_ context.Context, spans []sdktrace.ReadOnlySpan) error {
	for _, tree := range treesOf(spans) {
		if _, err := c.w.Write(tree.text()); err != nil {
			return err
		}
	}
	return nil
}

// Shutdown implements [sdktrace.SpanExporter].
func (consoleSpans) Shutdown(context.Context) error { return nil }

// spanTree holds spans of one trace.
type spanTree struct {
	roots    []sdktrace.ReadOnlySpan // their parents are not in the tree
	children map[trace.SpanID][]sdktrace.ReadOnlySpan
}

// treesOf returns a tree for each trace, in the order in which they began.
func treesOf(spans []sdktrace.ReadOnlySpan) []*spanTree {
	spans = slices.Clone(spans)
	slices.SortStableFunc(spans, func(a, b sdktrace.ReadOnlySpan) int { return a.StartTime().Compare(b.StartTime()) })
	known := map[trace.SpanID]bool{}
	for _, s := range spans {
		known[s.SpanContext().SpanID()] = true
	}
	var trees []*spanTree
	byTrace := map[trace.TraceID]*spanTree{}
	for _, s := range spans {
		id := s.SpanContext().TraceID()
		if byTrace[id] == nil {
			byTrace[id] = &spanTree{children: map[trace.SpanID][]sdktrace.ReadOnlySpan{}}
			trees = append(trees, byTrace[id])
		}
		tree := byTrace[id]
		if parent := s.Parent().SpanID(); known[parent] {
			tree.children[parent] = append(tree.children[parent], s)
		} else {
			tree.roots = append(tree.roots, s)
		}
	}
	return trees
}

func (t *spanTree) text() []byte {
	var b bytes.Buffer
	if len(t.roots) > 0 {
		first := t.roots[0]
		fmt.Fprintf(&b, "trace %s at %s\n", first.SpanContext().TraceID(), first.StartTime().Local().Format("15:04:05.000"))
	}
	for _, root := range t.roots {
		t.write(&b, root, "  ")
	}
	return b.Bytes()
}

// write writes a span and those below it.
func (t *spanTree) write(b *bytes.Buffer, s sdktrace.ReadOnlySpan, indent string) {
	took := s.EndTime().Sub(s.StartTime()).Round(10 * time.Microsecond)
	fmt.Fprintf(b, "%s%s  %s  %s", indent, visible(s.Name()), s.SpanKind(), took)
	if status := s.Status(); status.Code == codes.Error {
		fmt.Fprintf(b, "  ERROR %s", visible(status.Description))
	}
	if parent := s.Parent(); parent.IsRemote() {
		fmt.Fprintf(b, "  (its parent %s is a span of the caller)", parent.SpanID())
	}
	b.WriteByte('\n')
	detail := indent + "    "
	writeAttributes(b, detail, s.Attributes())
	for _, e := range s.Events() {
		fmt.Fprintf(b, "%s+%s %s\n", detail, e.Time.Sub(s.StartTime()).Round(10*time.Microsecond), visible(e.Name))
		writeAttributes(b, detail+"  ", e.Attributes)
	}
	for _, l := range s.Links() {
		fmt.Fprintf(b, "%slinked to trace %s\n", detail, l.SpanContext.TraceID())
	}
	for _, child := range t.children[s.SpanContext().SpanID()] {
		t.write(b, child, indent+"  ")
	}
}

// lineWidth is the length at which a line of attributes is broken.
const lineWidth = 100

func writeAttributes(b *bytes.Buffer, indent string, attributes []attribute.KeyValue) {
	line := ""
	for _, a := range attributes {
		text := visible(string(a.Key)) + "=" + attributeText(a.Value)
		if line != "" && len(indent)+len(line)+len(text) >= lineWidth {
			b.WriteString(indent + line + "\n")
			line = ""
		}
		line = strings.TrimPrefix(line+" "+text, " ")
	}
	if line != "" {
		b.WriteString(indent + line + "\n")
	}
}

// attributeText returns a value for people, in quotes if it is not one word.
func attributeText(v attribute.Value) string {
	text := v.String()
	if text == "" || strings.ContainsAny(text, " \"") {
		text = strconv.Quote(text)
	}
	return visible(text)
}

// visible returns text with an escape for each character that shows no mark of its own.
func visible(text string) string {
	odd := func(r rune) bool { return r < ' ' || hidden(r) }
	if !strings.ContainsFunc(text, odd) {
		return text
	}
	var b []byte
	for _, r := range text {
		if odd(r) {
			b = appendEscape(b, r)
		} else {
			b = append(b, string(r)...)
		}
	}
	return string(b)
}
