package transport

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

// process is a child process in a process group of its own. The caller owns its three pipes.
type process struct {
	cmd    *exec.Cmd
	stdin  *os.File
	stdout *os.File
	stderr *os.File
	exited chan struct{} // closed when the child has been waited for
	status error         // the result of Wait; set before exited is closed
	ended  func()        // called before exited is closed
}

// startProcess starts the command of cfg. A goroutine waits for the child, so that it never stays a zombie, and then
// kills the rest of its process group.
func startProcess(cfg Config) (*process, error) {
	cmd := exec.Command(cfg.Command, cfg.Args...) //nolint:noctx // the operator's configuration; ended by stop
	cmd.Env = cfg.Env
	if cmd.Env == nil {
		cmd.Env = []string{} // nil would mean the environment of the hub
	}
	cmd.Dir = cfg.Dir
	cmd.SysProcAttr = ownGroup()
	p := &process{cmd: cmd, exited: make(chan struct{})}
	var childEnds [3]*os.File
	var err error
	if childEnds[0], p.stdin, err = os.Pipe(); err == nil {
		if p.stdout, childEnds[1], err = os.Pipe(); err == nil {
			p.stderr, childEnds[2], err = os.Pipe()
		}
	}
	if err == nil {
		cmd.Stdin, cmd.Stdout, cmd.Stderr = childEnds[0], childEnds[1], childEnds[2]
		err = p.start(cfg.Starting)
	}
	closeAll(childEnds[:]...)
	if err != nil {
		p.closePipes()
		return nil, newStartError(cfg, err)
	}
	go p.wait() // returns when the child has exited; stop waits for it
	return p, nil
}

// start starts the process and says so to starting, which may be nil.
func (p *process) start(starting func() func(pid int) func()) error {
	if p.ended = func() {}; starting == nil {
		return p.cmd.Start()
	}
	started := starting()
	if err := p.cmd.Start(); err != nil {
		started(0)
		return err
	}
	p.ended = started(p.cmd.Process.Pid)
	return nil
}

func (p *process) wait() {
	p.status = p.cmd.Wait()
	p.signal(syscall.SIGKILL) // grandchildren
	p.ended()
	close(p.exited)
}

// stop ends the child: first by closing its standard input, then by SIGTERM, then by SIGKILL, both to its whole
// process group. It returns when the child has exited, or some time after SIGKILL.
func (p *process) stop(g *Graces) {
	_ = p.stdin.Close()
	if g.await(p.exited, stdinGrace) {
		return
	}
	p.signal(syscall.SIGTERM)
	if g.await(p.exited, termGrace) {
		return
	}
	p.signal(syscall.SIGKILL)
	g.await(p.exited, killGrace)
}

// signal sends sig to the child's process group. An empty group is not an error.
func (p *process) signal(sig syscall.Signal) { _ = syscall.Kill(-p.cmd.Process.Pid, sig) }

func (p *process) closePipes() { closeAll(p.stdin, p.stdout, p.stderr) }

func closeAll(files ...*os.File) {
	for _, f := range files {
		if f != nil {
			_ = f.Close()
		}
	}
}

// exitError describes how the child exited.
func (p *process) exitError() error {
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
