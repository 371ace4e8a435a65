package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
	"github.com/mcphub-go/mcphub/pkg/session"
)

// mcphub runs a command line in this process.
func mcphub(t *testing.T, stdin string, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	status = run(t.Context(), args, strings.NewReader(stdin), &out, &errs)
	return status, out.String(), errs.String()
}

func TestSessionsAreListedShownFilteredAndKilled(t *testing.T) {
	hub := hubtest.StartHub(t, hubtest.Options{Config: hubtest.DemoConfig})
	one, two := hubtest.Connect(t, hub.URL()), hubtest.Connect(t, hub.URL())
	id := func(c *hubtest.LegacyClient) string { return c.SessionID() }
	admin := []string{"--admin", hub.AdminListen}
	sessions := func(args ...string) (int, string, string) {
		return mcphub(t, "", append(append([]string{"sessions"}, args...), admin...)...)
	}

	status, out, _ := sessions("list")
	if status != 0 || !strings.Contains(out, id(one)) || !strings.Contains(out, id(two)) || strings.Contains(out, one.Token) {
		t.Errorf("list: %d\n%s", status, out)
	}
	status, out, _ = sessions("list", "--json")
	var list struct {
		Sessions []struct{ SessionID, ClientName string }
		Count    int
	}
	if err := json.Unmarshal([]byte(out), &list); err != nil || status != 0 || list.Count != 2 || list.Sessions[0].ClientName != "raw" {
		t.Errorf("list --json: %d %v\n%s", status, err, out)
	}
	for _, nothing := range [][]string{{"--overdue"}, {"--idle-longer-than", "1h"}, {"--client", "nobody"}} {
		if status, out, _ := sessions(append([]string{"list"}, nothing...)...); status != 0 || strings.Contains(out, id(one)) {
			t.Errorf("list %v: %d\n%s", nothing, status, out)
		}
	}
	if _, out, _ := sessions("list", "--client", "RAW"); !strings.Contains(out, id(one)) {
		t.Errorf("list --client RAW:\n%s", out)
	}

	// A whole header, pasted by mistake, shows the session and not its secret.
	if status, out, errs := sessions("show", one.Token); status != 0 || !strings.Contains(out, id(one)) ||
		strings.Contains(out+errs, one.Token) {
		t.Errorf("show: %d\n%s%s", status, out, errs)
	}
	if status, _, errs := sessions("show", "nosuchsession"); status != 1 || !strings.Contains(errs, "not found") {
		t.Errorf("show of an unknown session: %d %s", status, errs)
	}

	if status, _, errs := mcphub(t, "n\n", append([]string{"sessions", "kill", id(one)}, admin...)...); status != 1 ||
		!strings.Contains(errs, "End 1 sessions?") {
		t.Errorf("kill, answered n: %d %s", status, errs)
	}
	if a := one.Request("ping", "{}"); a.Result == nil {
		t.Errorf("the session ended although the answer was no: %s", a.Error)
	}
	for _, wrong := range [][]string{{"kill"}, {"kill", "x", "--overdue"}} {
		if status, _, _ := sessions(wrong...); status != 2 {
			t.Errorf("%v: status %d", wrong, status)
		}
	}
	if status, out, _ := mcphub(t, "y\n", append([]string{"sessions", "kill", id(one)}, admin...)...); status != 0 ||
		!strings.Contains(out, "ended") {
		t.Errorf("kill, answered y: %d %s", status, out)
	}
	if status, _ := one.Post(`{"jsonrpc":"2.0","id":1,"method":"ping"}`); status != http.StatusNotFound {
		t.Errorf("a killed session answers %d", status)
	}
	if status, out, _ := sessions("kill", "--client", "raw", "--yes", "--json"); status != 0 || !strings.Contains(out, `"ended":true`) ||
		!strings.Contains(out, id(two)) {
		t.Errorf("kill by filter: %d %s", status, out)
	}
	if n := hub.Metric(`mcphub_sessions_closed_total{kind="protocol",reason="admin"}`); n != "2" {
		t.Errorf("%s sessions were ended by an administrator", n)
	}

	status, out, _ = sessions("events", id(one))
	for _, want := range []string{"created", "initialised", "ended", "admin"} {
		if !strings.Contains(out, want) {
			t.Errorf("events: %d, no %q in\n%s", status, want, out)
		}
	}
	if status, _, errs := mcphub(t, "", "sessions", "list", "--admin", hubtest.FreeAddress(t)); status != 1 ||
		!strings.Contains(errs, "no hub answers") {
		t.Errorf("without a hub: %d %s", status, errs)
	}
}

