// Package conformance runs the official MCP conformance suites through the hub,
// and without it for comparison: the server suites in front of go-sdk's server,
// the client suites behind go-sdk's client. make conformance installs the suites
// and sets the variables that name them; without these the tests are skipped.
//
// Legacy are the revisions with sessions, up to 2025-11-25; modern is 2026-07-28.
package conformance

import (
	"testing"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
	"github.com/mcphub-go/mcphub/test/peers"
)

// serverRun is one run of a server suite.
type serverRun struct {
	suite     string                  // the variable that names its file
	args      []string                // which scenarios
	fixture   func(testing.TB) string // starts the server behind the hub
	expected  string                  // name of the baseline; "": nothing may fail
	scenarios int                     // their number
}

// through runs the suite through the hub and without it, and returns both outcomes.
// It fails the test for checks that fail through the hub against expectation.
func (r serverRun) through(t *testing.T) (through, alone outcome) {
	t.Helper()
	suite := installedSuite(t, r.suite)
	var expected []string
	path := ""
	if r.expected != "" {
		expected, path = readBaseline(t, r.expected)
	}
	url := r.fixture(t)
	hub := hubtest.StartHub(t, hubtest.Options{Config: peers.BareConfig(url)})
	alone, _ = suite.server(t, url, "", r.args...)
	through, verdict := suite.server(t, hub.URL(), path, r.args...)
	through.logBeside(t, alone)
	through.judge(t, expected)
	if verdict != nil {
		t.Errorf("the suite's own verdict: %v", verdict)
	}
	if len(through) != r.scenarios {
		t.Errorf("%d scenarios ran, want %d", len(through), r.scenarios)
	}
	return through, alone
}

func TestConformanceLegacyReleased(t *testing.T) {
	serverRun{suite: releasedSuite, args: []string{"--suite", "active"}, fixture: peers.Everything, scenarios: 30}.through(t)
}

func TestConformanceLegacyRequirements(t *testing.T) {
	serverRun{suite: nextSuite, args: []string{"--requirements", "2025-11-25"}, fixture: peers.Everything, scenarios: 33}.through(t)
}

func TestConformanceModernRequirements(t *testing.T) {
	serverRun{
		suite: nextSuite, args: []string{"--requirements", "2026-07-28"}, fixture: peers.StatelessEverything,
		expected: "modern", scenarios: 50,
	}.through(t)
}

func TestConformanceLegacyClientsOfAModernServer(t *testing.T) {
	through, alone := serverRun{
		suite: nextSuite, args: []string{"--requirements", "2025-11-25"}, fixture: peers.StatelessEverything,
		expected: "legacy-to-modern", scenarios: 33,
	}.through(t)
	if through.passed() < alone.passed() {
		t.Errorf("%d checks pass through the hub, %d without it", through.passed(), alone.passed())
	}
}

func TestConformanceModernClientsOfALegacyServer(t *testing.T) {
	serverRun{
		suite: nextSuite, args: []string{"--requirements", "2026-07-28"}, fixture: peers.Everything,
		expected: "modern-to-legacy", scenarios: 50,
	}.through(t)
}
