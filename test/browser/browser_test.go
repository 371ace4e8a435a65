// Package browser has a real browser, headless Chromium, use a running hub from web pages: from one that may, and from
// ones that may not. What browsers send, and when they hide an answer from a page, is only known for certain there.
package browser

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
)

//go:embed testdata/client.html
var clientPage string

// site is a web site with one page, which reports what it could do.
type site struct {
	*httptest.Server
	reports chan map[string]string
}

// newSite serves the page of the MCP client, which uses the hub.
func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{reports: make(chan map[string]string, 1)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = fmt.Fprint(w, clientPage)
	})
	mux.HandleFunc("POST /report", func(_ http.ResponseWriter, r *http.Request) {
		var report map[string]string
		if err := json.NewDecoder(r.Body).Decode(&report); err == nil {
			s.reports <- report
		}
	})
	s.Server = httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

// chromium returns the path of the browser. Without one the test is skipped.
func chromium(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Skip("there is no Chromium in PATH, so that no page can be opened")
	return ""
}

// visit opens the page of a site in the browser, which uses hub, and returns its report.
func (s *site) visit(t *testing.T, host string, hub *hubtest.Hub) map[string]string {
	t.Helper()
	url := strings.Replace(s.URL, "127.0.0.1", host, 1) + "/#" + hub.URL() + "," + hub.AdminURL()
	browser := hubtest.StartProcess(t, chromium(t), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
		"--disable-dev-shm-usage", "--disable-background-networking", "--user-data-dir="+t.TempDir(), url)
	defer browser.Kill()
	select {
	case report := <-s.reports:
		return report
	case <-time.After(patience):
		t.Fatal("the page reports nothing")
		return nil
	}
}

// patience is how long the browser may take to start and to run the page.
const patience = time.Minute

func TestAPageOfAListedOriginIsAnMCPClient(t *testing.T) {
	s := newSite(t)
	hub := hubtest.StartHub(t, hubtest.Options{Config: hubtest.DemoConfig + "\nallowedOrigins: [\"" + s.URL + "\"]"})
	hub.AwaitServers(1)
	report := s.visit(t, "127.0.0.1", hub)
	for what, want := range map[string]string{
		"initialize":         "200",
		"the session id":     "read",
		"a call":             "hello from a page",
		"an unknown session": "404",
		"a modern request":   "hello from a page",
		"a stream":           "200 text/event-stream",
		"the end":            "204",
		"the admin API":      "hidden", // allowedOrigins is not for the admin listener
		"a picture":          "failed",
	} {
		if report[what] != want {
			t.Errorf("%s: %q, want %q", what, report[what], want)
		}
	}
	if n := hub.Metric(`mcphub_http_requests_refused_total{listener="admin",reason="origin"}`); n != "1" {
		t.Errorf("%s requests to the admin listener were refused for their origin", n)
	}
}

func TestAPageOfTheAdminOriginsMayUseTheAdminListenerOnly(t *testing.T) {
	s := newSite(t)
	hub := hubtest.StartHub(t, hubtest.Options{Config: "admin: {allowedOrigins: [\"" + s.URL + "\"]}"})
	report := s.visit(t, "127.0.0.1", hub)
	if report["the admin API"] != "200" || report["initialize"] != "hidden" {
		t.Errorf("%v", report)
	}
}

// A page on localhost is of another site than a hub on 127.0.0.1; one of another port is of the same site.
func TestAForeignPageReachesNothing(t *testing.T) {
	for _, host := range []string{"localhost", "127.0.0.1"} {
		s := newSite(t)
		hub := hubtest.StartHub(t, hubtest.Options{Config: hubtest.DemoConfig})
		report := s.visit(t, host, hub)
		for _, what := range []string{"initialize", "the admin API"} {
			if report[what] != "hidden" {
				t.Errorf("%s: %s: %q", host, what, report[what])
			}
		}
		if n := hub.Metric(`mcphub_http_requests_refused_total{listener="admin",reason="site"}`); n != "1" {
			t.Errorf("%s: %s pictures were refused", host, n)
		}
		if created := hub.Logged("session created"); len(created) > 0 {
			t.Errorf("%s: sessions were created: %v", host, created)
		}
	}
}
