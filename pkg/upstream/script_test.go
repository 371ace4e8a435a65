package upstream

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

// script is an MCP server with tools that misbehave. It writes its messages by
// hand, so that tests see every byte, and serves over stdio (child_test.go) and
// HTTP (http_script_test.go).
type script struct {
	initialize string // the result; empty: all capabilities
	exit       func(code int)

	mu       sync.Mutex
	lines    []string // what it was sent
	tools    []string // raw, listed
	lists    map[string]func(params json.RawMessage) string
	answers  map[jsonrpc.ID]chan jsonrpc.Message // to its own requests
	asked    int
	held     map[string]chan struct{}
	barriers map[string]*sync.WaitGroup
}

const scriptInitialize = `{"protocolVersion":"2025-11-25","capabilities":{"tools":{"listChanged":true},"prompts":{},"resources":{}},` +
	`"serverInfo":{"name":"script","version":"1.0"},"instructions":"be nice"}`

func newScript() *script {
	return &script{initialize: scriptInitialize, exit: os.Exit, tools: []string{`{"name":"echo","inputSchema":{"type":"object"}}`},
		lists: map[string]func(json.RawMessage) string{}, answers: map[jsonrpc.ID]chan jsonrpc.Message{},
		held: map[string]chan struct{}{}, barriers: map[string]*sync.WaitGroup{}}
}

// exchange is one request to the script, with what sends messages that belong to it.
type exchange struct {
	*script
	ctx  context.Context
	m    jsonrpc.Message
	args struct {
		Text  string
		Key   string
		N     int
		Lines []string
	}
	send func(message string)
}

// note keeps a message that has arrived.
func (s *script) note(line []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, string(line))
}

// seen returns every message that has arrived.
func (s *script) seen() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.lines...)
}

// take takes a notification, or a response to one of the script's requests.
func (s *script) take(m jsonrpc.Message) {
	if m.Kind() != jsonrpc.Response {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if ch := s.answers[m.ID]; ch != nil {
		ch <- m
		delete(s.answers, m.ID)
	}
}

// handle answers a request: the text of the member result or error.
func (s *script) handle(ctx context.Context, m jsonrpc.Message, send func(string)) string {
	x := &exchange{script: s, ctx: ctx, m: m, send: send}
	s.mu.Lock()
	list := s.lists[m.Method]
	s.mu.Unlock()
	if list != nil {
		return list(m.Params)
	}
	switch m.Method {
	case "initialize":
		return `"result":` + s.initialize
	case "ping":
		return `"result":{}`
	case "tools/list":
		s.mu.Lock()
		defer s.mu.Unlock()
		return `"result":{"tools":[` + joined(s.tools) + `]}`
	case "prompts/list", "resources/list", "resources/templates/list":
		return `"error":{"code":-32601,"message":"no such method"}`
	case "tools/call":
		fields, err := jsonrpc.Fields(m.Params, "name", "arguments")
		if err != nil {
			return `"error":{"code":-32602,"message":"bad params"}`
		}
		var name string
		_ = json.Unmarshal(fields[0], &name)
		_ = json.Unmarshal(fields[1], &x.args)
		return x.tool(name)
	}
	return `"result":{"method":` + strconv.Quote(m.Method) + `,"params":` + raw(m.Params) + `}`
}

func raw(p json.RawMessage) string {
	if p == nil {
		return "null"
	}
	return string(p)
}

func joined(items []string) string {
	var b bytes.Buffer
	for i, item := range items {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(item)
	}
	return b.String()
}

// tool carries out a call of a tool.
func (x *exchange) tool(name string) string {
	switch name {
	case "echo": // the params as they came
		return `"result":{"params":` + raw(x.m.Params) + `}`
	case "raw": // a result of the caller's bytes
		return `"result":` + x.args.Text
	case "literally": // sends the caller's text, a string of Go, instead of an answer
		text, err := strconv.Unquote(x.args.Text)
		if err != nil {
			return `"error":{"code":-32602,"message":"bad text"}`
		}
		x.send(strings.ReplaceAll(text, "$ID", string(x.m.ID)))
		return ""
	case "rawError":
		return `"error":` + x.args.Text
	case "seen":
		lines, _ := json.Marshal(x.seen())
		return `"result":{"lines":` + string(lines) + `}`
	case "facts":
		environ, _ := json.Marshal(os.Environ())
		dir, _ := os.Getwd()
		return fmt.Sprintf(`"result":{"env":%s,"pid":%d,"pgid":%d,"dir":%q}`, environ, os.Getpid(), syscall.Getpgrp(), dir)
	case "progress":
		return x.progress()
	case "hold": // answers when released
		select {
		case <-x.hold(x.args.Key):
		case <-x.ctx.Done():
		}
		return `"result":{"held":true}`
	case "release":
		close(x.hold(x.args.Key))
		return `"result":{}`
	case "lines": // sends what it is told
		for _, l := range x.args.Lines {
			x.send(l)
		}
		return `"result":{}`
	case "ask":
		answer, _ := x.ask(x.args.Text, `{"of":`+strconv.Quote(x.args.Key)+`}`)
		return `"result":{"answer":` + string(answer.Encode()) + `}`
	case "flood":
		return x.flood()
	case "grow": // has one more tool, and says so before it answers
		x.mu.Lock()
		x.tools = append(x.tools, `{"name":"`+x.args.Key+`"}`)
		x.mu.Unlock()
		for range max(1, x.args.N) {
			x.send(`{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`)
		}
		return `"result":{}`
	case "crash":
		fmt.Fprintln(os.Stderr, "about to crash")
		x.exit(3)
	case "last words": // answers and ends at once
		x.send(`{"jsonrpc":"2.0","id":` + string(x.m.ID) + `,"result":{"last":true}}`)
		x.exit(0)
	case "grandchild":
		return x.grandchild()
	case "stderr":
		fmt.Fprintln(os.Stderr, x.args.Text)
		return `"result":{}`
	case "huge":
		x.send(`{"jsonrpc":"2.0","method":"x","params":{"a":"` + string(bytes.Repeat([]byte("a"), x.args.N)) + `"}}`)
		return `"result":{}`
	case "long":
		return `"result":{"a":"` + strings.Repeat("a", x.args.N) + `"}`
	case "close stdout":
		_ = os.Stdout.Close()
		forever()
	case "fail":
		return `"result":{"content":[],"isError":true}`
	}
	return `"error":{"code":-32602,"message":"unknown tool","data":{"tool":"?"}}`
}

// hold returns what is closed when key is released.
func (s *script) hold(key string) chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held[key] == nil {
		s.held[key] = make(chan struct{})
	}
	return s.held[key]
}

