package metrics

import (
	"encoding/json"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
)

// notFromTheStart are the metrics that expressions may use although an unused hub
// does not have all their series, with the reason.
var notFromTheStart = map[string]string{
	"mcp_server_operation_duration_seconds": "there is a label set for each tool and outcome; rates and errors are " +
		"read from counters, and quantiles need a call",
	"mcp_client_operation_duration_seconds": "as above",
	"mcphub_proxy_overhead_seconds":         "there is a label set for each method that was forwarded",
}

// expressionsOf returns the PromQL expressions of rules, dashboards and runbooks,
// by the rule or file.
func expressionsOf(t *testing.T) map[string][]string {
	t.Helper()
	all, root := map[string][]string{}, filepath.Join("..", "..")
	query := regexp.MustCompile(`printf "([^"]*)" [^|}]*\| query`) // in annotations
	for _, file := range files(t, root, "deploy", "prometheus", "*.rules.yml") {
		var rules struct {
			Groups []struct {
				Rules []struct {
					Record, Alert, Expr string
					Annotations         map[string]string
				}
			}
		}
		if err := yaml.Unmarshal([]byte(mustRead(t, file)), &rules); err != nil {
			t.Fatal(err)
		}
		for _, group := range rules.Groups {
			for _, r := range group.Rules {
				where := r.Record + r.Alert
				all[where] = append(all[where], r.Expr)
				for _, text := range r.Annotations {
					for _, m := range query.FindAllStringSubmatch(text, -1) {
						all[where] = append(all[where], m[1])
					}
				}
			}
		}
	}
	for _, file := range files(t, root, "grafana", "dashboards", "*.json") {
		var board any
		if err := json.Unmarshal([]byte(mustRead(t, file)), &board); err != nil {
			t.Fatal(err)
		}
		all[filepath.Base(file)] = exprs(board)
	}
	block := regexp.MustCompile("(?ms)^ *```promql\n(.*?)^ *```$")
	for _, file := range files(t, root, "docs", "runbooks", "*.md") {
		for _, m := range block.FindAllStringSubmatch(mustRead(t, file), -1) {
			all[filepath.Base(file)] = append(all[filepath.Base(file)], m[1])
		}
	}
	return all
}

func files(t *testing.T, pattern ...string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(pattern...))
	if err != nil || len(found) == 0 {
		t.Fatalf("%v: no such files: %v", pattern, err)
	}
	return found
}

// exprs returns all members expr of a dashboard, at any depth.
func exprs(v any) (found []string) {
	switch v := v.(type) {
	case []any:
		for _, item := range v {
			found = append(found, exprs(item)...)
		}
	case map[string]any:
		for key, item := range v {
			if text, ok := item.(string); ok && key == "expr" {
				found = append(found, text)
			}
			found = append(found, exprs(item)...)
		}
	}
	return found
}

// usedSeries are the series that an expression reads of one metric.
type usedSeries struct {
	metric   string
	matchers [][]string // label, operator, value
}

var (
	groupedBy = regexp.MustCompile(`\b(?:by|on|without|ignoring|group_left|group_right)\s*\(([^)]*)\)`)
	aSelector = regexp.MustCompile(`(?:^|[^\w:])((?:mcp|go|process)_\w+|mcphub_\w+)\b(?:\s*\{([^}]*)\})?`)
	aMatcher  = regexp.MustCompile(`(\w+)\s*(=~|!~|!=|=)\s*"((?:\\.|[^"\\])*)"`)
)

// readsOf returns the metrics that expr reads, without those that rules record, and
// the labels by which it groups. It finds metrics by the beginning of their names;
// promtool checks the syntax of the expression.
func readsOf(expr string) (reads []usedSeries, labels []string) {
	for _, m := range groupedBy.FindAllStringSubmatch(expr, -1) {
		for label := range strings.SplitSeq(m[1], ",") {
			labels = append(labels, strings.TrimSpace(label))
		}
	}
	for _, m := range aSelector.FindAllStringSubmatch(groupedBy.ReplaceAllString(expr, ""), -1) {
		s := usedSeries{metric: m[1]}
		for _, x := range aMatcher.FindAllStringSubmatch(m[2], -1) {
			if !strings.Contains(x[3], "$") { // a variable of Grafana
				s.matchers = append(s.matchers, x[1:])
			}
		}
		reads = append(reads, s)
	}
	slices.Sort(labels)
	return reads, slices.Compact(labels)
}

// labelSets returns the label sets of the series, by metric.
func labelSets(series map[string]bool) map[string][]map[string]string {
	sets := map[string][]map[string]string{}
	for s := range series {
		name, rest, _ := strings.Cut(s, "{")
		labels := map[string]string{}
		for _, m := range aMatcher.FindAllStringSubmatch(rest, -1) {
			labels[m[1]] = m[3]
		}
		sets[name] = append(sets[name], labels)
		if base, ok := strings.CutSuffix(name, "_count"); ok { // the native histogram
			sets[base] = append(sets[base], labels)
		}
	}
	return sets
}

