package upstream

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// process is a child in a process group of its own. Its three pipes belong to
// the caller.
type process struct {
	cmd    *exec.Cmd
	stdin  *os.File
	stdout *os.File
	stderr *os.File
	exited chan struct{} // closed when the child has been waited for
	status error         // how it ended; set before exited is closed
}

// How long a child may take to end after each hint, see
// specification 2025-11-25, basic/lifecycle, shutdown.
const (
	stdinGrace = 2 * time.Second
	termGrace  = 2 * time.Second
	killGrace  = 2 * time.Second // only the kernel can hold up what SIGKILL ends
)

// startProcess starts the child of spec. A goroutine waits for its end, so that
// it never stays a zombie, and then kills what is left of its group.
func startProcess(spec Spec) (*process, error) {
	cmd := exec.Command(spec.Command, spec.Args...) //nolint:noctx // the operator's configuration; ended by stop
	cmd.Env = spec.Env
	if cmd.Env == nil {
		cmd.Env = []string{} // nil would mean: everything the hub has
	}
	cmd.Dir = spec.Dir
	cmd.SysProcAttr = ownGroup()
	p := &process{cmd: cmd, exited: make(chan struct{})}
	var theirs [3]*os.File
	var err error
	if theirs[0], p.stdin, err = os.Pipe(); err == nil {
		if p.stdout, theirs[1], err = os.Pipe(); err == nil {
			p.stderr, theirs[2], err = os.Pipe()
		}
	}
	if err == nil {
		cmd.Stdin, cmd.Stdout, cmd.Stderr = theirs[0], theirs[1], theirs[2]
		err = cmd.Start()
	}
	closeAll(theirs[:]...)
	if err != nil {
		p.closePipes()
		return nil, fmt.Errorf("could not be started: %w", err)
	}
	go p.wait() // ends with the child; stop waits for it
	return p, nil
}

func (p *process) wait() {
	p.status = p.cmd.Wait()
	p.signal(syscall.SIGKILL) // grandchildren
	close(p.exited)
}

// stop ends the child: first by closing its input, then by SIGTERM, then by
// SIGKILL to its whole group. It returns when the child is gone, or when even
// that did not help.
func (p *process) stop() {
	_ = p.stdin.Close()
	for _, step := range []struct {
		grace time.Duration
		then  syscall.Signal
	}{{stdinGrace, syscall.SIGTERM}, {termGrace, syscall.SIGKILL}} {
		timer := time.NewTimer(step.grace)
		select {
		case <-p.exited:
			timer.Stop()
			return
		case <-timer.C:
			p.signal(step.then)
		}
	}
	select {
	case <-p.exited:
	case <-time.After(killGrace):
	}
}

// signal sends to the child's process group. Nobody there is no error.
func (p *process) signal(sig syscall.Signal) { _ = syscall.Kill(-p.cmd.Process.Pid, sig) }

func (p *process) closePipes() { closeAll(p.stdin, p.stdout, p.stderr) }

func closeAll(files ...*os.File) {
	for _, f := range files {
		if f != nil {
			_ = f.Close()
		}
	}
}

// ending describes how the child ended.
func (p *process) ending() error {
	if !isClosed(p.exited) {
		return errors.New("its process does not end")
	}
	if exit, ok := errors.AsType[*exec.ExitError](p.status); ok {
		return fmt.Errorf("its process ended: %s", exit.ProcessState)
	}
	if p.status != nil {
		return p.status
	}
	return errors.New("its process ended: exit status 0")
}
