package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// part is something to run, and how long it may take.
type part struct {
	name    string
	budget  time.Duration
	command []string
}

// parts is the table of what is run at night. A budget has room for what a first run
// installs, and for a machine that is half as fast.
func parts() []part {
	target := func(budget time.Duration, name string, variables ...string) part {
		return part{name: name, budget: budget, command: append([]string{"make", name}, variables...)}
	}
	return []part{
		target(20*time.Minute, "e2e"),
		target(20*time.Minute, "e2e-traces"),
		target(30*time.Minute, "e2e-real"),
		target(30*time.Minute, "soak"),
		target(30*time.Minute, "isolation"),
		target(45*time.Minute, "fuzz"),
		target(20*time.Minute, "bench"),
	}
}

// result is what became of a part.
type result struct {
	part    part
	verdict string
	took    time.Duration
}

const passed = "passed"

func (r result) good() bool { return r.verdict == passed }

func (p part) log(out string) string { return filepath.Join(out, p.name+".log") }

// errOverrun is why a part is ended at its budget.
var errOverrun = errors.New("overran")

// run runs the part until it ends, its budget is used up, or ctx ends, and then ends
// what it left behind.
func (p part) run(ctx context.Context, out string) result {
	start := time.Now()
	verdict := passed
	if err := p.execute(ctx, out); err != nil {
		verdict = err.Error()
	}
	return result{part: p, verdict: verdict, took: time.Since(start)}
}

func (p part) execute(ctx context.Context, out string) error {
	log, err := os.Create(p.log(out))
	if err != nil {
		return err
	}
	defer log.Close()
	ctx, cancel := context.WithTimeoutCause(ctx, p.budget, errOverrun)
	defer cancel()
	cmd := exec.CommandContext(ctx, p.command[0], p.command[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	err = cmd.Run()
	// Those that made a group of their own, as browsers and servers of a hub do.
	if left := endOrphans(); left > 0 {
		fmt.Fprintf(log, "nightly: ended %d processes that %s left behind\n", left, p.name)
	}
	switch {
	case ctx.Err() != nil && errors.Is(context.Cause(ctx), errOverrun):
		return errOverrun
	case ctx.Err() != nil:
		return errors.New("interrupted")
	case err != nil:
		return fmt.Errorf("failed (%w)", err)
	}
	return nil
}
