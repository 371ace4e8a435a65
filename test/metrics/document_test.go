// Package metrics proves what the documents, the Prometheus rules and the
// dashboards rely on: docs/metrics.md lists the metrics of a running hub, the
// series that expressions read exist from the start, no name that a client or a
// server chooses adds a series, and a real Prometheus reads it all.
package metrics

import (
	"bufio"
	"errors"
	"io"
	"os"

	"google.golang.org/protobuf/encoding/protodelim"

	"bytes"
	"fmt"
	"maps"
	"math"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
	"github.com/mcphub-go/mcphub/test/golden"
)

// openLabels are the labels whose values depend on what the hub serves, with the
// text of the document. All values of the other labels exist from the start.
var openLabels = map[string]string{
	"mcp_method_name":      "the methods of MCP, else `_OTHER`",
	"gen_ai_tool_name":     "the tools that are listed now, up to `metrics.maxToolLabels` of them, else `_OTHER`; empty for other methods",
	"error_type":           "what failed: a word, a code of JSON-RPC, `-32000` for its range for servers, or `_OTHER`; empty for a success",
	"network_transport":    "`tcp`, or `pipe` to a child process",
	"mcp_protocol_version": "the versions of MCP, else `_OTHER`",
	"mcphub_backend":       "the configured servers",
	"version":              "of mcphub",
	"revision":             "the commit it was built from",
	"goversion":            "the Go version it was built with",
	"mcp_sdk_version":      "of mark3labs/mcp-go, which knows the protocol's names and versions",
}

// make docs writes the files that this test compares.
func TestTheMetricsDocumentIsThatOfARunningHub(t *testing.T) {
	before, after := metricsOfAHub(t)
	var names []string
	for name, family := range after {
		names = append(names, name)
		if strings.TrimSpace(family.GetHelp()) == "" {
			t.Errorf("%s has no help", name)
		}
		if old := before[name]; old != nil {
			checkClosedLabels(t, old, family)
		}
	}
	slices.Sort(names)
	golden.Compare(t, filepath.Join("..", "..", "deploy", "metrics.txt"), strings.Join(names, "\n")+"\n")
	golden.Compare(t, filepath.Join("..", "..", "docs", "metrics.md"), metricsDocument(names, before, after))
}

type families map[string]*dto.MetricFamily

// metricsOfAHub runs a hub and returns its metrics without those of the Go client
// library, from before its server answers and its first client connects, and from
// after its first session.
func metricsOfAHub(t *testing.T) (before, after families) {
	t.Helper()
	for _, variable := range os.Environ() {
		if name, _, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "OTEL_") {
			t.Setenv(name, "") // settings of the developer must not change the document
		}
	}
	gate := filepath.Join(t.TempDir(), "gate")
	wait := fmt.Sprintf("until test -e %s; do sleep 0.02; done; exec %s demo-server", gate, hubtest.HubProgram(t))
	hub := hubtest.StartHub(t, hubtest.Options{Config: fmt.Sprintf("mcpServers: {demo: {command: sh, args: [-c, %q]}}", wait)})
	before = scrape(t, hub)
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	useHub(t, hub)
	return before, scrape(t, hub)
}

// scrape returns the metrics of a hub, without those of the Go client library.
func scrape(t *testing.T, hub *hubtest.Hub) families {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, hub.AdminURL()+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited")
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	own, body := families{}, bufio.NewReader(response.Body)
	for {
		family := &dto.MetricFamily{}
		switch err := protodelim.UnmarshalFrom(body, family); {
		case errors.Is(err, io.EOF):
			return own
		case err != nil:
			t.Fatal(err)
		case strings.HasPrefix(family.GetName(), "mcp"):
			own[family.GetName()] = family
		}
	}
}

// useHub does what makes the metrics appear that need a client.
func useHub(t *testing.T, hub *hubtest.Hub) {
	t.Helper()
	c := hubtest.Connect(t, hub.URL())
	if a := c.Request("tools/call", `{"name":"demo__echo","arguments":{"text":"x"}}`); a.Result == nil {
		t.Fatalf("%s", a.Error)
	}
	response, err := c.Do(t.Context(), http.MethodDelete, "")
	if err != nil || response.StatusCode != http.StatusNoContent {
		t.Fatalf("DELETE: %v %v", response, err)
	}
	_ = response.Body.Close()
}

