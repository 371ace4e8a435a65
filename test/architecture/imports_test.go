// Package architecture checks which packages of this module import which, and
// that each says what it is for.
package architecture

import (
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/mcphub-go/mcphub/"

// arrows is the architecture: which package of ours each package may import.
// docs/architecture.md draws it.
var arrows = map[string][]string{
	"pkg/persist":                   {},
	"pkg/budget":                    {},
	"pkg/persist/persisttest":       {"pkg/persist"},
	"pkg/jsonrpc":                   {},
	"pkg/sse":                       {},
	"pkg/protocol":                  {"pkg/jsonrpc"},
	"pkg/instrument":                {"pkg/protocol", "pkg/jsonrpc"},
	"pkg/instrument/instrumenttest": {},
	"pkg/catalog":                   {},
	"pkg/children":                  {},
	"pkg/config":                    {},
	"pkg/telemetry":                 {},
	"pkg/session":                   {"pkg/persist"},
	"pkg/upstream/transport":        {"pkg/budget", "pkg/protocol", "pkg/jsonrpc", "pkg/sse"},
	"pkg/upstream":                  {"pkg/upstream/transport", "pkg/budget", "pkg/instrument", "pkg/protocol", "pkg/jsonrpc"},
	"pkg/gateway/stream":            {"pkg/budget", "pkg/protocol", "pkg/jsonrpc", "pkg/sse"},
	"pkg/gateway/routing":           {"pkg/catalog", "pkg/upstream", "pkg/instrument", "pkg/protocol", "pkg/jsonrpc"},
	"pkg/gateway/observe":           {"pkg/session", "pkg/catalog", "pkg/upstream", "pkg/instrument", "pkg/protocol", "pkg/jsonrpc"},
	"pkg/gateway": {"pkg/gateway/routing", "pkg/gateway/stream", "pkg/gateway/observe", "pkg/session", "pkg/catalog",
		"pkg/upstream", "pkg/budget", "pkg/instrument", "pkg/protocol", "pkg/jsonrpc"},
	"pkg/admin": {"pkg/session", "pkg/upstream", "pkg/instrument", "pkg/sse"},
	"deploy":    {},
	"cmd/mcphub": {"pkg/persist", "pkg/budget", "pkg/jsonrpc", "pkg/protocol", "pkg/instrument", "pkg/catalog", "pkg/config", "pkg/telemetry",
		"pkg/children", "pkg/session", "pkg/upstream", "pkg/gateway", "pkg/gateway/observe", "pkg/admin"},

	// For tests; see testArrows for the packages that consist of tests.
	"pkg/hubtest":       {"pkg/jsonrpc"},
	"test/architecture": {},
	"test/browser":      {},
	"test/canary":       {},
	"test/children":     {},
	"test/conformance":  {},
	"test/crash":        {},
	"test/golden":       {},
	"test/hostile":      {},
	"test/logs":         {},
	"test/matrix":       {},
	"test/metrics":      {},
	"test/nightly":      {},
	"test/peers":        {"pkg/hubtest"},
	"test/real":         {},
	"test/spans":        {},
	"test/transparency": {},
}

// testArrows are what the tests of a package may import besides: real parts
// instead of doubles.
var testArrows = map[string][]string{
	"pkg/persist":    {"pkg/persist/persisttest"},
	"pkg/instrument": {"pkg/instrument/instrumenttest"},
	"pkg/telemetry":  {"pkg/hubtest"},
	"pkg/session":    {"pkg/hubtest"},
	"pkg/upstream":   {"pkg/instrument/instrumenttest", "pkg/hubtest"},
	"pkg/gateway":    {"pkg/persist", "pkg/hubtest"},

	"pkg/gateway/observe": {"pkg/persist"},

	"pkg/admin": {"pkg/persist", "pkg/gateway", "pkg/hubtest"},

	"cmd/mcphub":        {"pkg/hubtest", "test/peers"},
	"test/browser":      {"pkg/hubtest"},
	"test/canary":       {"pkg/hubtest", "pkg/jsonrpc"},
	"test/children":     {"pkg/hubtest"},
	"test/conformance":  {"pkg/hubtest", "test/peers"},
	"test/crash":        {"pkg/hubtest", "test/peers"},
	"test/hostile":      {"pkg/hubtest"},
	"test/logs":         {"pkg/hubtest"},
	"test/real":         {"pkg/hubtest"},
	"test/matrix":       {"pkg/hubtest", "test/peers"},
	"test/metrics":      {"pkg/hubtest", "pkg/protocol", "test/golden", "test/peers"},
	"test/spans":        {"pkg/hubtest", "pkg/jsonrpc", "test/golden", "test/peers"},
	"test/transparency": {"pkg/hubtest", "pkg/jsonrpc", "pkg/protocol", "test/peers"},
}

// vague are names that say nothing about what a package holds.
var vague = []string{"util", "utils", "common", "helper", "helpers", "types", "models", "constants", "misc", "shared"}

// The files are read, not listed by the go command: a test that runs it would
// be cached as passing while the imports change.
func TestImportsPointDown(t *testing.T) {
	root := filepath.Join("..", "..")
	found := map[string]map[string]bool{} // the imports of packages without their tests
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "bin") {
			return fs.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(path, ".go") {
			return nil
		}
		rel, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			return err
		}
		pkg := filepath.ToSlash(rel)
		if found[pkg] == nil {
			found[pkg] = map[string]bool{}
		}
		checkImports(t, pkg, path, found[pkg])
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for pkg, allowed := range arrows {
		if found[pkg] == nil {
			t.Errorf("%s has no Go files; take it off the table", pkg)
			continue
		}
		for _, to := range allowed {
			if !found[pkg][to] {
				t.Errorf("%s does not import %s; take the arrow off the table", pkg, to)
			}
		}
	}
}