// missing returns the matcher of s that matches no series, and "" if all of them
// match one. Each value of a list of values, a|b, has to match.
func (s usedSeries) missing(sets []map[string]string) string {
	for i, m := range s.matchers {
		values := []string{m[2]}
		if m[1] == "=~" && regexp.MustCompile(`^[\w|-]+$`).MatchString(m[2]) {
			values = strings.Split(m[2], "|")
		}
		for _, v := range values {
			one := usedSeries{s.metric, slices.Clone(s.matchers)}
			one.matchers[i] = []string{m[0], m[1], v}
			if !slices.ContainsFunc(sets, one.matches) {
				return m[0] + m[1] + v
			}
		}
	}
	if len(sets) == 0 {
		return "every series"
	}
	return ""
}

func (s usedSeries) matches(labels map[string]string) bool {
	for _, m := range s.matchers {
		label, operator, value := m[0], m[1], m[2]
		if label == "job" || label == "instance" { // Prometheus adds these
			continue
		}
		equal := labels[label] == value
		if strings.HasSuffix(operator, "~") {
			equal = regexp.MustCompile("^(?:" + value + ")$").MatchString(labels[label])
		}
		if equal == strings.HasPrefix(operator, "!") {
			return false
		}
	}
	return true
}

// A series that is missing makes a difference or a quotient empty, and an alert
// silent.
func TestWhatExpressionsReadIsThereFromTheStart(t *testing.T) {
	sets := labelSets(hubtest.StartHub(t, hubtest.Options{Config: hubtest.DemoConfig, LogLevel: "warn"}).Series())
	for where, all := range expressionsOf(t) {
		for _, expr := range all {
			reads, labels := readsOf(expr)
			for _, s := range reads {
				if notFromTheStart[baseOf(s.metric)] != "" {
					continue
				}
				if what := s.missing(sets[s.metric]); what != "" {
					t.Errorf("%s: an unused hub has no series of %s that matches the expression: %s is missing\n%s", where, s.metric, what, expr)
				}
			}
			for _, label := range labels {
				sameValues(t, where+": "+expr, label, reads, sets)
			}
		}
	}
}

// sameValues checks that the metrics of an expression that groups by label have the
// same values of that label. It skips metrics without the label and selectors with
// a matcher for it.
func sameValues(t *testing.T, where, label string, reads []usedSeries, sets map[string][]map[string]string) {
	t.Helper()
	first, want := "", []string(nil)
	for _, s := range reads {
		if slices.ContainsFunc(s.matchers, func(m []string) bool { return m[0] == label }) {
			continue
		}
		values := map[string]bool{}
		for _, set := range sets[s.metric] {
			if v, ok := set[label]; ok && s.matches(set) {
				values[v] = true
			}
		}
		got := slices.Sorted(maps.Keys(values))
		switch {
		case len(got) == 0 || notFromTheStart[baseOf(s.metric)] != "":
		case first == "":
			first, want = s.metric, got
		case !slices.Equal(got, want):
			t.Errorf("%s\n%s has %s %q, %s has %q", where, first, label, want, s.metric, got)
		}
	}
}

// baseOf returns the name of the histogram to which a series may belong.
func baseOf(metric string) string {
	for _, suffix := range []string{"_bucket", "_sum", "_count"} {
		if base, ok := strings.CutSuffix(metric, suffix); ok {
			return base
		}
	}
	return metric
}

func TestTheReadsOfAnExpressionAreFound(t *testing.T) {
	reads, labels := readsOf(`sum by (job, kind) (rate(mcphub_a_total{x=~"b|c",` +
		`job="$job"}[5m])) / on (mcp_method_name) go_d - a:mcphub_e:f{g="h"}`)
	if len(reads) != 2 || reads[0].metric != "mcphub_a_total" || reads[1].metric != "go_d" || len(reads[0].matchers) != 1 ||
		!slices.Equal(labels, []string{"job", "kind", "mcp_method_name"}) {
		t.Errorf("%v %v", reads, labels)
	}
	sets := labelSets(map[string]bool{`mcphub_a_total{x="b"}`: true, `h_count{y="1"}`: true})
	if got := reads[0].missing(sets["mcphub_a_total"]); got != "x=~c" {
		t.Errorf("missing is %q", got)
	}
	for _, x := range []struct {
		metric, operator, value string
		there                   bool
	}{{"h", "=", "1", true}, {"h", "!=", "1", false}, {"h", "!~", "2|3", true}, {"h_count", "=~", "[0-9]", true}, {"h_sum", "=", "1", false}} {
		s := usedSeries{x.metric, [][]string{{"y", x.operator, x.value}}}
		if got := s.missing(sets[x.metric]); (got == "") != x.there {
			t.Errorf("%v: missing is %q", x, got)
		}
	}
}
