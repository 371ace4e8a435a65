package real

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
)

// server is a server of somebody else.
type server struct {
	name     string
	packages []string // of npm, whose versions the document names
	chromium bool     // it needs Chromium
	start    func(*testing.T, *rig) behaviour
}

// behaviour is how a started server is configured and what is expected of it.
type behaviour struct {
	entry   map[string]any // its entry of mcpServers
	lists   []string       // some of its tools
	prompts []string       // some of its prompts
	call    toolCall
	later   toolCall          // what still works after it was killed
	asks    map[step]toolCall // tools that ask the client
	restart func(*testing.T)  // kills and starts a server over HTTP; nil for a child of the hub
}

// toolCall is a call of a tool, whose result contains a text.
type toolCall struct {
	tool string
	args map[string]any
	want string
	soon bool // the result depends on a question that is no part of the call
}

// rig is what a pair is given besides the hub.
type rig struct {
	installed
	root string // the directory that the client has as its only root
}

func (r *rig) rootURI() string { return "file://" + r.root }

func servers() []server {
	reference := func(name string) []string { return []string{"@modelcontextprotocol/server-" + name} }
	return []server{
		{name: "everything, stdio", packages: reference("everything"), start: everythingShared},
		{name: "everything, stdio, one for each session", packages: reference("everything"), start: everythingIsolated},
		{name: "everything, Streamable HTTP", packages: reference("everything"), start: everythingHTTP},
		{name: "everything, HTTP+SSE", packages: reference("everything"), start: everythingSSE},
		{name: "filesystem", packages: reference("filesystem"), start: filesystem},
		{name: "memory", packages: reference("memory"), start: memory},
		{name: "sequential-thinking", packages: reference("sequential-thinking"), start: sequentialThinking},
		{name: "playwright", packages: []string{"@playwright/mcp"}, chromium: true, start: playwright},
	}
}

// child returns the entry of a server that the hub starts: a file of an installed
// package and its arguments. It runs in a directory of its own: some leave files.
func (r *rig) child(t *testing.T, entry map[string]any, pkg, file string, args ...string) map[string]any {
	t.Helper()
	entry["cwd"] = t.TempDir()
	entry["command"] = r.node
	entry["args"] = append([]string{r.script(pkg, file)}, args...)
	return entry
}

// overHTTP starts a server that listens on the port in PORT, and returns its address
// and what kills it and starts it again there.
func (r *rig) overHTTP(t *testing.T, pkg, file string, args ...string) (address string, restart func(*testing.T)) {
	t.Helper()
	address = hubtest.FreeAddress(t)
	_, port, _ := strings.Cut(address, ":")
	start := func(t *testing.T) *hubtest.Process {
		t.Helper()
		p := hubtest.StartProcess(t, "/usr/bin/env", append([]string{"PORT=" + port, r.node,
			"--import", filepath.Join(r.clients, "loopback.mjs"), r.script(pkg, file)}, args...)...)
		eventually(t, "the server listens", func() bool {
			status, _ := hubtest.Get(t, "http://"+address+"/")
			return status == http.StatusNotFound
		})
		return p
	}
	process := start(t)
	return address, func(t *testing.T) {
		t.Helper()
		process.Kill()
		process = start(t)
	}
}

const everything = "@modelcontextprotocol/server-everything"

// everythingShared is one process for all clients, which therefore has no roots.
func everythingShared(t *testing.T, r *rig) behaviour {
	t.Helper()
	b := everythingBehaviour(r)
	delete(b.asks, roots)
	b.entry = r.child(t, map[string]any{}, everything, "dist/index.js", "stdio")
	return b
}

func everythingIsolated(t *testing.T, r *rig) behaviour {
	t.Helper()
	b := everythingBehaviour(r)
	b.entry = r.child(t, map[string]any{"isolation": "session"}, everything, "dist/index.js", "stdio")
	return b
}

func everythingHTTP(t *testing.T, r *rig) behaviour {
	t.Helper()
	b := everythingBehaviour(r)
	var address string
	address, b.restart = r.overHTTP(t, everything, "dist/index.js", "streamableHttp")
	b.entry = map[string]any{"url": "http://" + address + "/mcp"}
	return b
}

