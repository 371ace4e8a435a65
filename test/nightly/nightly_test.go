package main

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// shell is a part that is a shell script.
func shell(name string, budget time.Duration, script string) part {
	return part{name: name, budget: budget, command: []string{"/bin/sh", "-c", script}}
}

// run runs parts and returns what was printed.
func run(ctx context.Context, t *testing.T, dir string, all []part, names ...string) (printed string, err error) {
	t.Helper()
	var b strings.Builder
	err = night(ctx, all, names, dir, &b)
	return b.String(), err
}

func TestTheNightFailsIfAPartFailsAndStillRunsTheOthers(t *testing.T) {
	all := []part{
		shell("good", time.Minute, "echo fine"),
		shell("bad", time.Minute, "echo broken; exit 3"),
		shell("last", time.Minute, "true"),
	}
	printed, err := run(t.Context(), t, t.TempDir(), all)
	if err == nil {
		t.Error("the night passed")
	}
	wanted := []string{
		`good +passed +0s +1m0s`, `bad +failed \(exit status 3\) +0s +1m0s`, `last +passed`, `(?m)^broken$`,
	}
	for _, want := range wanted {
		if !regexp.MustCompile(want).MatchString(printed) {
			t.Errorf("no %q in\n%s", want, printed)
		}
	}
	if strings.Contains(printed, "fine") {
		t.Errorf("the output of a part that passed is shown\n%s", printed)
	}
	if printed, err := run(t.Context(), t, t.TempDir(), all, "last", "good"); err != nil ||
		strings.Contains(printed, "bad") {
		t.Errorf("%v\n%s", err, printed)
	}
	if _, err := run(t.Context(), t, t.TempDir(), all, "worse"); err == nil ||
		!strings.Contains(err.Error(), "good, bad, last") {
		t.Error(err)
	}
}

func TestAPartIsEndedAtItsBudgetTogetherWithItsChildren(t *testing.T) {
	dir := t.TempDir()
	pids := filepath.Join(dir, "pids")
	script := "sleep 300 & echo $! >>" + pids + "\n"
	if runtime.GOOS == "linux" {
		// A child in a session of its own, whose parent has ended.
		script += "(setsid sh -c 'echo $$ >>" + pids + "; exec sleep 300' &)\n"
	}
	script += "sleep 300"
	all := []part{shell("slow", 3*time.Second, script), shell("next", time.Minute, "true")}
	printed, err := run(t.Context(), t, dir, all)
	if err == nil || !regexp.MustCompile(`slow +overran`).MatchString(printed) ||
		!regexp.MustCompile(`next +passed`).MatchString(printed) {
		t.Errorf("%v\n%s", err, printed)
	}
	text, err := os.ReadFile(pids)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.FieldsSeq(string(text)) {
		pid, err := strconv.Atoi(line)
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(pid, 0); err != syscall.ESRCH {
			t.Errorf("process %d still runs: %v", pid, err)
		}
	}
}

func TestWhatAPartLeavesBehindIsEnded(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs Linux")
	}
	dir := t.TempDir()
	careless := shell("careless", time.Minute, "setsid sleep 300 >/dev/null 2>&1 &")
	if printed, err := run(t.Context(), t, dir, []part{careless}); err != nil {
		t.Errorf("%v\n%s", err, printed)
	}
	log := lastLines(filepath.Join(dir, "careless.log"), 1)
	if log != "nightly: ended 1 processes that careless left behind" {
		t.Error(log)
	}
}

func TestAnInterruptEndsTheNight(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	dir := t.TempDir()
	started := filepath.Join(dir, "started")
	if err := syscall.Mkfifo(started, 0o600); err != nil {
		t.Fatal(err)
	}
	go func() {
		if f, err := os.Open(started); err == nil { // waits for the part
			f.Close()
		}
		cancel()
	}()
	all := []part{shell("slow", time.Minute, ": >"+started+"; sleep 300"), shell("next", time.Minute, "true")}
	printed, err := run(ctx, t, dir, all)
	if err == nil || !regexp.MustCompile(`slow +interrupted`).MatchString(printed) ||
		!regexp.MustCompile(`next +not run`).MatchString(printed) {
		t.Errorf("%v\n%s", err, printed)
	}
}

func TestPartsAreTargetsOfTheMakefile(t *testing.T) {
	makefile, err := os.ReadFile("../../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, p := range parts() {
		names = append(names, p.name)
		if !regexp.MustCompile(`(?m)^` + p.name + `:`).Match(makefile) {
			t.Errorf("the Makefile has no target %s", p.name)
		}
	}
	for _, m := range regexp.MustCompile(`(?m)^(e2e[a-z-]*|soak|isolation|fuzz):`).FindAllSubmatch(makefile, -1) {
		if !slices.Contains(names, string(m[1])) {
			t.Errorf("make %s is not run at night: add it to parts()", m[1])
		}
	}
}
