package transport

import (
	"os"
	"os/exec"
	"testing"
	"time"
)

func TestEmptyEnvironmentIsNotThatOfTheHub(t *testing.T) {
	t.Setenv("HUB_SECRET", "hunter2")
	p, err := startProcess(Config{Command: "/bin/cat", Args: []string{"/proc/self/environ"}})
	if err != nil {
		t.Skip(err)
	}
	select {
	case <-p.exited:
	case <-time.After(20 * time.Second):
		t.Fatal("the child does not end")
	}
	b := make([]byte, 4096)
	n, _ := p.stdout.Read(b)
	p.closePipes()
	if n != 0 {
		t.Errorf("the environment is %q", b[:n])
	}
}

// A process that hangs in the kernel survives even SIGKILL, for a while.
func TestChildThatSurvivesSIGKILLIsNotWaitedForForever(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("/bin/sh", "-c", "trap '' TERM; while read -r line; do :; done; sleep 60")
	cmd.SysProcAttr = ownGroup()
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: cmd, stdin: out, exited: make(chan struct{})} // nobody waits for it: it does not end
	start := time.Now()
	p.stop(nil)
	if took, limit := time.Since(start), stdinGrace+termGrace+killGrace+time.Second; took > limit {
		t.Errorf("stop took %s, want at most %s", took, limit)
	}
	if got := p.exitError().Error(); got != "its process does not end" {
		t.Errorf("exitError() = %s", got)
	}
	_ = cmd.Wait()
}
