package gateway

import (
	"context"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mark3labs/mcp-go/client"
	"github.com/mark3labs/mcp-go/mcp"

	"github.com/mcphub-go/mcphub/pkg/catalog"
	"github.com/mcphub-go/mcphub/pkg/hubtest"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/persist"
)

const (
	rootsChanged = `{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}`
	oneRoot      = `"result":{"roots":[{"uri":"file:///home/ann/repo"}]}`
)

// connectWithRoots creates a session of a client that has declared roots.
func (r *rig) connectWithRoots(headers ...string) *peer {
	r.t.Helper()
	return r.connectWith(strings.Replace(initializeBody, `"sampling":{}`, `"roots":{"listChanged":true}`, 1), headers...)
}

// rootsRequest returns the next message, which must be roots/list. Cancellations of earlier requests may precede it.
func (s *reader) rootsRequest() jsonrpc.Message {
	s.t.Helper()
	m := s.message()
	for m.Method == "notifications/cancelled" {
		m = s.message()
	}
	if m.Kind() != jsonrpc.Request || m.Method != "roots/list" {
		s.t.Errorf("received %s, want roots/list", m.Encode())
	}
	return m
}

// expectNothingBefore checks that nothing has been sent on the stream: a notification that is sent now is the next
// message.
func (s *reader) expectNothingBefore(r *rig) {
	s.t.Helper()
	r.gateway.ListChanged([]catalog.Kind{catalog.Prompts})
	if m := s.message(); m.Method != "notifications/prompts/list_changed" {
		s.t.Errorf("received %s", m.Encode())
	}
}

// workingDirectory waits until the hub has processed the client's messages, and returns the stored working directory
// and project.
func (c *peer) workingDirectory() (cwd, project string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	if err := c.gateway.Wait(ctx); err != nil {
		c.t.Errorf("the hub is still busy: %v", err)
	}
	s, err := c.sessions.Get(ctx, c.id)
	if err != nil {
		c.t.Error(err)
	}
	return s.Cwd, s.Project
}

func TestFirstRootNamesTheWorkingDirectory(t *testing.T) {
	r := start(t, setup{})
	c := r.connectWithRoots()
	s := c.listen()
	m := s.rootsRequest()
	long := strings.Repeat("é", 3000)
	for _, x := range []struct{ name, root, cwd, project string }{
		{"a file", `{"uri":"file:///home/ann/repo"}`, "/home/ann/repo", "repo"},
		{"percent-encoding", `{"uri":"file:///home/ann/my%20repo%C3%A9"}`, "/home/ann/my repoé", "my repoé"},
		{"a host", `{"uri":"file://host/srv/repo/"}`, "/srv/repo/", "repo"},
		{"a drive", `{"uri":"file:///C:/src/repo"}`, "/C:/src/repo", "repo"},
		{"a scheme in capitals", `{"uri":"FILE:///repo"}`, "/repo", "repo"},
		{"a name", `{"uri":"file:///home/ann/repo","name":"The \u00e9 Project"}`, "/home/ann/repo", "The é Project"},
		{"the first of several", `{"uri":"file:///a"},{"uri":"file:///b","name":"B"}`, "/a", "a"},
		{"another scheme", `{"uri":"https://example.com/x/my%20repo?y=1#z"}`, "https://example.com/x/my%20repo?y=1#z", "my repo"},
		{"a host alone", `{"uri":"https://example.com"}`, "https://example.com", "example.com"},
		{"no path at all", `{"uri":"urn:a:b"}`, "urn:a:b", "urn:a:b"},
		{"an invalid URI", `{"uri":"file:///a%zz/b"}`, "file:///a%zz/b", "b"},
		{"a file without path", `{"uri":"file://host"}`, "file://host", "host"},
		{"not UTF-8", `{"uri":"file:///a%ffb"}`, "/ab", "ab"},
		{"a long path", `{"uri":"file:///` + long + `"}`, "/" + long[:4094], long[:256]},
		{"a long name", `{"uri":"file:///a","name":"` + long + `"}`, "/a", long[:256]},
	} {
		if status := c.respond(m, `"result":{"roots":[`+x.root+`]}`); status != http.StatusAccepted {
			t.Errorf("%s: the answer: %d", x.name, status)
		}
		if cwd, project := c.workingDirectory(); cwd != x.cwd || project != x.project {
			t.Errorf("%s: stored %q, project %q; want %q, project %q", x.name, cwd, project, x.cwd, x.project)
		}
		c.post(rootsChanged)
		m = s.rootsRequest()
	}
	if out := r.messages("out", "request"); out != 16 {
		t.Errorf("%v server requests were counted", out)
	}
}

