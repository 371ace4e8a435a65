package canary

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
)

func TestTheVerifierIsNowhereButInTheHeader(t *testing.T) {
	dataDir := t.TempDir()
	hub := hubtest.StartHub(t, hubtest.Options{Config: hubtest.DemoConfig, DataDir: dataDir, LogLevel: "trace"})
	c := hubtest.Connect(t, hub.URL())
	c.Request("tools/call", `{"name":"demo__echo","arguments":{"text":"x"}}`)
	id, verifier, ok := strings.Cut(c.Token, ".")
	if !ok || len(verifier) < 26 {
		t.Fatalf("token %q is not split", c.Token)
	}
	hub.AwaitSession()
	texts := map[string]string{}
	for _, path := range []string{"metrics", "api/v1/sessions", "api/v1/sessions/" + id, "api/v1/upstreams", "",
		"debug/pprof/goroutine?debug=2"} {
		_, texts[path] = hubtest.Get(t, hub.AdminURL()+"/"+path)
	}
	_ = filepath.WalkDir(dataDir, func(path string, d os.DirEntry, _ error) error {
		if !d.IsDir() {
			b, _ := os.ReadFile(path)
			texts[path] = string(b)
		}
		return nil
	})
	hub.Terminate(15 * time.Second)
	texts["log"] = hub.Log.String()
	for where, text := range texts {
		if strings.Contains(text, verifier) {
			t.Errorf("the verifier is in %s", where)
		}
	}
	if !strings.Contains(texts["log"], id) {
		t.Error("the public id is not in the log")
	}
}
