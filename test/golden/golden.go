// Package golden compares what a test makes with a file in the repository, or
// writes the file if the test runs with -update.
package golden

import (
	"flag"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the files that tests compare instead of comparing them")

// Compare fails the test unless the file has the text.
func Compare(t testing.TB, file, text string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v; the test writes it if it runs with -update", err)
	}
	if string(got) == text {
		return
	}
	is := strings.Split(string(got), "\n")
	for i, line := range strings.Split(text, "\n") {
		if i >= len(is) || is[i] != line {
			t.Fatalf("%s is out of date, run the test with -update; line %d should be\n%s", file, i+1, line)
		}
	}
	t.Fatalf("%s is out of date, run the test with -update: it goes on after its end", file)
}
