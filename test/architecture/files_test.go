package architecture

import (
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// layered are the packages in which a file uses only files below it. pkg/gateway/stream is not among them: a Log and its
// Streams share one mutex and the limits of one session, and each calls the other.
var layered = []string{"pkg/children", "pkg/upstream", "pkg/upstream/transport",
	"pkg/gateway", "pkg/gateway/routing", "pkg/gateway/observe"}

func TestFilesUseOnlyFilesBelowThem(t *testing.T) {
	t.Parallel()
	for _, pkg := range layered {
		if cycle := cycleOf(usesOf(t, pkg)); cycle != nil {
			t.Errorf("%s: files use each other in a circle: %s; move what the lower one needs down, or hand it in",
				pkg, strings.Join(cycle, " -> "))
		}
	}
}

func TestACircleOfFilesIsFound(t *testing.T) {
	t.Parallel()
	uses := map[string]map[string]bool{"a": {"b": true, "c": true}, "b": {"d": true}, "c": {"d": true}, "d": {}}
	if cycle := cycleOf(uses); cycle != nil {
		t.Errorf("found %v where there is none", cycle)
	}
	uses["d"]["b"] = true
	if cycle := cycleOf(uses); len(cycle) != 3 {
		t.Errorf("found %v", cycle)
	}
}

// usesOf returns which files of a package use which others of it: their types, functions, methods, fields, variables and
// constants.
func usesOf(t *testing.T, pkg string) map[string]map[string]bool {
	t.Helper()
	fset := token.NewFileSet()
	names, err := filepath.Glob(filepath.Join("..", "..", pkg, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	var files []*ast.File
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(fset, name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	info := &types.Info{Uses: map[*ast.Ident]types.Object{}}
	// Other packages are empty here, which makes errors but leaves the names of this package resolved.
	cfg := types.Config{Importer: emptyPackages{}, Error: func(error) {}}
	checked, _ := cfg.Check(pkg, fset, files, info)
	uses := map[string]map[string]bool{}
	for ident, object := range info.Uses {
		from, to := fset.Position(ident.Pos()).Filename, fset.Position(object.Pos()).Filename
		if object.Pkg() != checked || from == to {
			continue
		}
		from, to = filepath.Base(from), filepath.Base(to)
		if uses[from] == nil {
			uses[from] = map[string]bool{}
		}
		uses[from][to] = true
	}
	if len(uses) == 0 {
		t.Fatalf("%s: no file uses another; the check is broken", pkg)
	}
	return uses
}

// emptyPackages imports every package as an empty one.
type emptyPackages struct{}

func (emptyPackages) Import(name string) (*types.Package, error) {
	p := types.NewPackage(name, path.Base(name))
	p.MarkComplete()
	return p, nil
}

// cycleOf returns a circle of uses, with its first file repeated at the end, or nil.
func cycleOf(uses map[string]map[string]bool) []string {
	const visiting, done = 1, 2
	state := map[string]int{}
	var trail []string
	var visit func(file string) []string
	visit = func(file string) []string {
		switch state[file] {
		case done:
			return nil
		case visiting:
			return append(slices.Clone(trail[slices.Index(trail, file):]), file)
		}
		state[file] = visiting
		trail = append(trail, file)
		for _, next := range slices.Sorted(maps.Keys(uses[file])) {
			if cycle := visit(next); cycle != nil {
				return cycle
			}
		}
		trail = trail[:len(trail)-1]
		state[file] = done
		return nil
	}
	for _, file := range slices.Sorted(maps.Keys(uses)) {
		if cycle := visit(file); cycle != nil {
			return cycle
		}
	}
	return nil
}
