package crash

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
)

const ping = `{"jsonrpc":"2.0","id":1,"method":"ping"}`

// stoppedHub returns a hub that has stopped, and the client of its only session.
func stoppedHub(t *testing.T) (*hubtest.Hub, *hubtest.LegacyClient) {
	t.Helper()
	hub := hubtest.StartHub(t, hubtest.Options{})
	c := hubtest.Connect(t, hub.URL())
	if status := hub.Terminate(15 * time.Second); status != 0 {
		t.Fatalf("exit status %d", status)
	}
	return hub, c
}

// backdate changes the stored session as if it was written that long before, by the wall clock and by the clock that
// nobody can set.
func backdate(t *testing.T, hub *hubtest.Hub, c *hubtest.LegacyClient, wall, uptime time.Duration) {
	t.Helper()
	file := filepath.Join(hub.DataDir, "sessions", c.SessionID()+".json")
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var r struct {
		CreatedAt, LastAccessedAt int64
		Clock                     struct{ Uptime, At int64 }
	}
	if err := json.Unmarshal(data, &r); err != nil {
		t.Fatal(err)
	}
	if r.Clock.At == 0 {
		t.Skip("the hub knows no clock but the wall clock here")
	}
	text := string(data)
	for _, m := range []struct {
		name string
		was  int64
		by   time.Duration
	}{
		{"createdAt", r.CreatedAt, wall}, {"lastAccessedAt", r.LastAccessedAt, wall}, {"at", r.Clock.At, wall},
		{"uptime", r.Clock.Uptime, uptime},
	} {
		text = strings.Replace(text, fmt.Sprintf(`"%s":%d`, m.name, m.was), fmt.Sprintf(`"%s":%d`, m.name, m.was-m.by.Milliseconds()), 1)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// A test cannot set the clock. To the hub it is the same if the record is from another time.
func TestARestartTellsALongStopFromAWallClockThatWasSet(t *testing.T) {
	const jump = 45 * time.Minute
	for name, tt := range map[string]struct {
		wall, uptime time.Duration
		want         int
	}{
		"a short stop":        {0, 0, http.StatusOK},
		"a clock set forward": {jump, 0, http.StatusOK},
		"a clock set back":    {-jump, 0, http.StatusOK},
		"a long stop":         {jump, jump, http.StatusNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			hub, c := stoppedHub(t)
			backdate(t, hub, c, tt.wall, tt.uptime)
			hub.Restart()
			if status, body := c.Post(ping); status != tt.want {
				t.Errorf("%d %s; want %d", status, body, tt.want)
			}
		})
	}
}

// Linux can give a process another monotonic clock, as that of another machine is.
func TestAMonotonicClockThatIsAheadEndsNoSession(t *testing.T) {
	inNamespace := []string{"--time", "--monotonic", "100000", "--boottime", "100000", "--fork", "--kill-child"}
	if err := exec.CommandContext(t.Context(), "unshare", slices.Concat(inNamespace, []string{"true"})...).Run(); err != nil {
		t.Skipf("no time namespaces here: %v", err)
	}
	hub, c := stoppedHub(t)
	args := slices.Concat(inNamespace, []string{hubtest.HubProgram(t), "serve", "--listen", hub.Listen,
		"--admin-listen", hub.AdminListen, "--data-dir", hub.DataDir})
	hubtest.StartProcess(t, "unshare", args...)
	hubtest.Eventually(t, "the hub is ready", func() bool {
		status, _ := hub.Get("/readyz")
		return status == http.StatusOK
	})
	if status, body := c.Post(ping); status != http.StatusOK {
		t.Errorf("%d %s", status, body)
	}
}
