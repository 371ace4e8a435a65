package hubtest

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

// Script is an MCP server whose answers a test writes by hand. It serves
// Streamable HTTP as an http.Handler and stdio by ServeStdio; one Script may
// serve several clients. The fields are set before it serves.
type Script struct {
	Modern       bool               // speak ModernVersion instead of LegacyVersion
	Capabilities string             // raw object; default: tools
	Tools        map[string]Handler // by name; tools/list lists them in alphabetical order

	// Handle answers requests in place of the script; where it returns nil, the
	// script answers as usual. It is called from several goroutines.
	Handle func(*Call) *Reply

	// Intercept answers HTTP requests in place of the script if it returns true:
	// for faults of the transport. The message is empty if the body is none. The
	// script has recorded the message, but Handle does not get it.
	Intercept func(w http.ResponseWriter, r *http.Request, m jsonrpc.Message) bool

	mu       sync.Mutex
	received []Received
	waiting  map[jsonrpc.ID]chan jsonrpc.Message // requests of the script, by id
	calls    map[callKey]context.CancelFunc      // requests of clients that are not answered yet
	streams  map[*announcements]bool             // open streams for what belongs to no request
	sessions map[string]bool                     // of legacy clients over HTTP
	names    int
}

// Received is a message that a script got.
type Received struct {
	jsonrpc.Message             // as it came
	Header          http.Header // of the HTTP request; nil over stdio
}

// Handler answers a call of a tool.
type Handler func(*Call) Reply

// Reply is the raw result or the raw error of a response. A modern script adds
// to a result what every result has to have, unless it has a resultType.
type Reply struct{ Result, Error json.RawMessage }

// Text is the result of a tool call that has one text.
func Text(text string) Reply {
	return Reply{Result: json.RawMessage(`{"content":[{"type":"text","text":` + string(jsonrpc.String(text)) + `}]}`)}
}

// Failure is a JSON-RPC error.
func Failure(code int, message string) Reply {
	return Reply{Error: json.RawMessage(fmt.Sprintf(`{"code":%d,"message":%s}`, code, jsonrpc.String(message)))}
}

// Call is a request that a script got.
type Call struct {
	Received

	ctx    context.Context
	script *Script
	send   func(message []byte)
}

// callKey names a request: different clients use the same ids.
type callKey struct {
	session string
	id      jsonrpc.ID
}

// Context ends when the client cancels the request, by a notification or by
// closing the connection, and when the script ends. A cancelled request gets no
// response.
func (c *Call) Context() context.Context { return c.ctx }

// Arguments decodes the arguments of a tool call.
func (c *Call) Arguments(into any) error {
	arguments, err := jsonrpc.Field(c.Params, "arguments")
	if err != nil {
		return err
	}
	return json.Unmarshal(arguments, into)
}

// ProgressToken returns the raw progress token of the request; nil if it has none.
func (c *Call) ProgressToken() json.RawMessage { return ProgressToken(c.Params) }

// ProgressToken returns the raw progress token in the params of a request; nil
// if there is none.
func ProgressToken(params json.RawMessage) json.RawMessage {
	meta, err := jsonrpc.Field(params, "_meta")
	if err != nil {
		return nil
	}
	token, err := jsonrpc.Field(meta, "progressToken")
	if err != nil {
		return nil
	}
	return token
}

// Send sends a line to the client before the reply, on the stream of the
// request. It need not be a message.
func (c *Call) Send(line string) { c.send([]byte(line)) }

// Notify sends a notification with raw params to the client before the reply.
func (c *Call) Notify(method, params string) {
	c.send(jsonrpc.Message{Method: method, Params: json.RawMessage(params)}.Encode())
}

// Ask sends a request with raw params to the client, as legacy servers do, and
// waits for the response.
func (c *Call) Ask(method, params string) (jsonrpc.Message, error) {
	id, response := c.script.expect()
	c.send(jsonrpc.Message{ID: id, Method: method, Params: json.RawMessage(params)}.Encode())
	select {
	case m := <-response:
		return m, nil
	case <-c.ctx.Done():
		return jsonrpc.Message{}, fmt.Errorf("asking the client %s: %w", method, c.ctx.Err())
	}
}

// Received returns the messages of that method that the script got so far, in
// their order; all messages for "".
func (s *Script) Received(method string) []Received {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(s.received), func(m Received) bool { return method != "" && m.Method != method })
}

func (s *Script) record(m Received) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.received = append(s.received, m)
}

