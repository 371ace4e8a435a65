package hostile

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
)

// The limits of the hub.
const (
	maxMemory      = 256 << 20 // bytes
	maxDescriptors = 256
)

// limitedHub is a hub under those limits, whose log nobody reads.
type limitedHub struct {
	t      *testing.T
	cmd    *exec.Cmd
	log    *os.File // the end that nobody reads
	listen string
	admin  string
	ended  chan struct{}
}

// startHub starts the hub in a memory cgroup of its own if the rights are there, and else with GOMEMLIMIT.
func startHub(t *testing.T) *limitedHub {
	t.Helper()
	h := &limitedHub{t: t, listen: hubtest.FreeAddress(t), admin: hubtest.FreeAddress(t), ended: make(chan struct{})}
	inside, outside := memoryGroup(t)
	file := filepath.Join(t.TempDir(), "mcphub.yaml")
	if err := os.WriteFile(file, []byte(configuration(t, outside)), 0o600); err != nil {
		t.Fatal(err)
	}
	script := fmt.Sprintf("ulimit -n %d; ", maxDescriptors)
	if inside != "" {
		script += "echo $$ > " + inside + "/cgroup.procs; "
	}
	h.cmd = exec.Command("sh", "-c", script+`exec "$0" "$@"`, hubtest.HubProgram(t), "serve", "--config", file, "--listen", h.listen,
		"--admin-listen", h.admin, "--data-dir", t.TempDir(), "--log-format", "json", "--log-level", "trace")
	if inside == "" {
		h.cmd.Env = append(os.Environ(), fmt.Sprint("GOMEMLIMIT=", maxMemory/10*8))
	}
	var theirs *os.File
	var err error
	if h.log, theirs, err = os.Pipe(); err != nil {
		t.Fatal(err)
	}
	h.cmd.Stderr = theirs
	if err := h.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = theirs.Close()
	go func() {
		_ = h.cmd.Wait()
		close(h.ended)
	}()
	t.Cleanup(func() {
		_ = h.cmd.Process.Kill()
		<-h.ended
		if t.Failed() {
			_ = h.log.SetReadDeadline(time.Now().Add(time.Second))
			text, _ := io.ReadAll(io.LimitReader(h.log, 16<<10))
			t.Logf("the beginning of its log:\n%s", text)
		}
		_ = h.log.Close()
	})
	hubtest.Eventually(t, "the servers are up", func() bool {
		return strings.Count(h.get("/api/v1/upstreams"), `"state": "up"`) == 3
	})
	return h
}

// configuration returns one server for all, and two of which each session has its own. They leave the memory cgroup of the
// hub: its limit is not for them.
func configuration(t *testing.T, outside string) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	script := "exec " + exe
	if outside != "" {
		script = "echo $$$$ > " + outside + "/cgroup.procs; " + script
	}
	text := "mcpServers:\n"
	for _, server := range []struct{ name, mode, isolation string }{
		{"shared", "plain", "shared"}, {"own", "plain", "session"}, {"deaf", "deaf", "session"},
	} {
		text += fmt.Sprintf("  %s: {command: sh, args: [-c, %q], env: {HOSTILE_SERVER: %s}, isolation: %s}\n",
			server.name, script, server.mode, server.isolation)
	}
	return text
}

// memoryGroup makes a memory cgroup with the limit, of version 1 or 2. It returns its directory and that of its parent, or
// nothing if there are no rights for it.
func memoryGroup(t *testing.T) (inside, outside string) {
	t.Helper()
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", ""
	}
	for line := range strings.Lines(string(own)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		root, limit := "/sys/fs/cgroup/memory", "memory.limit_in_bytes"
		if len(parts) != 3 || (parts[1] != "memory" && parts[1] != "") {
			continue
		}
		if parts[1] == "" {
			root, limit = "/sys/fs/cgroup", "memory.max"
		}
		parent := filepath.Join(root, parts[2])
		group := filepath.Join(parent, fmt.Sprintf("mcphub-hostile-%d", os.Getpid()))
		if os.Mkdir(group, 0o755) != nil {
			continue
		}
		t.Cleanup(func() {
			hubtest.Eventually(t, "the cgroup is removed", func() bool {
				err := os.Remove(group)
				return err == nil || errors.Is(err, os.ErrNotExist)
			})
		})
		if os.WriteFile(filepath.Join(group, limit), []byte(strconv.Itoa(maxMemory)), 0o600) == nil {
			return group, parent
		}
	}
	t.Log("no rights for a memory cgroup: the hub gets GOMEMLIMIT")
	return "", ""
}

// get returns the body of a page of the admin listener, or "".
func (h *limitedHub) get(path string) string {
	client := http.Client{Timeout: 10 * time.Second}
	response, err := client.Get("http://" + h.admin + path)
	if err != nil {
		return ""
	}
	defer response.Body.Close()
	text, _ := io.ReadAll(response.Body)
	return string(text)
}

// peak returns the most memory that the hub has had, in bytes.
func (h *limitedHub) peak() int64 {
	h.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", h.cmd.Process.Pid))
	if err != nil {
		h.t.Fatalf("the hub is gone: %v", err)
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	if err != nil {
		h.t.Fatal(err)
	}
	return kib << 10
}

// stop ends the hub with SIGTERM and returns its exit status.
func (h *limitedHub) stop() int {
	h.t.Helper()
	_ = h.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-h.ended:
	case <-time.After(20 * time.Second):
		h.t.Fatal("the hub runs 20 s after SIGTERM")
	}
	return h.cmd.ProcessState.ExitCode()
}
