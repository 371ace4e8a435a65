package hubtest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
)

// hubPackage is the main package of mcphub.
const hubPackage = "github.com/mcphub-go/mcphub/cmd/mcphub"

// HubProgram returns the path of the mcphub program.
func HubProgram(t testing.TB) string {
	t.Helper()
	return Program(t, hubPackage)
}

// Program builds the main package with that import path and returns the path of
// the executable. The package has to be in the module of the test or in one that
// it requires.
//
// The executable lies in the build cache of the go command, which keeps it for
// other test programs and removes it after some days without use.
func Program(t testing.TB, pkg string) string {
	t.Helper()
	path, err := builtOnce(pkg)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// builds holds a func() (string, error) for each package that this test program
// has built. The results do not depend on who asks first.
var builds sync.Map

func builtOnce(pkg string) (string, error) {
	once, _ := builds.LoadOrStore(pkg, sync.OnceValues(func() (string, error) {
		path, err := build(pkg)
		return path, errors.Join(err, openSources(pkg))
	}))
	return once.(func() (string, error))()
}

// build has go run pass the executable to echo instead of starting it. The first
// time, that is a temporary file, and the executable is put into the build cache
// afterwards; from the second time on it is the file in the cache.
func build(pkg string) (string, error) {
	for range 2 {
		out, err := goCommand("run", "-exec", "echo", pkg)
		if err != nil {
			return "", err
		}
		path := strings.TrimSpace(out)
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", errors.New("building " + pkg + ": the go command keeps no executable in its build cache; Go 1.24 or later does")
}

// openSources opens the directories of the packages of this module that pkg is
// made of, and the files that they embed. go test caches the results of tests and
// compares the files that a test has opened; without this, a change of the program
// would leave the cached results as they are.
func openSources(pkg string) error {
	const format = "{{if and .Module .Module.Main}}{{.Module.GoMod}}\n{{.Dir}}\n{{range .EmbedFiles}}{{$.Dir}}/{{.}}\n{{end}}{{end}}"
	out, err := goCommand("list", "-deps", "-f", format, pkg)
	if err != nil {
		return err
	}
	for name := range strings.FieldsFuncSeq(out, func(r rune) bool { return r == '\n' }) {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		_ = f.Close()
	}
	return nil
}

func goCommand(args ...string) (stdout string, err error) {
	var stderr bytes.Buffer
	cmd := exec.Command("go", args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, &stderr)
	}
	return string(out), nil
}
