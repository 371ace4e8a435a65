package upstream

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
)

// The limits of package transport for a child.
const (
	writeQueue   = 256     // lines that wait to be written
	maxLogLine   = 8 << 10 // bytes of a line of stderr
	stdinGrace   = 2 * time.Second
	termGrace    = 2 * time.Second
	drainTimeout = time.Second // for the output of a child that has exited
)

// childSpec is a server that runs this test binary in one of the modes of childMain. Its environment configures it.
func childSpec(t testing.TB, mode string, env ...string) Spec {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	env = append([]string{"CHILD_MODE=" + mode, "GORACE=atexit_sleep_ms=0"}, env...) // the race detector's exit takes a second
	return Spec{Name: "child", Command: exe, Env: env, Era: protocol.Legacy,
		ConnectTimeout: patience, CallTimeout: patience}
}

// childMain is a server over stdio, or a process that only looks like one.
func childMain(mode string) {
	switch mode {
	case "exit":
		fmt.Fprintln(os.Stderr, "the configuration is wrong")
		os.Exit(7)
	case "sleep": // a grandchild
		forever()
		return
	case "mcp-go":
		_ = server.NewStdioServer(newMCPServer()).Listen(context.Background(), os.Stdin, os.Stdout)
		return
	case "mcp-go modern", "go-sdk":
		modernChild(mode)
		return
	case "ignores stdin":
		defer forever()
	case "ignores everything":
		signal.Ignore(syscall.SIGTERM)
		defer forever()
	case "ping first":
		fmt.Println(`{"jsonrpc":"2.0","id":"early","method":"ping"}`)
	case "noise":
		fmt.Print("Welcome to the server!\n\n{\"half\":\n\xff\xfe\n[1,2]\n{\"level\":\"info\",\"id\":1,\"result\":{}}\r\n")
	}
	if delay, err := time.ParseDuration(os.Getenv("CHILD_DELAY")); err == nil { // npx downloads
		fmt.Fprintln(os.Stderr, "downloading")
		<-time.After(delay)
	}
	c := child{mode: mode, script: newScript(), log: os.Getenv("CHILD_LOG"), silent: mode == "silent", gate: os.Getenv("CHILD_GATE")}
	if init := os.Getenv("CHILD_INIT"); init != "" {
		c.initialize = init
	}
	if mode == "modern only" {
		c.lists["initialize"] = func(json.RawMessage) string { return `"error":{"code":-32601,"message":"no such method"}` }
	}
	if strings.HasPrefix(mode, "modern") || mode == "asks modern" {
		c.lists["server/discover"] = func(json.RawMessage) string { return discovery(allChange, protocol.ModernVersion) }
	}
	if strings.HasPrefix(mode, "dual") {
		c.speakBoth(mode)
	}
	if tool := os.Getenv("CHILD_TOOL"); tool != "" {
		c.tools = append(c.tools, tool)
	}
	if mode == "asks modern" {
		c.lists["tools/call"] = func(params json.RawMessage) string {
			if !strings.Contains(string(params), `"inputResponses"`) {
				return `"result":` + wants(`"q":{"method":"elicitation/create"}`, "")
			}
			return `"result":{"params":` + string(params) + `}`
		}
	}
	c.serve()
}

// forever is longer than any test.
func forever() { <-time.After(time.Minute) }

// child speaks the script over stdio.
type child struct {
	*script
	mode   string
	log    string // a file that gets what the child reads
	gate   string // a file that has to be there before initialize is answered
	silent bool   // about initialize
	out    sync.Mutex
	probed atomic.Bool // was asked for its versions
}

func (c *child) write(line string) {
	c.out.Lock()
	defer c.out.Unlock()
	_, _ = os.Stdout.WriteString(line + "\n")
}

func (c *child) serve() {
	in := bufio.NewReaderSize(os.Stdin, 1<<20)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return
		}
		c.keep(line)
		m, err := jsonrpc.Parse(line)
		switch {
		case err != nil:
			fmt.Fprintln(os.Stderr, "not a message:", err)
		case m.Kind() != jsonrpc.Request:
			c.take(m)
		case c.odd(c.mode, m):
		case m.Method == "tools/call" && strings.Contains(string(m.Params), `"name":"deaf"`):
			forever() // reads nothing any more
		default:
			go c.answer(m)
		}
	}
}

func (c *child) keep(line []byte) {
	c.note(line)
	if c.log == "" {
		return
	}
	f, err := os.OpenFile(c.log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		_, _ = f.Write(line)
		_ = f.Close()
	}
}

func (c *child) answer(m jsonrpc.Message) {
	if m.Method == "initialize" {
		if c.silent {
			return
		}
		for tick := time.NewTicker(5 * time.Millisecond); c.gate != ""; <-tick.C {
			if _, err := os.Stat(c.gate); err == nil {
				break
			}
		}
	}
	if answer := c.handle(context.Background(), m, c.write); answer != "" {
		c.write(`{"jsonrpc":"2.0","id":` + string(m.ID) + `,` + answer + `}`)
	}
}

// newMCPServer is a server written with mcp-go, with a tool that reports progress.
func newMCPServer() *server.MCPServer {
	s := server.NewMCPServer("real", "2.0", server.WithToolCapabilities(true), server.WithPromptCapabilities(false))
	s.AddTool(mcp.NewTool("greet", mcp.WithString("name")), func(ctx context.Context, r mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		if meta := r.Params.Meta; meta != nil && meta.ProgressToken != nil {
			_ = server.ServerFromContext(ctx).SendNotificationToClient(ctx, "notifications/progress",
				map[string]any{"progressToken": meta.ProgressToken, "progress": 1})
		}
		return mcp.NewToolResultText("hello " + r.GetString("name", "?")), nil
	})
	s.AddPrompt(mcp.NewPrompt("ask"), func(context.Context, mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
		return &mcp.GetPromptResult{}, nil
	})
	return s
}

// received waits until the log of a child has a line with all of the words.
func received(t testing.TB, log string, words ...string) string {
	t.Helper()
	var found string
	hubtest.Eventually(t, fmt.Sprintf("the child is sent %q", words), func() bool {
		for line := range strings.SplitSeq(readFile(log), "\n") {
			all := line != ""
			for _, w := range words {
				all = all && strings.Contains(line, w)
			}
			if all {
				found = line
				return true
			}
		}
		return false
	})
	return found
}

func readFile(name string) string {
	b, _ := os.ReadFile(name)
	return string(b)
}

// facts asks a child about itself.
type childFacts struct {
	Env       []string
	Pid, Pgid int
	Dir       string
}

func facts(t testing.TB, c caller) childFacts {
	t.Helper()
	var f childFacts
	if err := json.Unmarshal(tool(t, c, "facts", "").Result, &f); err != nil {
		t.Fatal(err)
	}
	return f
}

// alive reports whether the process pid runs, and whether it exists: a zombie exists and does not run.
func alive(pid int) (runs, exists bool) {
	stat := readFile(fmt.Sprintf("/proc/%d/stat", pid))
	if stat == "" {
		return false, false
	}
	_, rest, _ := strings.Cut(stat, ") ")
	return !strings.HasPrefix(rest, "Z"), true
}
