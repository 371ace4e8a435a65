package gateway

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

// The capabilities and lists of the child, in a spelling that any re-encoding would change.
const (
	childCapabilities = `{"tools":{"listChanged":true},"prompts":{},"resources":{"subscribe":true,"listChanged":true},"logging":{},` +
		`"completions":{},"tasks":{"list":{}},"experimental":{"x/y":{"n":1.50}}}`
	childTools = `[{"name":"echo","title":"\u00e9 <&>","inputSchema":{"type":"object","x-weird":[1.50,1e2,{"b":1,"a":2}]},` +
		`"_meta":{"z":0,"a":[ ]}},` +
		`{"inputSchema":{"type":"object"},"name":"weird"},{"name":"fail","inputSchema":{}},{"name":"work","inputSchema":{}},` +
		`{"name":"hang","inputSchema":{}},` +
		`{"name":"request","inputSchema":{}},{"name":"log","inputSchema":{}},{"name":"state","inputSchema":{}},{"name":"grow",` +
		`"inputSchema":{}},{"name":"flood","inputSchema":{}},{"name":"update","inputSchema":{}},{"name":"die","inputSchema":{}},` +
		`{"name":"gated","inputSchema":{}},{"name":"gate","inputSchema":{}},{"name":"requests","inputSchema":{}},` +
		`{"name":"notify","inputSchema":{}},{"name":"notifyLater","inputSchema":{}}]`
	childPrompts   = `[{"name":"greet","arguments":[{"name":"who"}]}]`
	childResources = `[{"uri":"test://%s/one","name":"one"},{"uri":"test://both","name":"both"}]`
	childTemplates = `[{"uriTemplate":"test://%s/item/{id}","name":"item"}]`
	weirdResult    = `{"content": [ {"type":"text","text":"\u00e9\ud83d\ude00 </script>"} ], "n": 1.50, "big":12345678901234567890,` +
		` "exp":1E+2, "dup":1, "dup":2, "z":null ,"_meta":{"k":{}}}`
)

// child is a server over stdio that answers in any order and records what it receives.
type child struct {
	name string

	mu          sync.Mutex
	out         io.Writer
	cancels     map[jsonrpc.ID]chan struct{}
	answers     map[jsonrpc.ID]chan jsonrpc.Message
	gate        chan struct{}
	lastRequest int
	grown       bool
	state       childState
}

// childState is the result of the tool state.
type childState struct {
	Level         string            `json:"level"`
	Subscriptions []string          `json:"subscriptions"`
	Cancelled     []json.RawMessage `json:"cancelled"` // the arguments of the calls
	Hanging       int               `json:"hanging"`
	Seen          map[string]int    `json:"seen"` // by method
	Env           []string          `json:"env"`
	Progress      []json.RawMessage `json:"progress"` // of the responses to its requests
	Late          []json.RawMessage `json:"late"`     // results of requests for which no tool waits
}

func serveStdio(name string, in io.Reader, out io.Writer) {
	c := &child{name: name, out: out, cancels: map[jsonrpc.ID]chan struct{}{}, answers: map[jsonrpc.ID]chan jsonrpc.Message{},
		gate:  make(chan struct{}),
		state: childState{Seen: map[string]int{}, Env: os.Environ()}}
	r := bufio.NewReader(in)
	for {
		line, err := r.ReadBytes('\n')
		if err != nil {
			return
		}
		if m, err := jsonrpc.Parse(line); err == nil {
			c.handle(m)
		}
	}
}

func (c *child) send(m jsonrpc.Message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, _ = c.out.Write(append(m.Encode(), '\n'))
}