// labelValues are the values of each label of a family, sorted.
func labelValues(family *dto.MetricFamily) map[string][]string {
	values := map[string][]string{}
	for _, m := range family.GetMetric() {
		for _, pair := range m.GetLabel() {
			if !slices.Contains(values[pair.GetName()], pair.GetValue()) {
				values[pair.GetName()] = append(values[pair.GetName()], pair.GetValue())
			}
		}
	}
	for _, v := range values {
		slices.Sort(v)
	}
	return values
}

// checkClosedLabels reports label values that do not exist before the first use: an
// alert cannot fire on a series that is missing.
func checkClosedLabels(t *testing.T, before, after *dto.MetricFamily) {
	t.Helper()
	was := labelValues(before)
	for label, values := range labelValues(after) {
		if _, open := openLabels[label]; open {
			continue
		}
		for _, v := range values {
			if !slices.Contains(was[label], v) {
				t.Errorf("%s{%s=%q} is not there from the start", before.GetName(), label, v)
			}
		}
	}
}

// metricsDocument returns the text of docs/metrics.md.
func metricsDocument(names []string, before, after families) string {
	var b bytes.Buffer
	b.WriteString(`# Metrics

Made by ` + "`make docs`" + ` from a running hub; a test compares it. ` +
		`[telemetry.md](telemetry.md) says how to read them. Every series whose labels have
only the values given here is there from the start. The ` + "`go_`, `process_` and `promhttp_`" +
		` metrics of the Go client library come on top.
`)
	for _, name := range names {
		family := after[name]
		if old := before[name]; old != nil {
			family = old
		}
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n- %s\n", name, strings.TrimSpace(family.GetHelp()), describeType(family))
		writeLabels(&b, family)
	}
	return b.String()
}

// describeType returns the type, the unit and the buckets of a metric.
func describeType(family *dto.MetricFamily) string {
	text := strings.ToLower(family.GetType().String())
	name := strings.TrimSuffix(family.GetName(), "_total")
	switch {
	case strings.HasSuffix(name, "_timestamp_seconds"):
		text += ", seconds since 1970"
	case strings.HasSuffix(name, "_seconds"):
		text += ", seconds"
	case strings.HasSuffix(name, "_bytes"):
		text += ", bytes"
	}
	h := family.GetMetric()[0].GetHistogram()
	if h == nil {
		return text
	}
	var bounds []string
	for _, bucket := range h.GetBucket() {
		if !math.IsInf(bucket.GetUpperBound(), 1) {
			bounds = append(bounds, fmt.Sprint(bucket.GetUpperBound()))
		}
	}
	text += "; buckets up to " + strings.Join(bounds, ", ")
	if h.Schema != nil {
		text += fmt.Sprintf("; native too, schema %d: each bucket %.1f %% wider than the one below", h.GetSchema(),
			100*(math.Exp2(math.Exp2(-float64(h.GetSchema())))-1))
	}
	return text
}

// writeLabels lists the labels. Where not all combinations of two labels exist, it
// lists the values of the longer one for each value of the shorter one.
func writeLabels(b *bytes.Buffer, family *dto.MetricFamily) {
	values := labelValues(family)
	var closed []string
	for _, label := range slices.Sorted(maps.Keys(values)) {
		if words, open := openLabels[label]; open {
			fmt.Fprintf(b, "- `%s`: %s\n", label, words)
			continue
		}
		closed = append(closed, label)
	}
	if len(closed) != 2 || len(values) != 2 || len(family.GetMetric()) == len(values[closed[0]])*len(values[closed[1]]) {
		for _, label := range closed {
			fmt.Fprintf(b, "- `%s`: %s\n", label, inCode(values[label]))
		}
		return
	}
	slices.SortFunc(closed, func(x, y string) int { return len(values[x]) - len(values[y]) })
	for _, v := range values[closed[0]] {
		part := slices.DeleteFunc(slices.Clone(family.GetMetric()), func(m *dto.Metric) bool {
			return !slices.ContainsFunc(m.GetLabel(), func(pair *dto.LabelPair) bool { return pair.GetName() == closed[0] && pair.GetValue() == v })
		})
		fmt.Fprintf(b, "- `%s` = `%s` with `%s`: %s\n", closed[0], v, closed[1], inCode(labelValues(&dto.MetricFamily{Metric: part})[closed[1]]))
	}
}

func inCode(values []string) string {
	quoted := make([]string, len(values))
	for i, v := range values {
		quoted[i] = "`" + v + "`"
	}
	return strings.Join(quoted, ", ")
}
