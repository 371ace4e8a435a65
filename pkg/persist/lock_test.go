package persist_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/persist"
)

// childEnv makes the test binary run child with the directory in its value.
const childEnv = "PERSIST_TEST_CHILD"

// child writes records and prints a line after each, until it is killed.
func child(dir string) {
	d, err := persist.OpenDir(dir, persist.DirConfig{})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	for i := 0; ; i++ {
		if err := d.Apply(context.Background(), childBatch(i)); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(i)
	}
}

// childBatch creates a record, rewrites a common one and deletes an old one.
func childBatch(i int) []persist.Change {
	return []persist.Change{
		put("k-"+strconv.Itoa(i), childValue(i)), put("common", childValue(i)), del("k-" + strconv.Itoa(i-10)),
	}
}

func childValue(i int) string { return strings.Repeat(strconv.Itoa(i)+";", 300) }

func TestSecondDirInTheSameProcessIsRefused(t *testing.T) {
	path := t.TempDir()
	first := openDir(t, path)
	_, err := persist.OpenDir(path, persist.DirConfig{})
	expectRefusal(t, err, path, os.Getpid())
	apply(t, first, put("a", "1"))
	closeDir(t, first)
	openDir(t, path)
}

func TestSecondProcessIsRefused(t *testing.T) {
	path := t.TempDir()
	d := openDir(t, path)
	out, err := childCommand(t, path).Output()
	if err == nil {
		t.Fatal("the second process got the directory")
	}
	for _, part := range []string{"in use", "process " + strconv.Itoa(os.Getpid()), path, "stop it"} {
		if !strings.Contains(string(out), part) {
			t.Errorf("the error %q does not contain %q", out, part)
		}
	}
	apply(t, d, put("a", "1"))
}

func TestKilledProcessLosesNothingAcknowledgedAndFreesItsLock(t *testing.T) {
	path := t.TempDir()
	cmd := childCommand(t, path)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	last := -1
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		if last, err = strconv.Atoi(lines.Text()); err != nil {
			t.Fatal(lines.Text())
		}
		if last == 50 {
			_, err := persist.OpenDir(path, persist.DirConfig{})
			expectRefusal(t, err, path, cmd.Process.Pid)
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err == nil || last < 50 {
		t.Fatalf("the process ended by itself after %d batches: %v", last, err)
	}

	got := contents(t, openDir(t, path))
	// The batch after the last acknowledged one may be stored in part.
	if c := got["common"]; c != childValue(last) && c != childValue(last+1) {
		t.Errorf("common holds %.40q; want that of batch %d or the next", c, last)
	}
	delete(got, "common")
	for i := range last + 2 {
		key := "k-" + strconv.Itoa(i)
		value, ok := got[key]
		delete(got, key)
		switch {
		case ok && value != childValue(i):
			t.Errorf("%s is torn", key)
		case i <= last-10 && ok:
			t.Errorf("%s was deleted and has returned", key)
		case i > last-9 && i <= last && !ok:
			t.Errorf("%s was acknowledged and is missing", key)
		}
	}
	if len(got) > 0 {
		t.Errorf("there are unexpected keys: %d", len(got))
	}
	for _, name := range namesIn(t, path) {
		if strings.HasSuffix(name, ".tmp") {
			t.Errorf("%s is left over", name)
		}
	}
}

func childCommand(t *testing.T, dir string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+dir)
	cmd.Stderr = io.Discard
	return cmd
}

func expectRefusal(t *testing.T, err error, path string, pid int) {
	t.Helper()
	if !errors.Is(err, persist.ErrLocked) {
		t.Fatalf("a second OpenDir = %v; want ErrLocked", err)
	}
	for _, part := range []string{strconv.Itoa(pid), path, "stop it"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the error %q does not contain %q", err, part)
		}
	}
}
