package crash

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
)

func TestShutdownEndsInTimeWithAHungCallAndAReaderThatNeverReads(t *testing.T) {
	dataDir := t.TempDir()
	hub := hubtest.StartHub(t, hubtest.Options{Config: hubtest.DemoConfig, DataDir: dataDir})
	c := hubtest.Connect(t, hub.URL())
	answered := make(chan hubtest.Answer, 1)
	go func() {
		answered <- c.Request("tools/call", `{"name":"demo__slow","arguments":{"seconds":600,"steps":1}}`)
	}()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stream, err := c.Do(ctx, http.MethodGet, "")
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Body.Close()
	hubtest.Eventually(t, "the call is under way", func() bool {
		return hub.Metric(`mcphub_requests_in_flight{direction="out",hop="backend"}`) == "1"
	})
	if status := hub.Terminate(12 * time.Second); status != 0 {
		t.Errorf("exit status %d\n%s", status, hub.Log)
	}
	if a := <-answered; !strings.Contains(string(a.Error), "not known") {
		t.Errorf("the call was answered with %s %s", a.Result, a.Error)
	}
	if _, err := io.Copy(io.Discard, stream.Body); err != nil {
		t.Logf("the stream ended with %v", err)
	}
	hub = hub.Restart()
	if a := c.Request("ping", "{}"); string(a.Result) != "{}" {
		t.Errorf("the session did not survive: %s", a.Error)
	}
}
