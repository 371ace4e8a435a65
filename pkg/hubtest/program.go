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
	once, _ := builds.LoadOrStore(pkg, sync.OnceValues(func() (string, error) { return build(pkg) }))
	return once.(func() (string, error))()
}

// build has go run pass the executable to echo instead of starting it. The first
// time, that is a temporary file, and the executable is put into the build cache
// afterwards; from the second time on it is the file in the cache.
func build(pkg string) (string, error) {
	for range 2 {
		var stderr bytes.Buffer
		cmd := exec.Command("go", "run", "-exec", "echo", pkg)
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			return "", fmt.Errorf("building %s: %w\n%s", pkg, err, &stderr)
		}
		path := strings.TrimSpace(string(out))
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", errors.New("building " + pkg + ": the go command keeps no executable in its build cache; Go 1.24 or later does")
}
