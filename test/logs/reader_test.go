package logs

import (
	"io"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
)

// startPiped starts a hub whose log goes to a pipe, of which it returns the end to read.
func startPiped(t *testing.T, config string) (*hubtest.Hub, *os.File) {
	t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer write.Close()
	t.Cleanup(func() { _ = read.Close() })
	return hubtest.StartHub(t, hubtest.Options{Config: config, LogLevel: "trace", Stderr: write}), read
}

const patience = 15 * time.Second // for the end of a hub, which has 10 s

// The hub logs two megabytes, what a server prints, and nobody reads its log.
func TestALogThatNobodyReadsNeitherStopsTheHubNorItsEnd(t *testing.T) {
	printer := `yes "$(head -c 8000 /dev/zero | tr '\0' x)" | head -n 250 >&2; exec ` + hubtest.HubProgram(t) + ` demo-server`
	h, _ := startPiped(t, "mcpServers: {a: {command: sh, args: [-c, '"+strings.ReplaceAll(printer, "'", "''")+"']}}")
	h.AwaitServers(1)
	c := hubtest.Connect(t, h.URL())
	hubtest.Eventually(t, "records are dropped", func() bool {
		if a := c.Request("tools/call", `{"name":"a__echo","arguments":{"text":"x"}}`); !strings.Contains(string(a.Result), `"x"`) {
			t.Fatalf("a call is answered with %s %s", a.Result, a.Error)
		}
		n := h.Metric(`mcphub_log_records_dropped_total{reason="stalled"}`)
		return n != "" && n != "0"
	})
	if status := h.Terminate(patience); status != 0 {
		t.Errorf("exit status %d", status)
	}
}

func TestAHubWhoseLogReaderIsGoneGoesOn(t *testing.T) {
	h, log := startPiped(t, hubtest.DemoConfig)
	h.AwaitServers(1)
	_ = log.Close()
	c := hubtest.Connect(t, h.URL())
	for range 3 {
		if a := c.Request("ping", "{}"); string(a.Result) != "{}" {
			t.Fatalf("a ping is answered with %s %s", a.Result, a.Error)
		}
	}
	if n := h.Metric(`mcphub_log_records_dropped_total{reason="failed"}`); n == "" || n == "0" {
		t.Errorf("%q records are counted as lost", n)
	}
	if status := h.Terminate(patience); status != 0 {
		t.Errorf("exit status %d", status)
	}
}

// A terminal that goes away sends SIGHUP more than once, and takes the log with it.
func TestHangUpsEndTheHubInOrder(t *testing.T) {
	h, log := startPiped(t, hubtest.DemoConfig)
	go func() { _, _ = io.Copy(io.Discard, log) }() // ends with the hub
	c := hubtest.Connect(t, h.URL())
	h.AwaitServers(1)
	answered := make(chan hubtest.Answer, 1)
	go func() {
		answered <- c.Request("tools/call", `{"name":"demo__slow","arguments":{"seconds":600,"steps":1}}`)
	}()
	hubtest.Eventually(t, "the call is under way", func() bool {
		return h.Metric(`mcphub_requests_in_flight{direction="out",hop="backend"}`) == "1"
	})
	h.Signal(syscall.SIGHUP)
	hubtest.Eventually(t, "the hub shuts down", func() bool {
		status, _ := h.Get("/readyz")
		return status != http.StatusOK
	})
	h.Signal(syscall.SIGHUP)
	if status := h.AwaitEnd(patience); status != 0 {
		t.Errorf("exit status %d", status)
	}
	if a := <-answered; !strings.Contains(string(a.Error), "not known") {
		t.Errorf("the call was answered with %s %s", a.Result, a.Error)
	}
}
