package real

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
)

// process is a process that may have ended since it was seen: an id can be given
// out again, an id with a start time cannot.
type process struct {
	pid, parent int
	start       string
}

// stat reads what /proc says about a process.
func stat(pid int) (process, error) {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return process{}, err
	}
	// The name, in parentheses, may have spaces; state and parent follow it, and the
	// start is the 22nd of all.
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 20 {
		return process{}, errors.New("unexpected /proc/PID/stat: " + string(text))
	}
	if fields[0] == "Z" {
		return process{}, os.ErrProcessDone
	}
	parent, err := strconv.Atoi(fields[1])
	return process{pid: pid, parent: parent, start: fields[19]}, err
}

// children returns the processes whose parent is pid.
func children(pid int) (found []process) {
	names, _ := filepath.Glob("/proc/[0-9]*")
	for _, name := range names {
		id, _ := strconv.Atoi(filepath.Base(name))
		if p, err := stat(id); err == nil && p.parent == pid {
			found = append(found, p)
		}
	}
	return found
}

// alive reports whether the process still runs.
func (p process) alive() bool {
	now, err := stat(p.pid)
	return err == nil && now.start == p.start
}

// family is a process's children, their children and so on, as they were when they
// were looked at.
type family []process

func newFamily(pid int) (f family) {
	for _, p := range children(pid) {
		f = append(append(f, p), newFamily(p.pid)...)
	}
	return f
}

// left returns those that still run.
func (f family) left() family {
	return slices.DeleteFunc(slices.Clone(f), func(p process) bool { return !p.alive() })
}

// kill ends those that still run with SIGKILL.
func (f family) kill() {
	for _, p := range f.left() {
		_ = syscall.Kill(p.pid, syscall.SIGKILL)
	}
}

// eventually waits until ok returns true, longer than the kit's: some of these programs take half a minute to start
// on a machine that is busy.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

func TestAFamilyIsFoundAndKilled(t *testing.T) {
	if _, err := stat(os.Getpid()); err != nil {
		t.Skip("there is no /proc:", err)
	}
	parent := hubtest.StartProcess(t, "/bin/sh", "-c", "sleep 60 & echo started; wait")
	hubtest.Eventually(t, "the shell has a child", func() bool { return len(newFamily(parent.PID())) == 1 })
	f := newFamily(parent.PID())
	parent.Kill()
	if len(f.left()) != 1 {
		t.Fatalf("%v: want the child, whose parent is gone", f.left())
	}
	f.kill()
	hubtest.Eventually(t, "the child has ended", func() bool { return len(f.left()) == 0 })
}