// checkImports checks the imports of one file, and adds those of our packages to found if it is not a test.
func checkImports(t *testing.T, pkg, path string, found map[string]bool) {
	t.Helper()
	allowed, ok := arrows[pkg]
	if !ok {
		t.Errorf("%s: package %s is not on the table of arrows; is there no better room for it? %v", path, pkg, slices.Sorted(maps.Keys(arrows)))
		return
	}
	if slices.Contains(vague, filepath.Base(pkg)) {
		t.Errorf("%s says nothing about what the package holds", pkg)
	}
	f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
	if err != nil {
		t.Error(err)
		return
	}
	test := strings.HasSuffix(path, "_test.go")
	for _, spec := range f.Imports {
		name, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			t.Error(err)
			continue
		}
		ours, isOurs := strings.CutPrefix(name, module)
		if isOurs && !test {
			found[ours] = true
		}
		switch {
		case isOurs && ours != pkg && !slices.Contains(allowed, ours) && !(test && slices.Contains(testArrows[pkg], ours)):
			t.Errorf("%s imports %s, which is no arrow of the architecture", path, ours)
		case !test && pkg != "cmd/mcphub" && pkg != "pkg/telemetry" && strings.HasPrefix(name, "go.opentelemetry.io/otel/sdk"):
			t.Errorf("%s imports %s: packages use the OpenTelemetry API, cmd hands in the SDK", path, name)
		}
	}
}

func TestEveryPackageSaysWhatItIsFor(t *testing.T) {
	for pkg := range arrows {
		if pkg == "deploy" {
			continue
		}
		files, err := filepath.Glob(filepath.Join("..", "..", pkg, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		documented := false
		for _, file := range files {
			src, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			f, err := parser.ParseFile(token.NewFileSet(), file, src, parser.ParseComments|parser.PackageClauseOnly)
			if err != nil {
				t.Fatal(err)
			}
			documented = documented || f.Doc != nil
		}
		if !documented {
			t.Errorf("%s has no package comment", pkg)
		}
	}
}
