package real

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
)

// client is a client of somebody else, driven by a script in the directory clients.
type client struct {
	name     string
	packages []string // of npm, whose versions the document names
	script   []string // its file and arguments
	answers  []step   // the questions of a server that it can answer
	origin   bool     // its requests come from a page, which the hub has to allow
	chromium bool     // it needs Chromium
}

func clients() []client {
	all := []step{sampling, elicitation, roots}
	return []client{
		{
			name:     "TypeScript SDK v1",
			packages: []string{"@modelcontextprotocol/sdk"},
			script:   []string{"sdk-v1.mjs"},
			answers:  all,
		},
		{
			name: "TypeScript SDK v1 in a page", packages: []string{"@modelcontextprotocol/sdk"},
			script: []string{"page.mjs", "./sdk1.mjs"}, answers: all, origin: true, chromium: true,
		},
		{
			name: "TypeScript SDK v2, 2025-11-25", packages: []string{"@modelcontextprotocol/client"},
			script: []string{"sdk-v2-legacy.mjs"}, answers: all,
		},
		{
			name: "TypeScript SDK v2, 2026-07-28", packages: []string{"@modelcontextprotocol/client"},
			script: []string{"sdk-v2-modern.mjs"}, answers: all,
		},
		{
			name: "TypeScript SDK v2 in a page, 2026-07-28", packages: []string{"@modelcontextprotocol/client"},
			script: []string{"page.mjs", "./sdk2.mjs"}, answers: all, origin: true, chromium: true,
		},
		{
			name: "Inspector, command line", packages: []string{"@modelcontextprotocol/inspector"},
			script: []string{"inspector-cli.mjs"}, answers: []step{roots},
		},
		{
			name: "Inspector, page", packages: []string{"@modelcontextprotocol/inspector"},
			script: []string{"inspector-page.mjs"}, answers: all, chromium: true,
		},
		{
			name: "mcp-remote", packages: []string{"mcp-remote", "@modelcontextprotocol/sdk"},
			script: []string{"mcp-remote.mjs"}, answers: all,
		},
		{name: "AI SDK", packages: []string{"@ai-sdk/mcp"}, script: []string{"ai-sdk.mjs"}, answers: []step{elicitation}},
		{name: "LangChain", packages: []string{"@langchain/mcp-adapters"}, script: []string{"langchain.mjs"}},
	}
}

// patience is how long a client may take for one command, and a server to start.
const patience = 90 * time.Second

// running is a client at work. It takes commands, as clients/drive.mjs says.
type running struct {
	commands io.WriteCloser
	answers  *bufio.Scanner
	cmd      *exec.Cmd
	log      *hubtest.Buffer
}

// start runs the client until the test ends. It is a process group of its own, and
// what is left of that is killed.
func (c client) start(t *testing.T, in installed) *running {
	t.Helper()
	dir := t.TempDir()
	r := &running{log: &hubtest.Buffer{}}
	r.cmd = exec.Command(in.node, append([]string{filepath.Join(in.clients, c.script[0])}, c.script[1:]...)...)
	r.cmd.Dir = dir
	r.cmd.Env = append(os.Environ(), "HOME="+dir, "MCP_INSPECTOR_SECRET_STORE=memory", "MCPHUB_CHROMIUM="+in.chromium)
	r.cmd.Stderr = r.log
	r.cmd.WaitDelay = time.Second
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	commands, err := r.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	answers, err := r.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	r.commands, r.answers = commands, bufio.NewScanner(answers)
	r.answers.Buffer(nil, 16<<20)
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.end()
		if t.Failed() {
			t.Logf("log of the client:\n%s", r.log)
		}
	})
	return r
}

// end closes the client and kills what is left of it after ten seconds.
func (r *running) end() {
	left := newFamily(r.cmd.Process.Pid)
	_ = r.commands.Close()
	timer := time.AfterFunc(10*time.Second, func() { _ = syscall.Kill(-r.cmd.Process.Pid, syscall.SIGKILL) })
	for r.answers.Scan() {
	}
	_ = r.cmd.Wait()
	timer.Stop()
	left.kill()
}

// do has the client carry out one command; result is nil or gets the answer.
func (r *running) do(command string, with, result any) error {
	line, err := json.Marshal(map[string]any{"do": command, "with": with})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	// Without its answer a client is of no more use.
	defer context.AfterFunc(ctx, func() { _ = syscall.Kill(-r.cmd.Process.Pid, syscall.SIGKILL) })()
	if _, err := r.commands.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("the client has ended: %w", err)
	}
	if !r.answers.Scan() {
		if ctx.Err() != nil {
			return fmt.Errorf("%s: no answer for %s", command, patience)
		}
		return fmt.Errorf("%s: the client ended: %w", command, errors.Join(r.answers.Err(), io.ErrUnexpectedEOF))
	}
	var answer struct {
		Result json.RawMessage `json:"result"`
		Error  string          `json:"error"`
	}
	if err := json.Unmarshal(r.answers.Bytes(), &answer); err != nil {
		return fmt.Errorf("%s: %w", command, err)
	}
	if answer.Error != "" {
		return fmt.Errorf("%s: %s", command, answer.Error)
	}
	if result == nil {
		return nil
	}
	return json.Unmarshal(answer.Result, result)
}
