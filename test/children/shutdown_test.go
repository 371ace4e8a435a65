package children

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
)

func TestShutdownEndsDeafChildrenOfSessionsInTime(t *testing.T) {
	for name, hangs := range map[string]bool{"that are idle": false, "with a call that hangs": true} {
		t.Run(name, func(t *testing.T) {
			pids := filepath.Join(t.TempDir(), "pids")
			hub := hubtest.StartHub(t, hubtest.Options{Config: config(t, "deaf", "", pids, ", isolation: session")})
			end(t, pids)
			hub.AwaitServers(1)
			for range 5 {
				c := hubtest.Connect(t, hub.URL())
				if a := c.Request("tools/call", `{"name":"s__echo"}`); a.Error != nil {
					t.Fatal(string(a.Error))
				}
				if hangs {
					go c.Request("tools/call", `{"name":"s__hang"}`)
				}
			}
			if n := len(running(t, pids)); n != 6 {
				t.Fatalf("%d children run, want that of the hub and those of 5 sessions", n)
			}
			if hangs {
				hubtest.Eventually(t, "the calls are under way", func() bool {
					return hub.Metric(`mcphub_requests_in_flight{direction="out",hop="backend"}`) == "5"
				})
			}
			if status := hub.Terminate(12 * time.Second); status != 0 {
				t.Errorf("exit status %d", status)
			}
			if late := hub.Logged("some calls or servers did not end in time"); late != nil {
				t.Errorf("%v", late)
			}
			if left := running(t, pids); left != nil {
				t.Errorf("still running: %v", left)
			}
		})
	}
}