func (c *child) handle(m jsonrpc.Message) {
	c.mu.Lock()
	c.state.Seen[m.Method]++
	answer := c.answers[m.ID]
	cancelled := make(chan struct{})
	if m.Kind() == jsonrpc.Request {
		c.cancels[m.ID] = cancelled
	}
	if m.Method == "custom/gate" { // as the tool gate, but without a call, to which a request of the server could belong
		go func() { c.gate <- struct{}{} }()
	}
	if m.Method == "notifications/progress" {
		c.state.Progress = append(c.state.Progress, m.Params)
	}
	if m.Method == "notifications/cancelled" {
		id, _ := jsonrpc.Fields(m.Params, "requestId")
		if ch := c.cancels[jsonrpc.ID(id[0])]; ch != nil {
			delete(c.cancels, jsonrpc.ID(id[0]))
			close(ch)
		}
	}
	c.mu.Unlock()
	switch {
	case m.Kind() == jsonrpc.Response && answer != nil:
		answer <- m
	case m.Kind() == jsonrpc.Response:
		c.mu.Lock()
		c.state.Late = append(c.state.Late, m.Result)
		c.mu.Unlock()
	case m.Kind() == jsonrpc.Request:
		go func() {
			if result := c.answer(m, cancelled); result.Kind() == jsonrpc.Response && (result.Result != nil || result.Error != nil) {
				result.ID = m.ID
				c.send(result)
			}
		}()
	}
}

func result(format string, args ...any) jsonrpc.Message {
	return jsonrpc.Message{Result: fmt.Appendf(nil, format, args...)}
}

func jsonMessage(method, params string) jsonrpc.Message {
	return jsonrpc.Message{Method: method, Params: json.RawMessage(params)}
}

func failure(raw string) jsonrpc.Message { return jsonrpc.Message{Error: json.RawMessage(raw)} }