func TestResponseWithoutARootChangesNothing(t *testing.T) {
	r := start(t, setup{})
	c := r.connectWithRoots("X-Mcp-Cwd: /header", "X-Mcp-Project: header")
	s := c.listen()
	m := s.rootsRequest()
	for _, answer := range []string{
		`"result":{"roots":[]}`, `"result":{}`, `"result":{"roots":null}`, `"result":{"roots":"x"}`,
		`"result":{"roots":[7]}`, `"result":{"roots":[{}]}`,
		`"result":{"roots":[null]}`, `"result":{"roots":[{"uri":5}]}`, `"result":{"roots":[{"uri":""}]}`,
		`"result":{"roots":[{"name":"n"}]}`, `"result":[]`, `"result":"x"`,
		`"result":null`, `"error":{"code":-32601,"message":"no roots here"}`, `"error":{"code":0,"message":""}`,
	} {
		if status := c.respond(m, answer); status != http.StatusAccepted {
			t.Errorf("%s: %d", answer, status)
		}
		if cwd, project := c.workingDirectory(); cwd != "/header" || project != "header" {
			t.Errorf("after %s: stored %q, project %q", answer, cwd, project)
		}
		c.post(rootsChanged)
		m = s.rootsRequest()
	}
	if n := c.waitingRequests(); n != 1 {
		t.Errorf("%d server requests wait for a response", n)
	}
}

func TestRootsAreRequestedOnce(t *testing.T) {
	r := start(t, setup{})
	c := r.connectWithRoots()
	first := c.listen()
	c.respond(first.rootsRequest(), oneRoot)
	second := c.listen()
	second.expectNothingBefore(r)
	c.post(pingBody)
	second.expectNothingBefore(r)
	c.post(rootsChanged)
	c.respond(second.rootsRequest(), `"result":{"roots":[{"uri":"file:///b"}]}`)
	if cwd, _ := c.workingDirectory(); cwd != "/b" {
		t.Errorf("stored %q", cwd)
	}
	if len(first.events) != 0 {
		t.Error("the older stream received a message")
	}
}

func TestRootsAreNotRequestedFromAClientWithoutTheCapability(t *testing.T) {
	r := start(t, setup{})
	c := r.connect()
	s := c.listen()
	c.post(rootsChanged)
	s.expectNothingBefore(r)
	if out := r.messages("out", "request"); out != 0 {
		t.Errorf("%v server requests were counted", out)
	}
}

func TestRootsThatChangeWithoutAStreamAreRequestedOnTheNextOne(t *testing.T) {
	r := start(t, setup{})
	c := r.connectWithRoots()
	for range 2 {
		c.post(rootsChanged)
		c.workingDirectory()
		s := c.listen()
		c.respond(s.rootsRequest(), oneRoot)
		if cwd, project := c.workingDirectory(); cwd != "/home/ann/repo" || project != "repo" {
			t.Errorf("stored %q, project %q", cwd, project)
		}
		s.cancel()
		s.waitForEnd()
		hubtest.Eventually(t, "the stream is closed", func() bool { return r.metric("mcphub_streams_active", "stream", "get_sse") == 0 })
	}
}

