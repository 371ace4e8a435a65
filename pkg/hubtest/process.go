package hubtest

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Process is a running program whose output the test can read.
type Process struct {
	Log *Buffer // its standard output and standard error

	t    testing.TB
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
}

// StartProcess starts the program at path. It is killed at the end of the test
// if it still runs then. Its log is shown if the test fails.
func StartProcess(t testing.TB, path string, args ...string) *Process {
	t.Helper()
	return startProcess(t, nil, path, args...)
}

// startProcess is StartProcess with a standard error of its own, if that is not nil.
func startProcess(t testing.TB, stderr *os.File, path string, args ...string) *Process {
	t.Helper()
	p := &Process{Log: &Buffer{}, t: t, cmd: exec.Command(path, args...), done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = p.Log, p.Log
	if stderr != nil {
		p.cmd.Stderr = stderr
	}
	// Copying the output must not wait for a grandchild that still holds the pipe.
	p.cmd.WaitDelay = time.Second
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Logf("log of %s:\n%s", filepath.Base(path), p.Log)
		}
	})
	return p
}

// PID returns the process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done returns a channel that is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Kill ends the process with SIGKILL, as kill -9 does, and waits for its end.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// Terminate sends SIGTERM and returns the exit status. It fails the test if the
// process still runs after the time limit.
func (p *Process) Terminate(limit time.Duration) int {
	p.t.Helper()
	p.Signal(syscall.SIGTERM)
	return p.AwaitEnd(limit)
}

// Signal sends a signal.
func (p *Process) Signal(s os.Signal) { _ = p.cmd.Process.Signal(s) }

// AwaitEnd returns the exit status. It fails the test if the process still runs
// after the time limit.
func (p *Process) AwaitEnd(limit time.Duration) int {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(limit):
		p.t.Fatalf("still running after %s\n%s", limit, p.Log)
	}
	return p.cmd.ProcessState.ExitCode()
}

// Wait waits for the end of a process that ends by itself and returns the exit
// status.
func (p *Process) Wait() int {
	<-p.done
	return p.cmd.ProcessState.ExitCode()
}

// Command runs a command line of mcphub to its end, for example "sessions",
// "list".
func Command(t testing.TB, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, HubProgram(t), args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	if ctx.Err() != nil {
		t.Fatalf("mcphub %s did not end within %s\n%s", strings.Join(args, " "), patience, &errs)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}
