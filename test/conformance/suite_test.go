package conformance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
)

// suite is one installed version of the official conformance suite.
type suite struct{ node, index string }

// The variables that name the files of the two versions that make conformance
// installs.
const (
	releasedSuite = "MCPHUB_CONFORMANCE"      // 0.1.16: revisions up to 2025-11-25
	nextSuite     = "MCPHUB_CONFORMANCE_NEXT" // 0.2.0-alpha.12: 2026-07-28 and the frozen sets of requirements
)

func installedSuite(t *testing.T, variable string) suite {
	t.Helper()
	s := suite{node: os.Getenv("MCPHUB_NODE"), index: os.Getenv(variable)}
	if s.node == "" || s.index == "" {
		t.Skip("the conformance suite is not installed; run make conformance")
	}
	return s
}

// run runs the suite and returns its output. The error is its verdict.
func (s suite) run(ctx context.Context, dir string, env []string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, s.node, append([]string{s.index}, args...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// check is one line of a scenario's checks.json.
type check struct {
	ID, Name, Description, Status, ErrorMessage string

	Details json.RawMessage
}

func (c check) troubled() bool { return c.Status == "FAILURE" || c.Status == "WARNING" }

// words returns the text of the check, at most 1500 bytes of each part.
func (c check) words() string {
	text := c.Name + ": " + c.Description
	for _, more := range []string{c.ErrorMessage, string(c.Details)} {
		if more != "" {
			text += "\n" + more[:min(len(more), 1500)]
		}
	}
	return strings.ReplaceAll(text, "\n", "\n      ")
}

// scenario is the outcome of one scenario.
type scenario struct {
	checks []check
	log    string // more to read if it fails
}

func (s scenario) count(status string) (n int) {
	for _, c := range s.checks {
		if c.Status == status {
			n++
		}
	}
	return n
}

func (s scenario) passed() int { return s.count("SUCCESS") }

// troubled reports if a check failed or warned. To the suite's own lists of
// expected failures both are the same.
func (s scenario) troubled() bool { return slices.ContainsFunc(s.checks, check.troubled) }

// outcome is the outcome of a run, by the name of the scenario.
type outcome map[string]scenario

func (o outcome) names() []string {
	names := make([]string, 0, len(o))
	for name := range o {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// passed counts the checks that passed, of all scenarios.
func (o outcome) passed() (n int) {
	for _, s := range o {
		n += s.passed()
	}
	return n
}

// resultDir is a scenario's directory below the one given by -o.
var resultDir = regexp.MustCompile(`^(?:server-)?(.+)-\d{4}-\d\d-\d\dT[\d-]+Z$`)

// readOutcome reads the results that the suite wrote below dir. A scenario without
// a file of checks has failed.
func readOutcome(dir string) (outcome, error) {
	o := outcome{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		relative, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		name := resultDir.FindStringSubmatch(filepath.ToSlash(relative))
		if name == nil {
			return nil
		}
		o[name[1]], err = readScenario(path)
		return err
	})
	return o, err
}

func readScenario(dir string) (scenario, error) {
	var s scenario
	data, err := os.ReadFile(filepath.Join(dir, "checks.json"))
	if errors.Is(err, fs.ErrNotExist) {
		s.checks = []check{{ID: "no-checks", Name: "NoChecks", Status: "FAILURE", Description: "The scenario ended early and wrote no checks"}}
		return s, nil
	}
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(data, &s.checks); err != nil {
		return s, err
	}
	client, err := os.ReadFile(filepath.Join(dir, "stderr.txt")) // of the clients' suites
	if err == nil {
		s.log = string(client)
	}
	return s, nil
}

// server runs the server suite against the URL. The file of expected failures
// may be "" for none. The verdict is the suite's own, which looks only at what
// a revision requires.
func (s suite) server(t *testing.T, url, expected string, args ...string) (o outcome, verdict error) {
	t.Helper()
	dir := t.TempDir()
	args = append([]string{"server", "--url", strings.Replace(url, "127.0.0.1", "localhost", 1), "-o", dir}, args...)
	if expected != "" {
		args = append(args, "--expected-failures", expected)
	}
	out, verdict := s.run(t.Context(), dir, nil, args...)
	o, err := readOutcome(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(o) == 0 {
		t.Fatalf("no scenario ran: %v\n%s", verdict, out)
	}
	return o, verdict
}

// readBaseline reads testdata/<name>.yaml: what may fail, each entry
// a scenario, or one check of it as scenario:check. It is the format of the
// suite's --expected-failures, so the path is returned too.
func readBaseline(t *testing.T, name string) (expected []string, path string) {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("testdata", name+".yaml"))
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Server []string }
	if err := yaml.UnmarshalWithOptions(data, &file, yaml.Strict()); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return file.Server, path
}

// judge fails the test for every check that failed unexpectedly and for every entry
// of the baseline that did not fail. It looks at all scenarios that ran, including
// those that the suite does not score.
func (o outcome) judge(t *testing.T, expected []string) {
	t.Helper()
	failed := map[string]bool{}
	for _, name := range o.names() {
		s := o[name]
		explained := true
		for _, c := range s.checks {
			if !c.troubled() {
				continue
			}
			failed[name], failed[name+":"+c.ID] = true, true
			if !slices.Contains(expected, name) && !slices.Contains(expected, name+":"+c.ID) {
				t.Errorf("%s:%s %s\n      %s", name, c.ID, c.Status, c.words())
				explained = false
			}
		}
		if !explained && s.log != "" {
			t.Logf("%s\n%s", name, s.log)
		}
	}
	for _, entry := range expected {
		if !failed[entry] {
			t.Errorf("%s is expected to fail and does not, or did not run: take it off the list", entry)
		}
	}
}

// logBeside logs a line for each scenario: what passed alone, without the hub,
// and what passed through it.
func (o outcome) logBeside(t *testing.T, alone outcome) {
	t.Helper()
	t.Logf("%-46s %12s %12s", "passed/failed", "without hub", "through hub")
	for _, name := range o.names() {
		t.Logf("%-46s %12s %12s", name, alone.score(name), o.score(name))
	}
	t.Logf("%-46s %12s %12s", "all", alone.score(""), o.score(""))
}

// score is the counts of one scenario, or of all for "".
func (o outcome) score(name string) string {
	s, ran := o[name]
	if name == "" {
		ran = len(o) > 0
		for _, each := range o {
			s.checks = append(s.checks, each.checks...)
		}
	}
	if !ran {
		return "-"
	}
	text := fmt.Sprintf("%d/%d", s.passed(), s.count("FAILURE"))
	if n := s.count("WARNING"); n > 0 {
		text += fmt.Sprintf(" %d warn", n)
	}
	return text
}