// accept takes a message of a session. For a request it returns the function that
// makes the response, which is nil if the request is cancelled meanwhile; send sends
// a message before the response. For other messages it returns nil.
func (s *Script) accept(ctx context.Context, session string, m Received, send func([]byte)) (answer func() []byte) {
	switch m.Kind() {
	case jsonrpc.Request:
		key := callKey{session, m.ID}
		ctx, cancel := context.WithCancelCause(ctx)
		s.begin(key, func() { cancel(errCancelled) }) // before the next message, which may cancel it
		return func() []byte {
			defer s.end(key)
			r := s.reply(&Call{Received: m, ctx: ctx, script: s, send: send})
			if errors.Is(context.Cause(ctx), errCancelled) {
				return nil
			}
			return jsonrpc.Message{ID: m.ID, Result: r.Result, Error: r.Error}.Encode()
		}
	case jsonrpc.Response:
		s.mu.Lock()
		defer s.mu.Unlock()
		if waiting := s.waiting[m.ID]; waiting != nil {
			delete(s.waiting, m.ID)
			waiting <- m.Message
		}
	case jsonrpc.Notification:
		if id, err := jsonrpc.Field(m.Params, "requestId"); err == nil && m.Method == "notifications/cancelled" {
			s.end(callKey{session, jsonrpc.ID(id)})
		}
	}
	return nil
}

// errCancelled is the cause of the end of a Call whose client cancelled it.
var errCancelled = errors.New("the client has cancelled the request")

// unique returns a name that begins with prefix and that no other call returns.
func (s *Script) unique(prefix string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.names++
	return fmt.Sprintf("%s-%d", prefix, s.names)
}

func (s *Script) begin(key callKey, cancel context.CancelFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.calls == nil {
		s.calls = map[callKey]context.CancelFunc{}
	}
	s.calls[key] = cancel
}

// end ends the context of a request, unless it has ended.
func (s *Script) end(key callKey) {
	s.mu.Lock()
	cancel := s.calls[key]
	delete(s.calls, key)
	s.mu.Unlock()
	if cancel != nil {
		cancel()
	}
}

// expect registers a request of the script.
func (s *Script) expect() (id jsonrpc.ID, response chan jsonrpc.Message) {
	id = jsonrpc.ID(jsonrpc.String(s.unique("script")))
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting == nil {
		s.waiting = map[jsonrpc.ID]chan jsonrpc.Message{}
	}
	response = make(chan jsonrpc.Message, 1)
	s.waiting[id] = response
	return id, response
}

func (s *Script) reply(c *Call) Reply {
	r := (*Reply)(nil)
	if s.Handle != nil {
		r = s.Handle(c)
	}
	if r == nil {
		usual := s.usual(c)
		r = &usual
	}
	if s.Modern && r.Result != nil {
		return Reply{Result: Complete(r.Result)}
	}
	return *r
}

// Complete returns a result with the members that every result of ModernVersion
// has to have, unless it has a resultType.
func Complete(result json.RawMessage) json.RawMessage {
	if kind, err := jsonrpc.Field(result, "resultType"); err == nil && kind != nil {
		return result
	}
	const members = `{"resultType":"complete","ttlMs":0,"cacheScope":"private"`
	if rest := strings.Trim(string(result), "{} "); rest == "" {
		return json.RawMessage(members + "}")
	}
	return json.RawMessage(members + "," + string(result[1:]))
}

// usual is the reply of a script without Handle.
func (s *Script) usual(c *Call) Reply {
	capabilities := `"capabilities":` + cmp.Or(s.Capabilities, `{"tools":{}}`)
	result := ""
	switch {
	case c.Method == "initialize" && !s.Modern:
		result = `{"protocolVersion":"` + LegacyVersion + `",` + capabilities + `,"serverInfo":{"name":"script","version":"1"}}`
	case c.Method == "server/discover" && s.Modern:
		result = `{"supportedVersions":["` + ModernVersion + `"],` + capabilities + `}`
	case c.Method == "subscriptions/listen" && s.Modern:
		return s.listen(c)
	case c.Method == "ping":
		result = `{}`
	case c.Method == "tools/list":
		result = `{"tools":[` + s.listed() + `]}`
	case c.Method == "prompts/list":
		result = `{"prompts":[]}`
	case c.Method == "resources/list":
		result = `{"resources":[]}`
	case c.Method == "resources/templates/list":
		result = `{"resourceTemplates":[]}`
	case c.Method == "tools/call":
		return s.call(c)
	default:
		return Failure(jsonrpc.CodeMethodNotFound, "not in the script")
	}
	return Reply{Result: json.RawMessage(result)}
}

func (s *Script) listed() string {
	var tools []string
	for _, name := range slices.Sorted(maps.Keys(s.Tools)) {
		tools = append(tools, fmt.Sprintf(`{"name":%s,"inputSchema":{"type":"object"}}`, jsonrpc.String(name)))
	}
	return strings.Join(tools, ",")
}

func (s *Script) call(c *Call) Reply {
	name, _ := jsonrpc.StringField(c.Params, "name")
	tool := s.Tools[name]
	if tool == nil {
		return Failure(jsonrpc.CodeInvalidParams, "unknown tool: "+name)
	}
	return tool(c)
}
