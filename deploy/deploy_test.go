// Package deploy_test holds what is shipped beside the hub to what the hub
// offers: rules, dashboards and runbooks may speak only of metrics and endpoints
// that exist, and of one another.
package deploy_test

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

type rule struct {
	Record, Alert, Expr string
	Labels, Annotations map[string]string
}

func readRules(t *testing.T) []rule {
	t.Helper()
	var file struct{ Groups []struct{ Rules []rule } }
	if err := yaml.Unmarshal(read(t, "prometheus/mcphub.rules.yml"), &file); err != nil {
		t.Fatal(err)
	}
	var rules []rule
	for _, g := range file.Groups {
		rules = append(rules, g.Rules...)
	}
	if len(rules) == 0 {
		t.Fatal("the rule file has no rules")
	}
	return rules
}

func readAlerts(t *testing.T) map[string]rule {
	t.Helper()
	alerts := map[string]rule{}
	for _, r := range readRules(t) {
		if r.Alert != "" {
			alerts[r.Alert] = r
		}
	}
	return alerts
}

func readRunbooks(t *testing.T) map[string]string {
	t.Helper()
	runbooks := map[string]string{}
	for _, file := range glob(t, "../docs/runbooks/*.md") {
		runbooks[strings.TrimSuffix(filepath.Base(file), ".md")] = string(read(t, file))
	}
	return runbooks
}

func TestEveryAlertHasARunbookAndEveryRunbookAnAlert(t *testing.T) {
	alerts := slices.Sorted(maps.Keys(readAlerts(t)))
	runbooks := slices.Sorted(maps.Keys(readRunbooks(t)))
	if !slices.Equal(alerts, runbooks) {
		t.Errorf("alerts:   %q\nrunbooks: %q", alerts, runbooks)
	}
}

func TestEveryAlertSaysWhatIsWrongHowBadAndWhatToDo(t *testing.T) {
	for name, r := range readAlerts(t) {
		if s := r.Labels["severity"]; !slices.Contains([]string{"critical", "warning", "info"}, s) {
			t.Errorf("%s: severity is %q", name, s)
		}
		for _, a := range []string{"summary", "description"} {
			if !strings.Contains(r.Annotations[a], "$value") {
				t.Errorf("%s: the %s gives no number: %q", name, a, r.Annotations[a])
			}
		}
		if got, want := r.Annotations["runbook_url"], "docs/runbooks/"+name+".md"; got != want {
			t.Errorf("%s: runbook_url is %q, want %q", name, got, want)
		}
	}
}

