package children

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
)

func TestServersOfAKilledHubAreEndedWhenItStartsAgain(t *testing.T) {
	for name, launcher := range map[string]string{
		"that are its children":                  "",
		"behind a launcher, as with npx and uvx": "%s; true",
		"behind two launchers":                   "sh -c '%s; true'; true",
	} {
		t.Run(name, func(t *testing.T) {
			pids := filepath.Join(t.TempDir(), "pids")
			hub := hubtest.StartHub(t, hubtest.Options{Config: config(t, "stays", launcher, pids, "")})
			end(t, pids)
			hub.AwaitServers(1)
			for range 2 {
				hub.Kill()
				hub = hub.Restart()
				hub.AwaitServers(1)
			}
			if left := running(t, pids); len(left) != 1 {
				t.Errorf("%d servers run after two times kill -9, want 1", len(left))
			}
			if status := hub.Terminate(12 * time.Second); status != 0 {
				t.Errorf("exit status %d", status)
			}
			if left := running(t, pids); left != nil {
				t.Errorf("still running after a normal stop: %v", left)
			}
		})
	}
}