// progress sends three notifications once N callers are there.
func (x *exchange) progress() string {
	x.mu.Lock()
	b := x.barriers[x.args.Key]
	if b == nil {
		b = &sync.WaitGroup{}
		b.Add(x.args.N)
		x.barriers[x.args.Key] = b
	}
	x.mu.Unlock()
	b.Done()
	b.Wait()
	fields, _ := jsonrpc.Fields(x.m.Params, "_meta")
	token, _ := jsonrpc.Fields(fields[0], "progressToken")
	for i := range 3 {
		x.send(fmt.Sprintf(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progress":%d.50,"progressToken":%s,"message":%q}}`,
			i, token[0], x.args.Text))
	}
	return `"result":{}`
}

// ask sends a request of the script and waits for the answer.
func (x *exchange) ask(method, params string) (jsonrpc.Message, bool) {
	ch := make(chan jsonrpc.Message, 1)
	x.mu.Lock()
	x.asked++
	id := jsonrpc.ID(fmt.Sprintf(`"q-%d"`, x.asked))
	x.answers[id] = ch
	x.mu.Unlock()
	x.send(`{"jsonrpc":"2.0","id":` + string(id) + `,"method":` + strconv.Quote(method) + `,"params":` + params + `}`)
	select {
	case m := <-ch:
		return m, true
	case <-x.ctx.Done():
		return jsonrpc.Message{}, false
	}
}

// flood sends N requests at once and counts how they are answered.
func (x *exchange) flood() string {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var answered, refused int
	for range x.args.N {
		wg.Go(func() {
			m, ok := x.ask("sampling/createMessage", `{}`)
			mu.Lock()
			defer mu.Unlock()
			if ok && m.Error != nil {
				refused++
			} else if ok {
				answered++
			}
			if refused+answered == x.args.N-maxServerRequests { // the rest waits for this
				x.send(`{"jsonrpc":"2.0","method":"notifications/message","params":{"data":"the rest waits"}}`)
			}
		})
	}
	wg.Wait()
	return fmt.Sprintf(`"result":{"answered":%d,"refused":%d}`, answered, refused)
}

// grandchild starts a process that outlives its parent.
func (x *exchange) grandchild() string {
	exe, err := os.Executable()
	if err != nil {
		return `"error":{"code":1,"message":"no executable"}`
	}
	cmd := exec.Command(exe)
	cmd.Env = []string{"CHILD_MODE=sleep"}
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr // holds the pipes, as real ones do
	if x.args.Key == "setsid" {
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	}
	if err := cmd.Start(); err != nil {
		return `"error":{"code":1,"message":"no grandchild"}`
	}
	return fmt.Sprintf(`"result":{"pid":%d}`, cmd.Process.Pid)
}
