// Package real runs other people's servers and clients through the hub: the
// reference servers and Playwright's behind it, and in front of it the clients of
// the SDKs, the MCP Inspector, mcp-remote, the AI SDK, LangChain and pages in
// Chromium. Each client meets each server: it connects, lists, calls, is asked, and
// goes on after kill -9 of the hub and of the server.
//
// make e2e-real installs them, at the versions of package.json, and sets the
// variables that say where; without these the tests are skipped. The result is
// docs/compatibility.md. What is known not to hold is in known_test.go, with the
// reason; anything else that does not hold fails the test, and so does an entry
// there that holds.
package real

import (
	"os"
	"path/filepath"
	"sync"
	"testing"
)

const document = "../../docs/compatibility.md"

// installed is what make e2e-real installs.
type installed struct {
	node     string // Node.js
	dir      string // its node_modules has the packages
	chromium string // "" if there is none
	clients  string // the scripts of clients, beside node_modules
}

func find(t *testing.T) installed {
	t.Helper()
	in := installed{node: os.Getenv("MCPHUB_NODE"), dir: os.Getenv("MCPHUB_REAL"), chromium: os.Getenv("MCPHUB_CHROMIUM")}
	if in.node == "" || in.dir == "" {
		t.Skip("MCPHUB_NODE and MCPHUB_REAL do not say where Node.js and the packages are; run make e2e-real")
	}
	// Node.js looks for packages beside the script that imports them.
	clients, err := os.MkdirTemp(in.dir, "clients-") //nolint:usetesting // not in a directory of the test
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(clients) })
	if err := os.CopyFS(clients, os.DirFS("clients")); err != nil {
		t.Fatal(err)
	}
	in.clients = clients
	return in
}

// script returns the path of a file of an installed package.
func (in installed) script(elements ...string) string {
	return filepath.Join(append([]string{in.dir, "node_modules"}, elements...)...)
}

func TestRealClientsWorkWithRealServersThroughTheHub(t *testing.T) {
	in := find(t)
	var results results
	t.Run("pairs", func(t *testing.T) {
		for _, c := range clients() {
			for _, s := range servers() {
				t.Run(c.name+"/"+s.name, func(t *testing.T) {
					t.Parallel()
					if in.chromium == "" && (c.chromium || s.chromium) {
						t.Skip("there is no Chromium")
					}
					results.add(meet(t, in, c, s))
				})
			}
		}
	})
	if len(results.pairs) != len(clients())*len(servers()) {
		t.Logf("%s is left as it is: only %d of %d pairs ran", document, len(results.pairs), len(clients())*len(servers()))
		return
	}
	if err := os.WriteFile(document, []byte(results.document(t)), 0o644); err != nil {
		t.Error(err)
	}
}

// results collects what the pairs found.
type results struct {
	mu    sync.Mutex
	pairs []*pair
}

func (r *results) add(p *pair) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pairs = append(r.pairs, p)
}
