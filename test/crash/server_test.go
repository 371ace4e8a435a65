package crash

import (
	"net/http"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
)

func TestADeadServerIsVisibleAndItsCallsFailAtOnce(t *testing.T) {
	hub := hubtest.StartHub(t, hubtest.Options{Config: `mcpServers:
  demo: {command: mcphub, args: [demo-server]}
  absent: {command: ./no-such-program}
  refused: {url: "http://127.0.0.1:9/mcp"}
`})
	hubtest.Eventually(t, "the servers are tried", func() bool {
		_, body := hub.Get("/api/v1/upstreams")
		return strings.Count(body, `"state": "down"`) == 2 && strings.Count(body, `"state": "up"`) == 1
	})
	if status, body := hub.Get("/readyz"); status != http.StatusOK || !strings.Contains(body, "absent") {
		t.Errorf("/readyz: %d %s", status, body)
	}
	for name, want := range map[string]string{"demo": "1", "absent": "0", "refused": "0"} {
		if got := hub.Metric(`mcphub_backend_up{mcphub_backend="` + name + `"}`); got != want {
			t.Errorf("mcphub_backend_up of %s is %q", name, got)
		}
	}
	c := hubtest.Connect(t, hub.URL())
	if a := c.Request("tools/call", `{"name":"demo__echo","arguments":{"text":"x"}}`); a.Result == nil {
		t.Errorf("the healthy server suffers: %s", a.Error)
	}
}

func TestAServerThatDiesMidCallIsNamedAndComesBack(t *testing.T) {
	hub := hubtest.StartHub(t, hubtest.Options{Config: hubtest.DemoConfig})
	c := hubtest.Connect(t, hub.URL())
	answered := make(chan hubtest.Answer, 1)
	go func() { answered <- c.Request("tools/call", `{"name":"demo__slow","arguments":{"seconds":60}}`) }()
	hubtest.Eventually(t, "the call is under way", func() bool {
		return hub.Metric(`mcphub_requests_in_flight{direction="out",hop="backend"}`) == "1"
	})
	children := childrenOf(t, hub.PID())
	if len(children) != 1 {
		t.Fatalf("children: %v", children)
	}
	_ = syscall.Kill(children[0], syscall.SIGKILL)
	select {
	case a := <-answered:
		if !strings.Contains(string(a.Error), `demo`) {
			t.Errorf("the error does not name the server: %s", a.Error)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("the call hangs")
	}
	hubtest.Eventually(t, "the server is back", func() bool {
		a := c.Request("tools/call", `{"name":"demo__echo","arguments":{"text":"x"}}`)
		return a.Result != nil
	})
	if n := hub.Metric(`mcphub_backend_restarts_total{mcphub_backend="demo",reason="exited"}`); n != "1" {
		t.Errorf("%s restarts", n)
	}
	if now := childrenOf(t, hub.PID()); len(now) != 1 || now[0] == children[0] {
		t.Errorf("children: %v, before: %v", now, children)
	}
}

// childrenOf lists the child processes of pid, zombies included.
func childrenOf(t *testing.T, pid int) []int {
	t.Helper()
	out, err := exec.Command("ps", "-o", "pid=", "--ppid", strconv.Itoa(pid)).Output()
	if err != nil && len(out) > 0 {
		t.Fatal(err)
	}
	var pids []int
	for field := range strings.FieldsSeq(string(out)) {
		n, err := strconv.Atoi(field)
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, n)
	}
	return pids
}

func TestNoChildIsLeftBehind(t *testing.T) {
	for name, end := range map[string]func(*hubtest.Hub){
		"SIGTERM": func(h *hubtest.Hub) { h.Terminate(15 * time.Second) },
		"kill -9": func(h *hubtest.Hub) { h.Kill() },
	} {
		t.Run(name, func(t *testing.T) {
			hub := hubtest.StartHub(t, hubtest.Options{Config: hubtest.DemoConfig})
			hubtest.Eventually(t, "the server runs", func() bool { return len(childrenOf(t, hub.PID())) == 1 })
			child := childrenOf(t, hub.PID())[0]
			end(hub)
			hubtest.Eventually(t, "the child is gone", func() bool { return syscall.Kill(child, 0) != nil })
		})
	}
}
