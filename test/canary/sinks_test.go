package canary

import (
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
)

// sinks are texts in which secrets could be, by name.
type sinks map[string]string

var canaryForm = regexp.MustCompile(`canary\.([a-z0-9-]+)\.end`)

// canaries returns the paths of the canaries in text.
func canaries(text string) map[string]bool {
	found := map[string]bool{}
	for _, match := range canaryForm.FindAllStringSubmatch(text, -1) {
		found[match[1]] = true
	}
	return found
}

// read adds the response to a GET request.
func (s sinks) read(t *testing.T, name, url, accept string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", accept)
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	s[name] += fmt.Sprintln(response.Status, response.Header) + string(body)
}

// run adds the output of a command.
func (s sinks) run(t *testing.T, args ...string) {
	t.Helper()
	_, out, errs := hubtest.Command(t, args...)
	s["commands"] += strings.Join(args, " ") + "\n" + out + errs
}

// files adds the names and the contents of the files of a directory, and checks
// their modes.
func (s sinks) files(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if want := map[bool]fs.FileMode{true: 0o700, false: 0o600}[d.IsDir()]; info.Mode().Perm() != want && path != dir {
			t.Errorf("%s has mode %o", path, info.Mode().Perm())
		}
		text := []byte{}
		if !d.IsDir() {
			text, err = os.ReadFile(path)
		}
		s["files"] += path + "\n" + string(text) + "\n"
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// wrongConfig writes a configuration that is invalid because of its secrets.
func wrongConfig(t *testing.T, sent io.Writer) (file string) {
	t.Helper()
	secret := canary("wrong-config")
	text := "mcpServers:\n" +
		"  a: {url: \"http://user:" + secret + "@host/mcp?k=" + secret + "\", headers: {X: \"" + secret + "\\n\"}}\n" +
		"  b: {command: x, env: {TOKEN: \"" + secret + "${MISSING}\", K: \"" + secret + "\\r\"}, isolation: " + secret + "}\n" +
		"  c: {url: \"ftp://" + secret + "\", connectTimeout: " + secret + "}\n" +
		"  d: {url: \"http://host:" + secret + "/%zz\"}\n"
	fmt.Fprintln(sent, text)
	file = filepath.Join(t.TempDir(), "wrong.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// admin adds everything that the admin listener and the commands show.
func (s sinks) admin(t *testing.T, hub *hubtest.Hub, sessions []string) {
	t.Helper()
	base := hub.AdminURL()
	s.read(t, "metrics", base+"/metrics", "text/plain")
	s.read(t, "openmetrics", base+"/metrics", "application/openmetrics-text;version=1.0.0")
	s.read(t, "protobuf metrics", base+"/metrics",
		"application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited")
	s.read(t, "page", base+"/", "*/*")
	paths := []string{"sessions", "upstreams", "log-levels", "none"}
	for _, server := range []string{"legacy", "modern", "child", "refuses"} {
		paths = append(paths, "upstreams/"+server)
	}
	for _, id := range sessions {
		paths = append(paths, "sessions/"+id, "sessions/"+id+"/events")
		s.run(t, "sessions", "show", id, "--admin", hub.AdminListen)
		s.run(t, "sessions", "show", id, "--json", "--admin", hub.AdminListen)
		s.run(t, "sessions", "events", id, "--admin", hub.AdminListen)
	}
	for _, path := range paths {
		s.read(t, "api", base+"/api/v1/"+path, "*/*")
	}
	for _, path := range []string{"/healthz", "/readyz"} {
		s.read(t, "health", base+path, "*/*")
	}
	for _, path := range []string{"", "goroutine?debug=1", "goroutine?debug=2", "heap?debug=1", "cmdline"} {
		s.read(t, "pprof", base+"/debug/pprof/"+path, "*/*")
	}
	s.run(t, "sessions", "list", "--admin", hub.AdminListen)
	s.run(t, "sessions", "list", "--json", "--admin", hub.AdminListen)
	s.run(t, "log-level", "--admin", hub.AdminListen)
}
