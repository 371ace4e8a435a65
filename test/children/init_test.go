//go:build linux

package children

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
)

// hubAsInit starts a hub that is process 1 of a process namespace of its own, as in a container. It returns the address of
// /mcp, that of the admin listener, and the process.
func hubAsInit(t *testing.T, config string) (listen, admin string, cmd *exec.Cmd) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "mcphub.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	listen, admin = hubtest.FreeAddress(t), hubtest.FreeAddress(t)
	log := &hubtest.Buffer{}
	cmd = exec.Command(hubtest.HubProgram(t), "serve", "--config", file, "--listen", listen, "--admin-listen", admin,
		"--data-dir", t.TempDir(), "--log-format", "json")
	cmd.Stdout, cmd.Stderr = log, log
	cmd.WaitDelay = time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Skip("no process namespace: ", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // and with it everything in the namespace
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s", log)
		}
	})
	hubtest.Eventually(t, "the server is up", func() bool {
		_, body := hubtest.Get(t, "http://"+admin+"/api/v1/upstreams")
		return strings.Contains(body, `"state": "up"`)
	})
	return listen, admin, cmd
}

// zombies counts the children of a process that have ended and were not waited for.
func zombies(t *testing.T, parent int) (n int) {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range stats {
		text, err := os.ReadFile(name)
		if err == nil && strings.Contains(string(text), fmt.Sprintf(") Z %d ", parent)) {
			n++
		}
	}
	return n
}

func TestHubThatIsProcess1ReapsStrangersAndKeepsItsOwnChildren(t *testing.T) {
	listen, admin, hub := hubAsInit(t, config(t, "stays", "", filepath.Join(t.TempDir(), "pids"), ""))
	c := hubtest.Connect(t, "http://"+listen+"/mcp")
	const strangers = 20
	for range strangers {
		if a := c.Request("tools/call", `{"name":"s__leave"}`); a.Error != nil {
			t.Fatal(string(a.Error))
		}
	}
	reaped := func() string {
		_, body := hubtest.Get(t, "http://"+admin+"/metrics")
		_, rest, _ := strings.Cut(body, "\nmcphub_reaped_processes_total ")
		value, _, _ := strings.Cut(rest, "\n")
		return value
	}
	hubtest.Eventually(t, "the strangers are reaped", func() bool { return reaped() == fmt.Sprint(strangers) })
	if n := zombies(t, hub.Process.Pid); n != 0 {
		t.Errorf("%d zombies are left", n)
	}
	// The end of a child of its own is still that child's: its status is known.
	if a := c.Request("tools/call", `{"name":"s__crash"}`); !strings.Contains(string(a.Error), "exit status 3") {
		t.Errorf("the call of the server that crashes: %s %s", a.Result, a.Error)
	}
	if err := hub.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := hub.Wait(); err != nil {
		t.Errorf("the hub ended with %v", err)
	}
	if status, _ := hubtest.Get(t, "http://"+admin+"/metrics"); status == http.StatusOK {
		t.Error("it still runs")
	}
}