func TestEveryAlertIsSeenToFireAndToKeepSilent(t *testing.T) {
	var file struct {
		Tests []struct {
			Alerts []struct {
				Name string `yaml:"alertname"`
				Exp  []any  `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
		}
	}
	if err := yaml.Unmarshal(read(t, "prometheus/mcphub.rules_test.yml"), &file); err != nil {
		t.Fatal(err)
	}
	fires, silent := map[string]bool{}, map[string]bool{}
	for _, test := range file.Tests {
		for _, a := range test.Alerts {
			if len(a.Exp) > 0 {
				fires[a.Name] = true
			} else {
				silent[a.Name] = true
			}
		}
	}
	for name := range readAlerts(t) {
		if !fires[name] || !silent[name] {
			t.Errorf("%s: tested to fire: %v, tested to keep silent: %v", name, fires[name], silent[name])
		}
	}
}

func TestRunbooksHaveTheSameHeadingsInTheSameOrder(t *testing.T) {
	want := []string{"Meaning", "Impact", "First 5 minutes", "Diagnosis", "Mitigation", "Verify", "Prevent"}
	heading := regexp.MustCompile(`(?m)^## (.+)$`)
	for name, text := range readRunbooks(t) {
		if !strings.HasPrefix(text, "# "+name+"\n") {
			t.Errorf("%s: the title is not the alert's name", name)
		}
		var got []string
		for _, m := range heading.FindAllStringSubmatch(text, -1) {
			got = append(got, m[1])
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: headings are %q, want %q", name, got, want)
		}
	}
}

func TestRunbooksCallOnlyEndpointsThatTheHubHas(t *testing.T) {
	url := regexp.MustCompile(`https?://[^\s"'|;]+`)
	endpoint := regexp.MustCompile(
		`^http://127\.0\.0\.1:7789(/metrics|/healthz|/readyz|/api/v1/upstreams|/api/v1/sessions(/\$id)?|/debug/pprof/goroutine\?debug=1)$`,
	)
	for name, text := range readRunbooks(t) {
		for _, u := range url.FindAllString(text, -1) {
			if !endpoint.MatchString(u) {
				t.Errorf("%s: %s", name, u)
			}
		}
	}
}

func TestRulesUseOnlyMetricsThatExist(t *testing.T) {
	known := readMetrics(t)
	rules := readRules(t)
	// What annotations query: {{ with printf "sum(some_metric{job=%q})" … | query }}
	query := regexp.MustCompile(`printf "([^"]*)" [^|}]*\| query`)
	for _, r := range rules {
		known[r.Record] = true
		name := r.Record + r.Alert
		checkMetrics(t, known, name, r.Expr)
		for _, a := range r.Annotations {
			for _, m := range query.FindAllStringSubmatch(a, -1) {
				checkMetrics(t, known, name, m[1])
			}
		}
	}
}

func TestRunbooksUseOnlyMetricsThatExist(t *testing.T) {
	known := readMetrics(t)
	for _, r := range readRules(t) {
		known[r.Record] = true
	}
	promql := regexp.MustCompile("(?ms)^ *```promql\n(.*?)^ *```$")
	// In prose and in patterns for grep, the beginning of a name will do.
	mention := regexp.MustCompile(`\b(?:[a-z_]+:)?mcp(?:hub|_server|_client)_[a-z_:]+`)
	for name, text := range readRunbooks(t) {
		queries := promql.FindAllStringSubmatch(text, -1)
		if len(queries) == 0 {
			t.Errorf("%s: no PromQL", name)
		}
		for _, q := range queries {
			checkMetrics(t, known, name, q[1])
		}
		for _, m := range mention.FindAllString(text, -1) {
			begins := func(metric string) bool { return strings.HasPrefix(metric, m) }
			if !exists(known, m) && !slices.ContainsFunc(slices.Collect(maps.Keys(known)), begins) {
				t.Errorf("%s: no metric is called, or begins with, %s", name, m)
			}
		}
	}
}

type panel struct {
	ID                       int
	Type, Title, Description string
	Datasource               struct{ UID string }
	FieldConfig              struct{ Defaults struct{ Unit string } }
	Targets                  []struct{ Expr string }
	Panels                   []panel // of a collapsed row
}

func TestDashboardsAreCompleteAndUseOnlyMetricsThatExist(t *testing.T) {
	known := readMetrics(t) // no recorded ones: dashboards work without the rules
	runbooks := readRunbooks(t)
	window := regexp.MustCompile(`\[[^\]]*\]`)
	runbook := regexp.MustCompile(`docs/runbooks/(\w+)\.md`)
	uids := map[string]string{}
	for _, file := range glob(t, "../grafana/dashboards/*.json") {
		var board struct {
			ID            *int
			UID           string
			SchemaVersion int
			Panels        []panel
			Templating    struct {
				List []struct{ Name, Query string }
			}
		}
		if err := json.Unmarshal(read(t, file), &board); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if board.ID != nil {
			t.Errorf("%s: has an id, which belongs to one Grafana only", file)
		}
		if board.UID == "" || uids[board.UID] != "" {
			t.Errorf("%s: uid %q is empty or taken by %q", file, board.UID, uids[board.UID])
		}
		uids[board.UID] = file
		if board.SchemaVersion == 0 {
			t.Errorf("%s: no schemaVersion", file)
		}
		for _, v := range board.Templating.List {
			if args, ok := strings.CutPrefix(v.Query, "label_values("); ok {
				metric, _, _ := strings.Cut(args, ", ")
				checkMetrics(t, known, file+": $"+v.Name, metric)
			}
		}

		panels := slices.Clone(board.Panels)
		for _, p := range board.Panels {
			panels = append(panels, p.Panels...)
		}
		ids := map[int]bool{}
		for _, p := range panels {
			where := file + ": " + p.Title
			if ids[p.ID] {
				t.Errorf("%s: the id %d is taken", where, p.ID)
			}
			ids[p.ID] = true
			if p.Type == "row" {
				continue
			}
			if p.Title == "" || p.Description == "" {
				t.Errorf("%s: has no title or no description", where)
			}
			for _, m := range runbook.FindAllStringSubmatch(p.Description, -1) {
				if _, ok := runbooks[m[1]]; !ok {
					t.Errorf("%s: there is no %s", where, m[0])
				}
			}
			if p.Type == "text" {
				continue
			}
			if p.FieldConfig.Defaults.Unit == "" {
				t.Errorf("%s: has no unit", where)
			}
			if p.Datasource.UID != "${datasource}" {
				t.Errorf("%s: reads from %q, not from $datasource", where, p.Datasource.UID)
			}
			if len(p.Targets) == 0 {
				t.Errorf("%s: shows nothing", where)
			}
			for _, target := range p.Targets {
				for _, s := range checkMetrics(t, known, where, target.Expr) {
					if !strings.Contains(s.matchers, `job=~"$job"`) || !strings.Contains(s.matchers, `instance=~"$instance"`) {
						t.Errorf("%s: %s does not follow $job and $instance", where, s.metric)
					}
				}
				for _, w := range window.FindAllString(target.Expr, -1) {
					if w != "[$__rate_interval]" {
						t.Errorf("%s: the window %s does not follow the scrape interval", where, w)
					}
				}
			}
		}
	}
}

func TestMetricsListIsSortedAndHasNoDoubles(t *testing.T) {
	list := strings.Fields(string(read(t, "metrics.txt")))
	if want := slices.Compact(slices.Sorted(slices.Values(list))); !slices.Equal(list, want) {
		t.Errorf("got %q\nwant %q", list, want)
	}
}

func TestSelectorsFindsTheMetricsOfAnExpression(t *testing.T) {
	for expr, want := range map[string]string{
		`up`: `up`,
		`sum by (a, b) (x{c="y",d=~"}"}) > bool 3`:                 `x`,
		`sum(rate(x_total{c='z'}[5m] offset 1h)) without (y)`:      `x_total`,
		`a:b:c / on (job) group_left (v) d unless ignoring (w) e`:  `a:b:c d e`,
		`3 * 1e3 * x + time() - inf`:                               `x`,
		`histogram_quantile(0.9, sum(x_bucket) by (le)) or sum(x)`: `x_bucket x`,
		`last_over_time(min[$__rate_interval]) and {a="b"}`:        `min`,
	} {
		var got []string
		for _, s := range selectors(expr) {
			got = append(got, s.metric)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: got %q, want %q", expr, got, want)
		}
	}
}

// checkMetrics reports what expr uses and known lacks; it returns all that expr uses.
func checkMetrics(t *testing.T, known map[string]bool, where, expr string) []selector {
	t.Helper()
	found := selectors(expr)
	if len(found) == 0 || strings.Contains(expr, "__name__") {
		t.Errorf("%s: names no metric: %s", where, expr)
	}
	for _, s := range found {
		if !exists(known, s.metric) {
			t.Errorf("%s: no metric is called %s", where, s.metric)
		}
	}
	return found
}

func exists(known map[string]bool, metric string) bool {
	if known[metric] || metric == "up" || strings.HasPrefix(metric, "go_") || strings.HasPrefix(metric, "process_") {
		return true
	}
	// A histogram is listed once and read as three series.
	for _, suffix := range []string{"_bucket", "_sum", "_count"} {
		base, ok := strings.CutSuffix(metric, suffix)
		if ok && known[base] && (strings.HasSuffix(base, "_duration_seconds") || strings.HasSuffix(base, "_lag_seconds")) {
			return true
		}
	}
	return false
}

type selector struct{ metric, matchers string }

var (
	token = regexp.MustCompile("\"(?:\\\\.|[^\"\\\\])*\"|'(?:\\\\.|[^'\\\\])*'|`[^`]*`" + // strings
		`|[a-zA-Z_:][a-zA-Z0-9_:]*` + // names
		`|[0-9][0-9a-zA-Z.]*|\S`)
	name     = regexp.MustCompile(`^[a-zA-Z_:]`)
	operator = []string{"and", "or", "unless", "bool", "offset", "atan2", "inf", "nan"}
	grouping = []string{"by", "without", "on", "ignoring", "group_left", "group_right"}
)

// selectors returns the metrics that a PromQL expression reads. It knows just
// enough of the language to tell them from functions, labels and operators;
// that the expression is correct, promtool says.
func selectors(expr string) []selector {
	tokens := append(token.FindAllString(expr, -1), "")
	// upTo returns the tokens before the next end, and where they stop.
	upTo := func(i int, end string) (string, int) {
		j := i
		for tokens[j] != end && tokens[j] != "" {
			j++
		}
		return strings.Join(tokens[i:j], ""), j
	}
	var found []selector
	for i := 0; tokens[i] != ""; i++ {
		tok, next := tokens[i], tokens[i+1]
		switch {
		case tok == "{":
			_, i = upTo(i, "}")
		case tok == "[":
			_, i = upTo(i, "]")
		case slices.Contains(grouping, tok):
			if next == "(" {
				_, i = upTo(i, ")")
			}
		case !name.MatchString(tok), slices.Contains(operator, strings.ToLower(tok)):
		case next == "(", next == "by", next == "without": // a function, an aggregation
		case next == "{":
			var s string
			s, i = upTo(i+2, "}")
			found = append(found, selector{tok, s})
		default:
			found = append(found, selector{tok, ""})
		}
		if tokens[i] == "" {
			break // never closed
		}
	}
	return found
}

func readMetrics(t *testing.T) map[string]bool {
	t.Helper()
	known := map[string]bool{}
	for m := range strings.FieldsSeq(string(read(t, "metrics.txt"))) {
		known[m] = true
	}
	return known
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: no such files: %v", pattern, err)
	}
	return files
}