func everythingSSE(t *testing.T, r *rig) behaviour {
	t.Helper()
	b := everythingBehaviour(r)
	var address string
	address, b.restart = r.overHTTP(t, everything, "dist/index.js", "sse")
	b.entry = map[string]any{"url": "http://" + address + "/sse", "type": "sse"}
	return b
}

func everythingBehaviour(r *rig) behaviour {
	echo := toolCall{tool: "echo", args: map[string]any{"message": "hello"}, want: "Echo: hello"}
	return behaviour{
		lists:   []string{"echo", "get-sum", "trigger-long-running-operation"},
		prompts: []string{"simple-prompt"},
		call:    echo,
		later:   echo,
		asks: map[step]toolCall{
			sampling: {
				tool: "trigger-sampling-request",
				args: map[string]any{"prompt": "6 x 7", "maxTokens": 9},
				want: "forty-two",
			},
			elicitation: {tool: "trigger-elicitation-request", want: "Ada Lovelace"},
			roots:       {tool: "get-roots-list", want: r.rootURI()},
		},
	}
}

// filesystem has a directory of its own for clients that have no roots; those of a
// client replace it, some time after it was started.
func filesystem(t *testing.T, r *rig) behaviour {
	t.Helper()
	directories := toolCall{tool: "list_allowed_directories", want: "Allowed directories"}
	return behaviour{
		entry: r.child(t, map[string]any{"isolation": "session"},
			"@modelcontextprotocol/server-filesystem", "dist/index.js", t.TempDir()),
		lists: []string{"read_text_file", "list_allowed_directories"},
		call:  directories,
		later: directories,
		asks:  map[step]toolCall{roots: {tool: "list_allowed_directories", want: r.root, soon: true}},
	}
}

// memory has stored what it was told before it was killed.
func memory(t *testing.T, r *rig) behaviour {
	t.Helper()
	file := filepath.Join(t.TempDir(), "memory.jsonl")
	fact := map[string]any{"name": "Ada", "entityType": "person", "observations": []string{"wrote the first program"}}
	return behaviour{
		entry: r.child(t, map[string]any{"env": map[string]string{"MEMORY_FILE_PATH": file}},
			"@modelcontextprotocol/server-memory", "dist/index.js"),
		lists: []string{"create_entities", "read_graph"},
		call:  toolCall{tool: "create_entities", args: map[string]any{"entities": []any{fact}}, want: "Ada"},
		later: toolCall{tool: "read_graph", want: "wrote the first program"},
	}
}

func sequentialThinking(t *testing.T, r *rig) behaviour {
	t.Helper()
	think := toolCall{tool: "sequentialthinking", want: "thoughtHistoryLength", args: map[string]any{
		"thought": "first", "nextThoughtNeeded": false, "thoughtNumber": 1, "totalThoughts": 1,
	}}
	return behaviour{
		entry: r.child(t, map[string]any{}, "@modelcontextprotocol/server-sequential-thinking", "dist/index.js"),
		lists: []string{"sequentialthinking"},
		call:  think,
		later: think,
	}
}

// playwright opens a page in Chromium, which dies with it.
func playwright(t *testing.T, r *rig) behaviour {
	t.Helper()
	page := hubtest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte("<!doctype html><title>A page of the test</title><p>hello"))
	}))
	open := toolCall{tool: "browser_navigate", args: map[string]any{"url": page}, want: "A page of the test"}
	return behaviour{
		entry: r.child(t, map[string]any{"env": map[string]string{"HOME": t.TempDir()}}, "@playwright/mcp", "cli.js",
			"--headless", "--isolated", "--no-sandbox", "--executable-path", r.chromium),
		lists: []string{"browser_navigate", "browser_snapshot"},
		call:  open,
		later: open,
	}
}

// configuration returns a configuration file with one server, named real.
func configuration(t *testing.T, entry map[string]any, origins ...string) string {
	t.Helper()
	text, err := json.Marshal(map[string]any{"allowedOrigins": origins, "mcpServers": map[string]any{"real": entry}})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// makeRoot makes the directory that is the client's root.
func makeRoot(t *testing.T) string {
	t.Helper()
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(root, "work"), 0o755); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(root, "work")
}