func TestEventsAreFollowedLive(t *testing.T) {
	hub := hubtest.StartHub(t, hubtest.Options{Config: hubtest.DemoConfig})
	ctx, cancel := context.WithCancel(t.Context())
	read, write := io.Pipe()
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, []string{"sessions", "events", "--follow", "--json", "--admin", hub.AdminListen},
			strings.NewReader(""), write, io.Discard)
	}()
	// The stream may not be open yet; sessions are made until one shows up.
	lines := make(chan string)
	go func() {
		scan := bufio.NewScanner(read)
		for scan.Scan() {
			lines <- scan.Text()
		}
	}()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	for seen := false; !seen; {
		select {
		case line := <-lines:
			var ev session.Event
			if err := json.Unmarshal([]byte(line), &ev); err != nil || ev.SessionID == "" || ev.Type == "" {
				t.Fatalf("%q: %v", line, err)
			}
			seen = ev.Type == "created"
		case <-tick.C:
			hubtest.Connect(t, hub.URL())
		case <-deadline:
			t.Fatal("no event came")
		}
	}
	cancel()
	go func() {
		for range lines { // what is under way still
		}
	}()
	if status := <-ended; status != 0 {
		t.Errorf("interrupted: status %d", status)
	}
	_ = write.Close()
}

func TestSessionsMoveToAnotherMachine(t *testing.T) {
	here, there := t.TempDir(), t.TempDir()
	hub := hubtest.StartHub(t, hubtest.Options{Config: hubtest.DemoConfig, DataDir: here})
	c := hubtest.Connect(t, hub.URL())
	hub.AwaitSession()
	file := filepath.Join(t.TempDir(), "sessions.jsonl")
	if status, _, errs := mcphub(t, "", "sessions", "export", "--data-dir", here, "--output", file); status != 1 ||
		!strings.Contains(errs, "running") && !strings.Contains(errs, "lock") && !strings.Contains(errs, "process") {
		t.Errorf("export of a running hub: %d %s", status, errs)
	}
	hub.Terminate(15 * time.Second)
	_ = os.Remove(file)
	if status, _, errs := mcphub(t, "", "sessions", "export", "--data-dir", here, "--output", file); status != 0 {
		t.Fatalf("export: %s", errs)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the export has mode %v, %v", info.Mode(), err)
	}
	if status, _, errs := mcphub(t, "", "sessions", "import", "--data-dir", there, file); status != 0 ||
		!strings.Contains(errs, "1 sessions imported") {
		t.Fatalf("import: %d %s", status, errs)
	}
	if _, _, errs := mcphub(t, "", "sessions", "import", "--data-dir", there, file); !strings.Contains(errs, "0 sessions imported, 1 left") {
		t.Errorf("second import: %s", errs)
	}
	if status, _, errs := mcphub(t, `{"sessionId":"../../evil"}`+"\n", "sessions", "import", "--data-dir", there); status != 1 ||
		!strings.Contains(errs, "line 1") {
		t.Errorf("import of a path: %d %s", status, errs)
	}
	hub.DataDir = there
	hub.Restart()
	if a := c.Request("tools/call", `{"name":"demo__echo","arguments":{"text":"x"}}`); a.Result == nil {
		t.Errorf("the session did not go on: %s", a.Error)
	}
}

func TestTextOfClientsDoesNotSteerTheTerminal(t *testing.T) {
	if got := plainText("a\x1b[2Jb\r\n\u009bc"); got != `a\u001b[2Jb\r\n\u009bc` {
		t.Errorf("%q", got)
	}
}