func (c *child) answer(m jsonrpc.Message, cancelled chan struct{}) jsonrpc.Message {
	switch m.Method {
	case "initialize":
		return result(`{"protocolVersion":"2025-11-25","capabilities":%s,"serverInfo":{"name":"child","version":"1"},`+
			`"instructions":"Be kind to %s."}`,
			childCapabilities, c.name)
	case "tools/list":
		tools := childTools
		c.mu.Lock()
		if c.grown {
			tools = strings.TrimSuffix(tools, "]") + `,{"name":"grown","inputSchema":{}}]`
		}
		c.mu.Unlock()
		return result(`{"tools":%s,"_meta":{"page":1.0}}`, tools)
	case "prompts/list":
		return result(`{"prompts":%s}`, childPrompts)
	case "resources/list":
		return result(`{"resources":`+childResources+`}`, c.name)
	case "resources/templates/list":
		return result(`{"resourceTemplates":`+childTemplates+`}`, c.name)
	case "prompts/get", "completion/complete", "resources/read", "custom/echo":
		return result(`{"server":%q,"params":%s}`, c.name, m.Params)
	case "resources/subscribe", "resources/unsubscribe":
		var params struct{ URI string } // as servers in Go read it: names in any case, and the last one counts
		_ = json.Unmarshal(m.Params, &params)
		uri := params.URI
		if strings.HasSuffix(uri, "/refused") {
			return failure(`{"code":-32602,"message":"not this one"}`)
		}
		if strings.HasSuffix(uri, "/now") && m.Method == "resources/subscribe" { // the resource changes at once
			c.send(jsonMessage("notifications/resources/updated", `{"uri":"`+uri+`","n":1.50}`))
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.state.Subscriptions = slices.DeleteFunc(c.state.Subscriptions, func(s string) bool { return s == uri })
		if m.Method == "resources/subscribe" {
			c.state.Subscriptions = append(c.state.Subscriptions, uri)
		}
		return result(`{}`)
	case "logging/setLevel":
		c.mu.Lock()
		defer c.mu.Unlock()
		var params struct{ Level string }
		_ = json.Unmarshal(m.Params, &params)
		c.state.Level = params.Level
		return result(`{}`)
	case "ping":
		return result(`{}`)
	case "tools/call":
		return c.call(m, cancelled)
	}
	return failure(`{"code":-32601,"message":"no such method here","data":{"method": "` + m.Method + `"},"extra":1.0}`)
}

// call runs a tool.
func (c *child) call(m jsonrpc.Message, cancelled chan struct{}) jsonrpc.Message {
	fields, _ := jsonrpc.Fields(m.Params, "arguments", "_meta")
	if fields[0] == nil {
		fields[0] = json.RawMessage(`{}`)
	}
	args, _ := jsonrpc.Fields(fields[0], "error", "steps", "method", "params", "size", "id")
	token, _ := jsonrpc.Fields(fields[1], "progressToken")
	tool, _ := jsonrpc.StringField(m.Params, "name")
	switch tool {
	case "echo":
		return result(`{"content":[],"server":%q,"params":%s}`, c.name, m.Params)
	case "weird":
		return result(`%s`, weirdResult)
	case "fail":
		if args[0] == nil {
			return result(`{"isError":true,"content":[]}`)
		}
		return failure(string(args[0]))
	case "work":
		steps := 2
		var lenient struct {
			Meta map[string]json.RawMessage `json:"_meta"`
		}
		_ = json.Unmarshal(m.Params, &lenient)
		token[0] = lenient.Meta["progressToken"]
		_ = json.Unmarshal(args[1], &steps)
		for i := range steps {
			if token[0] != nil {
				c.send(jsonrpc.Message{Method: "notifications/progress",
					Params: fmt.Appendf(nil, `{"progressToken":%s,"progress":%d,"of":%s}`, token[0], i+1, fields[0])})
			}
		}
		return result(`{"content":[],"of":%s}`, fields[0])
	case "gated": // like work, but waits for the tool gate before each step
		return c.gated(fields[0], token[0])
	case "gate": // releases steps of gated
		steps := 1
		_ = json.Unmarshal(args[1], &steps)
		for range steps {
			c.gate <- struct{}{}
		}
		return result(`{"content":[]}`)
	case "hang":
		c.mu.Lock()
		c.state.Hanging++
		c.mu.Unlock()
		if token[0] != nil {
			c.send(jsonrpc.Message{Method: "notifications/progress",
				Params: fmt.Appendf(nil, `{"progressToken":%s,"progress":0,"of":%s}`, token[0], fields[0])})
		}
		<-cancelled
		c.mu.Lock()
		defer c.mu.Unlock()
		c.state.Hanging--
		c.state.Cancelled = append(c.state.Cancelled, fields[0])
		return jsonrpc.Message{}
	case "request":
		return c.request(args[2], args[3], args[4])
	case "requests":
		return c.requestInRounds(fields[0])
	case "log":
		if string(args[4]) == "2" {
			c.send(jsonMessage("notifications/message", `{"level":"debug","data":{"n":1.50}}`))
		}
		c.send(jsonMessage("notifications/message", `{"level":"info","data":{"n":1.50}}`))
		return result(`{"content":[]}`)
	case "flood":
		n := 0
		_ = json.Unmarshal(args[4], &n)
		for range n {
			c.send(jsonrpc.Message{Method: "notifications/progress",
				Params: fmt.Appendf(nil, `{"progressToken":%s,"progress":1,"message":%q}`, token[0], strings.Repeat("x", 8<<10))})
		}
		return result(`{"content":[]}`)
	case "update":
		c.send(jsonMessage("notifications/resources/updated", `{"uri":"test://`+c.name+`/one"}`))
		return result(`{"content":[]}`)
	case "notify", "notifyLater": // sends a notification during the call, or after it; with an id, it is a request
		var method string
		_ = json.Unmarshal(args[2], &method)
		notification := jsonrpc.Message{Method: method, Params: args[3], ID: jsonrpc.ID(args[5])}
		if tool == "notify" {
			c.send(notification)
		} else {
			time.AfterFunc(20*time.Millisecond, func() { c.send(notification) })
		}
		return result(`{"content":[]}`)
	case "state":
		c.mu.Lock()
		defer c.mu.Unlock()
		b, _ := json.Marshal(c.state)
		return result(`{"content":[],"state":%s}`, b)
	case "grow":
		c.mu.Lock()
		c.grown = true
		c.mu.Unlock()
		defer time.AfterFunc(20*time.Millisecond, func() { c.send(jsonrpc.Message{Method: "notifications/tools/list_changed"}) })
		return result(`{"content":[]}`)
	case "die":
		if args[4] != nil { // as kill -9 does
			if self, err := os.FindProcess(os.Getpid()); err == nil {
				_ = self.Kill()
			}
			select {}
		}
		os.Exit(3) //nolint:gocritic // the tool simulates a crash, which runs no defers
	}
	return failure(`{"code":-32602,"message":"no such tool here"}`)
}

// gated waits for the tool gate before each step and before the result. A step sends a request if there is a method,
// and size progress notifications otherwise.
func (c *child) gated(arguments, token json.RawMessage) jsonrpc.Message {
	args := struct {
		Steps  int             `json:"steps"`
		Size   int             `json:"size"`
		Method json.RawMessage `json:"method"`
		Params json.RawMessage `json:"params"`
	}{Steps: 2, Size: 1}
	_ = json.Unmarshal(arguments, &args)
	answers := []json.RawMessage{}
	for i := range args.Steps {
		<-c.gate
		if args.Method != nil {
			answers = append(answers, c.request(args.Method, args.Params, nil).Result)
			continue
		}
		for range args.Size {
			c.send(jsonrpc.Message{Method: "notifications/progress",
				Params: fmt.Appendf(nil, `{"progressToken":%s,"progress":%d}`, token, i+1)})
		}
	}
	<-c.gate
	b, _ := json.Marshal(answers)
	return result(`{"content":[],"of":%s,"answers":%s}`, arguments, b)
}

// requestInRounds sends requests in rounds, those of one round at once. With leave it does not wait for the responses
// of the last round, but for the tool gate.
func (c *child) requestInRounds(arguments json.RawMessage) jsonrpc.Message {
	var args struct {
		Rounds [][]json.RawMessage `json:"rounds"`
		Leave  bool                `json:"leave"`
	}
	_ = json.Unmarshal(arguments, &args)
	var rounds [][]json.RawMessage
	for n, requests := range args.Rounds {
		answers := make([]json.RawMessage, len(requests))
		var asking sync.WaitGroup
		for i, params := range requests {
			asking.Go(func() { answers[i] = c.request(json.RawMessage(`"elicitation/create"`), params, nil).Result })
		}
		if args.Leave && n == len(args.Rounds)-1 {
			<-c.gate
			return result(`{"content":[],"left":true}`)
		}
		asking.Wait()
		rounds = append(rounds, answers)
	}
	b, _ := json.Marshal(rounds)
	return result(`{"content":[],"rounds":%s}`, b)
}

// request sends a request to the client. With patience, in ms, it cancels the request after that time.
func (c *child) request(method, params, patience json.RawMessage) jsonrpc.Message {
	var name string
	_ = json.Unmarshal(method, &name)
	reply := make(chan jsonrpc.Message, 1)
	c.mu.Lock()
	c.lastRequest++
	id := jsonrpc.ID(fmt.Sprintf(`"q%d"`, c.lastRequest))
	c.answers[id] = reply
	c.mu.Unlock()
	c.send(jsonrpc.Message{ID: id, Method: name, Params: params})
	var limit <-chan time.Time // never
	if ms := 0; json.Unmarshal(patience, &ms) == nil {
		limit = time.After(time.Duration(ms) * time.Millisecond)
	}
	var m jsonrpc.Message
	select {
	case m = <-reply:
	case <-limit:
		c.send(jsonrpc.Message{Method: "notifications/cancelled", Params: fmt.Appendf(nil, `{"requestId":%s}`, id)})
		return result(`{"content":[]}`)
	}
	if m.Error != nil {
		return result(`{"content":[],"refused":%s}`, m.Error)
	}
	return result(`{"content":[],"answer":%s}`, m.Result)
}

// stdio returns a child server with that name.
func stdio(t testing.TB, name string) upstream.Spec {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return upstream.Spec{Name: name, Command: self, Env: []string{childVariable + "=" + name,
		"GORACE=atexit_sleep_ms=0"}} // with the race detector, each child would end a second later
}

// absent returns a server that cannot be started.
func absent(name string) upstream.Spec {
	return upstream.Spec{Name: name, Command: "/nonexistent/" + name}
}
