package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// summary is the line of the suite for one scenario.
var summary = regexp.MustCompile(`(?m)^[✓✗] (\S+): (\d+) passed, (\d+) failed`)

// TestConformance runs the official suite through the hub. make conformance
// installs it and says where it is.
func TestConformance(t *testing.T) {
	node, suite := os.Getenv("MCPHUB_NODE"), os.Getenv("MCPHUB_CONFORMANCE")
	if node == "" || suite == "" {
		t.Skip("the conformance suite is not installed; run make conformance")
	}
	hub := startHub(t, bareConfig(everything(t)), t.TempDir())
	port := hub.listen[strings.LastIndex(hub.listen, ":"):]
	expected, err := filepath.Abs(filepath.Join("testdata", "conformance-expected-failures.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	// The scenario for DNS rebinding wants a URL with the name localhost.
	cmd := exec.CommandContext(t.Context(), node, suite, "server", "--url", "http://localhost"+port+"/mcp", "--suite", "active",
		"--expected-failures", expected, "-o", t.TempDir())
	cmd.Dir = t.TempDir()
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.CombinedOutput()
	scenarios := summary.FindAllStringSubmatch(string(out), -1)
	for _, s := range scenarios {
		t.Logf("%-36s %s passed, %s failed", s[1], s[2], s[3])
	}
	if err != nil {
		t.Errorf("the suite failed: %v\n%s", err, out)
	}
	if len(scenarios) != 30 {
		t.Errorf("%d scenarios ran, want 30\n%s", len(scenarios), out)
	}
}
