package conformance

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
)

// clientRun is one run of a client suite: the suite is the server and checks the
// client, which is a hub with go-sdk's client in front of it. See driver.
type clientRun struct {
	suite     string   // the variable that names its file
	list      []string // arguments of its list command
	args      []string // arguments of its client command
	scenarios int      // their number without those of authorization
}

// through runs the scenarios through the hub and with the client alone. A check
// that passes with the client alone must take place through the hub: many checks
// pass for a client that never connects.
func (r clientRun) through(t *testing.T) {
	t.Helper()
	suite := installedSuite(t, r.suite)
	client := hubtest.Program(t, "github.com/modelcontextprotocol/go-sdk/conformance/everything-client")
	names := suite.clientScenarios(t, r.list)
	alone := suite.clients(t, names, r.args, func(*testing.T, string) (string, []string) { return client, nil })
	through := suite.clients(t, names, r.args, driven(t, client))
	for name, s := range through {
		if missing := alone[name].missing(s); len(missing) > 0 {
			s.checks = append(s.checks, check{
				ID: "missing", Name: "Missing", Status: "FAILURE",
				Description: "Checks that the client alone passes did not take place", ErrorMessage: strings.Join(missing, ", "),
			})
			through[name] = s
		}
	}
	through.logBeside(t, alone)
	through.judge(t, nil)
	if len(through) != r.scenarios {
		t.Errorf("%d scenarios ran, want %d", len(through), r.scenarios)
	}
}

// driven returns the command for a scenario that puts a hub in front of the suite's
// server: this test program as driver, with a hub of its own.
func driven(t *testing.T, client string) func(*testing.T, string) (string, []string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	hub := hubtest.HubProgram(t)
	return func(t *testing.T, dir string) (string, []string) {
		t.Helper()
		words := []string{self, hub, client, hubtest.FreeAddress(t), hubtest.FreeAddress(t), dir}
		return strings.Join(words, " "), []string{driverVariable + "=1"}
	}
}

// missing lists the checks that pass in s and do not take place in there.
func (s scenario) missing(there scenario) (names []string) {
	for _, c := range s.checks {
		took := func(other check) bool {
			return other.ID == c.ID && other.Name == c.Name && (other.Status == "SUCCESS" || other.troubled())
		}
		if c.Status == "SUCCESS" && !slices.ContainsFunc(there.checks, took) {
			names = append(names, c.ID+" "+c.Name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// clientScenarios lists the scenarios of a client suite, extensions included, but
// not those of authorization: they need a client that obtains a token, and the hub
// sends the one of its configuration.
func (s suite) clientScenarios(t *testing.T, args []string) (names []string) {
	t.Helper()
	out, err := s.run(t.Context(), t.TempDir(), nil, append([]string{"list"}, args...)...)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	clients := false
	for line := range strings.Lines(out) {
		name, ok := strings.CutPrefix(strings.TrimSpace(line), "- ")
		switch {
		case strings.HasPrefix(line, "Client scenarios"):
			clients = true
		case strings.HasPrefix(line, "Server scenarios"), strings.HasPrefix(line, "Run and reported"):
			clients = false
		case ok && !strings.HasPrefix(name, "auth/") && (clients || strings.HasSuffix(name, " [client]")):
			name, _, _ = strings.Cut(name, " ")
			names = append(names, name)
		}
	}
	return names
}

// clients runs each of the scenarios with a command of its own, two at a time:
// some of them measure time. The command is given a directory.
func (s suite) clients(t *testing.T, names, args []string, command func(t *testing.T, dir string) (string, []string)) outcome {
	t.Helper()
	var group errgroup.Group
	group.SetLimit(2)
	results := make([]scenario, len(names))
	for i, name := range names {
		dir := t.TempDir()
		program, env := command(t, dir)
		group.Go(func() (err error) {
			args := append([]string{"client", "--command", program, "--scenario", name, "-o", filepath.Join(dir, "out")}, args...)
			results[i], err = s.client(t, dir, name, env, args)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	o := outcome{}
	for i, name := range names {
		o[name] = results[i]
	}
	return o
}

// client runs one scenario. It adds a check that fails if the client ended with an
// error, because the suite has no such check.
func (s suite) client(t *testing.T, dir, name string, env, args []string) (scenario, error) {
	out, verdict := s.run(t.Context(), dir, env, args...)
	o, err := readOutcome(filepath.Join(dir, "out"))
	if err != nil {
		return scenario{}, err
	}
	result, ok := o[name]
	if !ok {
		return scenario{}, errors.New(name + " did not run:\n" + out)
	}
	if verdict != nil && !result.troubled() {
		result.checks = append(result.checks, check{
			ID: "client", Name: "Client", Status: "FAILURE",
			Description: "The client did not end well", ErrorMessage: result.log,
		})
	}
	log, err := os.ReadFile(filepath.Join(dir, "hub.log"))
	if errors.Is(err, fs.ErrNotExist) {
		return result, nil // the client alone
	}
	result.log += "\nhub.log:\n" + string(log)
	if strings.Contains(string(log), `"msg":"server is down"`) {
		result.checks = append(result.checks, check{
			ID: "down", Name: "Down", Status: "FAILURE", Description: "The hub could not connect or lost the connection",
		})
	}
	return result, err
}

func TestConformanceLegacyUpstreamReleased(t *testing.T) {
	clientRun{suite: releasedSuite, list: []string{"--client"}, scenarios: 4}.through(t)
}

func TestConformanceLegacyUpstreamRequirements(t *testing.T) {
	clientRun{
		suite: nextSuite, list: []string{"--requirements", "2025-11-25"},
		args: []string{"--spec-version", "2025-11-25", "--force"}, scenarios: 5,
	}.through(t)
}

func TestConformanceModernUpstreamRequirements(t *testing.T) {
	clientRun{
		suite: nextSuite, list: []string{"--requirements", "2026-07-28"},
		args: []string{"--spec-version", "2026-07-28", "--force"}, scenarios: 8,
	}.through(t)
}
