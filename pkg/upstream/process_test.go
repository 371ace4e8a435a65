package upstream

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
)

func TestEnvironmentOfAChildIsExactlyItsSpec(t *testing.T) {
	t.Setenv("HUB_SECRET", "hunter2")
	spec := childSpec(t, "script", "B=2=3", "A=1", "EMPTY=")
	spec.Dir = t.TempDir()
	f := facts(t, newEnv(t, spec).connect(t, nil))
	if !slices.Equal(f.Env, spec.Env) {
		t.Errorf("the environment is %q, want %q", f.Env, spec.Env)
	}
	if dir, _ := filepath.EvalSymlinks(spec.Dir); f.Dir != dir {
		t.Errorf("the directory is %q, want %q", f.Dir, dir)
	}
}

func TestChildHasItsOwnProcessGroup(t *testing.T) {
	t.Parallel()
	f := facts(t, newEnv(t, childSpec(t, "script")).connect(t, nil))
	if f.Pgid != f.Pid || f.Pgid == syscall.Getpgrp() {
		t.Errorf("pid %d is in group %d", f.Pid, f.Pgid)
	}
}

func TestNoGrandchildOutlivesItsParent(t *testing.T) {
	t.Parallel()
	t.Run("that crashes", func(t *testing.T) {
		t.Parallel()
		c := newEnv(t, childSpec(t, "script")).connect(t, nil)
		pid := fieldInt(t, tool(t, c, "grandchild", "").Result, "pid")
		if runs, _ := alive(pid); !runs {
			t.Fatal("there is no grandchild")
		}
		_, _ = c.Call(t.Context(), toolCall("crash", ""))
		hubtest.Eventually(t, "the grandchild is gone", func() bool { runs, _ := alive(pid); return !runs })
	})
	t.Run("that is closed", func(t *testing.T) {
		t.Parallel()
		c := newEnv(t, childSpec(t, "script")).connect(t, nil)
		pid := fieldInt(t, tool(t, c, "grandchild", "").Result, "pid")
		c.close(true)
		hubtest.Eventually(t, "the grandchild is gone", func() bool { runs, _ := alive(pid); return !runs })
	})
	t.Run("unless it left the group, and then it holds up nothing", func(t *testing.T) {
		t.Parallel()
		c := newEnv(t, childSpec(t, "script")).connect(t, nil)
		pid := fieldInt(t, tool(t, c, "grandchild", `{"key":"setsid"}`).Result, "pid")
		t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGKILL) })
		within(t, 5*time.Second, "a crash", func() { _, _ = c.Call(t.Context(), toolCall("crash", "")) })
		within(t, 5*time.Second, "closing", func() { c.close(true) })
	})
}

func TestCloseAsksTheChildToExitAndThenKillsIt(t *testing.T) {
	t.Parallel()
	for mode, limits := range map[string][2]time.Duration{
		"script":             {0, stdinGrace},                                                               // ends with its input
		"ignores stdin":      {stdinGrace, stdinGrace + termGrace},                                          // ends at SIGTERM
		"ignores everything": {stdinGrace + termGrace, stdinGrace + termGrace + drainTimeout + time.Second}, // is killed
	} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			c := newEnv(t, childSpec(t, mode)).connect(t, nil)
			pid := facts(t, c).Pid
			start := time.Now()
			c.close(true)
			if took := time.Since(start); took < limits[0] || took > limits[1] {
				t.Errorf("closing took %s, want %s to %s", took, limits[0], limits[1])
			}
			if _, exists := alive(pid); exists {
				t.Error("the child is still there")
			}
			c.close(true) // may be repeated
		})
	}
}

func TestChildThatExitsAtItsStartIsReportedWithItsStatus(t *testing.T) {
	t.Parallel()
	e := newEnv(t, childSpec(t, "exit"))
	_, err := e.openFor(t.Context(), &recorder{}, hub, ServerSession{})
	if err == nil || !strings.HasPrefix(err.Error(), `server "child" `) || !strings.HasSuffix(err.Error(),
		"its process ended: exit status 7; it printed: the configuration is wrong") {
		t.Errorf("error %v", err)
	}
	hubtest.Eventually(t, "its last line is logged", func() bool {
		return slices.Contains(e.log.attr("server stderr", "line"), "the configuration is wrong")
	})
}

// Every file that a connection opens is closed again.
func TestConnectionsLeaveNoFilesOpen(t *testing.T) {
	e := newEnv(t, childSpec(t, "script"))
	count := func() int {
		files, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Skip(err)
		}
		return len(files)
	}
	e.connect(t, nil).close(true)
	before := count()
	for range 3 {
		c := e.connect(t, nil)
		_, _ = c.Call(t.Context(), toolCall("crash", ""))
		c.close(true)
		_, _ = newEnv(t, Spec{Name: "absent", Command: "/nothing/here"}).openFor(t.Context(), &recorder{}, hub, ServerSession{})
	}
	hubtest.Eventually(t, "the files are closed", func() bool { return count() <= before })
}