func TestClientThatNeverListsItsRootsDelaysNothing(t *testing.T) {
	inBubble(t, setup{gateway: func(c *Config) { c.Heartbeat = time.Hour }}, func(t *testing.T, r *rig, _ *pipes) {
		c := r.connectWithRoots("X-Cwd: /header")
		s := c.listen()
		late := s.rootsRequest()
		began := time.Now()
		if p := c.post(pingBody); p.status != http.StatusOK || time.Since(began) != 0 {
			t.Errorf("a request meanwhile: %d after %s", p.status, time.Since(began))
		}
		time.Sleep(rootsTimeout - time.Second)
		if n := c.waitingRequests(); n != 1 {
			t.Errorf("%d server requests wait for a response", n)
		}
		time.Sleep(2 * time.Second)
		if n := c.waitingRequests(); n != 0 {
			t.Errorf("%d server requests wait for a response after %s", n, rootsTimeout)
		}
		if status := c.respond(late, oneRoot); status != http.StatusAccepted {
			t.Errorf("the late answer: %d", status)
		}
		if cwd, _ := c.workingDirectory(); cwd != "/header" {
			t.Errorf("stored %q", cwd)
		}
		if m := s.message(); m.Method != "notifications/cancelled" {
			t.Errorf("received %+v, want the cancellation of roots/list", m)
		}
		c.post(rootsChanged)
		s.rootsRequest()
		began = time.Now()
		if p := c.send(http.MethodDelete, "", "Mcp-Session-Id: "+c.token); p.status != http.StatusNoContent {
			t.Errorf("DELETE: %d", p.status)
		}
		s.waitForEnd()
		if err := r.gateway.Wait(t.Context()); err != nil || time.Since(began) != 0 {
			t.Errorf("roots/list outlived its session by %s: %v", time.Since(began), err)
		}
	})
}

func TestWorkingDirectorySurvivesARestart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "sessions")
	open := func() *rig {
		store, err := persist.OpenDir(dir, persist.DirConfig{})
		if err != nil {
			t.Fatal(err)
		}
		return start(t, setup{store: store})
	}
	r := open()
	c := r.connectWithRoots()
	c.respond(c.listen().rootsRequest(), oneRoot)
	c.workingDirectory()
	r.stop()
	r = open()
	c = &peer{rig: r, token: c.token, id: c.id}
	if cwd, project := c.workingDirectory(); cwd != "/home/ann/repo" || project != "repo" {
		t.Errorf("stored %q, project %q", cwd, project)
	}
	s := c.listen() // roots may have changed while the client read no stream
	c.respond(s.rootsRequest(), `"result":{"roots":[{"uri":"file:///b"}]}`)
	if cwd, project := c.workingDirectory(); cwd != "/b" || project != "b" {
		t.Errorf("stored %q, project %q", cwd, project)
	}
}

// rootsProvider is the roots handler of a client of mcp-go, with one root.
type rootsProvider struct {
	mu   sync.Mutex
	root mcp.Root
}

func (d *rootsProvider) ListRoots(context.Context, mcp.ListRootsRequest) (*mcp.ListRootsResult, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return &mcp.ListRootsResult{Roots: []mcp.Root{d.root}}, nil
}

func (d *rootsProvider) move(root mcp.Root) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.root = root
}

func TestMCPGoClientListsItsRoots(t *testing.T) {
	r := start(t, setup{})
	d := &rootsProvider{root: mcp.Root{URI: "file:///home/ann/my%20repo"}}
	c, _ := r.connectMCPGo(mcpGoUser{"ann"}, client.WithRootsHandler(d))
	expect := func(cwd, project string) {
		t.Helper()
		hubtest.Eventually(t, "the hub has stored the working directory", func() bool {
			all, _ := r.sessions.All()
			return len(all) == 1 && all[0].Cwd == cwd && all[0].Project == project
		})
	}
	expect("/home/ann/my repo", "my repo")
	d.move(mcp.Root{URI: "file:///srv/x", Name: "Other"})
	if err := c.RootListChanges(t.Context()); err != nil {
		t.Error(err)
	}
	expect("/srv/x", "Other")
}
