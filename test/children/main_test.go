// Package children tests what becomes of the processes that a hub starts: those that do not end when they are asked to,
// those that they start themselves, and those of a hub that was killed.
package children

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
)

// TestMain is also the main function of the servers.
func TestMain(m *testing.M) {
	if mode := os.Getenv("CHILD_MODE"); mode != "" {
		serve(mode)
		return
	}
	os.Exit(m.Run())
}

// serve is a server over stdio. It writes its process id into the file CHILD_PIDS, and runs on when its input ends.
func serve(mode string) {
	if mode == "deaf" {
		signal.Ignore(syscall.SIGTERM)
	}
	if f, err := os.OpenFile(os.Getenv("CHILD_PIDS"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600); err == nil {
		_, _ = fmt.Fprintln(f, os.Getpid())
		_ = f.Close()
	}
	s := hubtest.Script{Tools: map[string]hubtest.Handler{
		"echo":  func(*hubtest.Call) hubtest.Reply { return hubtest.Text("here") },
		"crash": func(*hubtest.Call) hubtest.Reply { os.Exit(3); return hubtest.Reply{} },
		"leave": leave,
		"hang":  func(*hubtest.Call) hubtest.Reply { forever(); return hubtest.Reply{} },
	}}
	go func() { _ = s.ServeStdio(context.Background(), os.Stdin, os.Stdout) }()
	forever()
}

// leave leaves a process behind that ends soon: its parent has ended before.
func leave(*hubtest.Call) hubtest.Reply {
	if err := exec.Command("sh", "-c", "sleep 0.2 &").Run(); err != nil {
		return hubtest.Failure(-32603, err.Error())
	}
	return hubtest.Text("done")
}

// forever is longer than any test.
func forever() { <-time.After(5 * time.Minute) }

// config is a hub with one server, in one of the modes of serve. Launcher is a command of the shell in which %s is that of
// the server; "": the server is the child itself. Keys are more keys of the server.
func config(t *testing.T, mode, launcher, pids, keys string) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	command := "command: " + strconv.Quote(exe)
	if launcher != "" {
		command = "command: sh, args: [-c, " + strconv.Quote(fmt.Sprintf(launcher, exe)) + "]"
	}
	return fmt.Sprintf("mcpServers: {s: {%s, env: {CHILD_MODE: %s, CHILD_PIDS: %q}, era: legacy%s}}", command, mode, pids, keys)
}

// running returns those of the processes in the file that run.
func running(t *testing.T, pids string) (list []int) {
	t.Helper()
	text, err := os.ReadFile(pids)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.FieldsSeq(string(text)) {
		pid, err := strconv.Atoi(line)
		if err != nil {
			t.Fatal(err)
		}
		if runs(pid) {
			list = append(list, pid)
		}
	}
	return list
}

// runs reports whether a process exists and is no zombie.
func runs(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z")
}

// end kills what a failed test has left.
func end(t *testing.T, pids string) {
	t.Helper()
	t.Cleanup(func() {
		for _, pid := range running(t, pids) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	})
}
