package gateway

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/gateway/stream"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

const (
	allTasks  = `{"list":{},"cancel":{},"requests":{"tools":{"call":{}}}}`
	taskTools = `[{"name":"slow","execution":{"taskSupport":"optional"},"inputSchema":{"n":1.50}} , {"name":"plain","inputSchema":{}}]`
)

// taskServer is a server over HTTP with separate tasks for each session, specification 2025-11-25,
// basic/utilities/tasks.
type taskServer struct {
	t    *testing.T
	name string
	caps string // its capability "tasks"; "": none
	http *httptest.Server
	slow chan struct{} // not nil: initialize waits until it is closed

	mu       sync.Mutex
	sessions map[string]*taskSession
	seen     []string // "session method params"
}

// taskSession is a session of a taskServer.
type taskSession struct {
	tasks   []string
	done    map[string]chan struct{} // closed when the task has ended
	tokens  map[string]string        // progress tokens of the calls that became tasks
	streams chan string              // messages for its GET stream
}

func newTaskServer(t *testing.T, name, caps string) *taskServer {
	k := &taskServer{t: t, name: name, caps: caps, sessions: map[string]*taskSession{}}
	k.http = httptest.NewServer(k)
	t.Cleanup(func() {
		k.http.CloseClientConnections()
		k.http.Close()
	})
	return k
}

func (k *taskServer) spec() upstream.Spec { return upstream.Spec{Name: k.name, URL: k.http.URL} }

func (k *taskServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	m, _ := jsonrpc.Parse(body)
	if m.Method == "initialize" {
		k.initialize(w, r, m)
		return
	}
	id := r.Header.Get("Mcp-Session-Id")
	k.mu.Lock()
	s := k.sessions[id]
	k.seen = append(k.seen, strings.TrimSpace(id+" "+m.Method+" "+string(m.Params)))
	k.mu.Unlock()
	switch {
	case m.Method == "server/discover":
		stream.WriteJSON(w, http.StatusOK, []byte(`{"jsonrpc":"2.0","id":`+string(m.ID)+`,"error":{"code":-32601,"message":"no"}}`))
	case s == nil:
		http.Error(w, "unknown session", http.StatusNotFound)
	case r.Method == http.MethodGet:
		s.listen(w, r)
	case m.Kind() != jsonrpc.Request:
		w.WriteHeader(http.StatusAccepted)
	default:
		stream.WriteJSON(w, http.StatusOK, []byte(`{"jsonrpc":"2.0","id":`+string(m.ID)+`,`+k.answer(r, id, s, m)+`}`))
	}
}

func (k *taskServer) initialize(w http.ResponseWriter, r *http.Request, m jsonrpc.Message) {
	if k.slow != nil {
		select {
		case <-k.slow:
		case <-r.Context().Done():
			return
		}
	}
	k.mu.Lock()
	id := fmt.Sprintf("%s-s%d", k.name, len(k.sessions))
	k.sessions[id] = &taskSession{done: map[string]chan struct{}{}, tokens: map[string]string{}, streams: make(chan string, 16)}
	k.mu.Unlock()
	caps := `{"tools":{}}`
	if k.caps != "" {
		caps = `{"tools":{},"tasks":` + k.caps + `}`
	}
	w.Header().Set("Mcp-Session-Id", id)
	stream.WriteJSON(w, http.StatusOK, fmt.Appendf(nil,
		`{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":"2025-11-25","capabilities":%s,"serverInfo":{"name":%q,"version":"1"}}}`,
		m.ID, caps, k.name))
}

func (s *taskSession) listen(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	_ = http.NewResponseController(w).Flush()
	for {
		select {
		case message := <-s.streams:
			_, _ = fmt.Fprintf(w, "data: %s\n\n", message)
			_ = http.NewResponseController(w).Flush()
		case <-r.Context().Done():
			return
		}
	}
}

const noTask = `"error":{"code":-32602,"message":"Failed to retrieve task: Task not found"}`

func (k *taskServer) answer(r *http.Request, session string, s *taskSession, m jsonrpc.Message) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	task, _ := jsonrpc.StringField(m.Params, "taskId")
	over, known := s.done[task]
	switch m.Method {
	case "tools/list":
		return `"result":{"tools":` + taskTools + `}`
	case "tools/call":
		return k.call(session, s, m)
	case "tasks/list":
		return s.list(m)
	case "tasks/get", "tasks/result", "tasks/cancel":
		if !known {
			return noTask
		}
	default:
		return `"error":{"code":-32601,"message":"no such method"}`
	}
	switch m.Method {
	case "tasks/result":
		k.mu.Unlock()
		defer k.mu.Lock()
		select {
		case <-over:
			return `"result":{"content":[ ],"n":1.50,"_meta":{"io.modelcontextprotocol/related-task":{"taskId":"` + task + `"}}}`
		case <-r.Context().Done():
			return noTask
		}
	case "tasks/cancel":
		if token := s.tokens[task]; token != "" {
			s.streams <- `{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":` + token + `,"progress":1.50}}`
		}
		close(over)
		s.done[task] = over
		s.streams <- `{"jsonrpc":"2.0","method":"notifications/tasks/status","params":{"taskId":"` + task + `","status":"cancelled"}}`
		return `"result":{"taskId":"` + task + `","status":"cancelled"}`
	}
	return `"result":{"taskId":"` + task + `","status":"working","ttl":1e3}`
}

func (k *taskServer) call(session string, s *taskSession, m jsonrpc.Message) string {
	if strings.Contains(string(m.Params), `"login"`) {
		s.streams <- `{"jsonrpc":"2.0","method":"notifications/elicitation/complete","params":{"elicitationId":"` + session + `"}}`
		return `"error":` + fmt.Sprintf(urlElicitationRequired, session, session)
	}
	fields, _ := jsonrpc.Fields(m.Params, "task", "_meta")
	if fields[0] == nil {
		return `"result":{"content":[],"params":` + string(m.Params) + `}`
	}
	meta, _ := jsonrpc.Fields(fields[1], "progressToken")
	id := fmt.Sprintf("%s-t%d", session, len(s.tasks))
	s.tasks = append(s.tasks, id)
	s.done[id], s.tokens[id] = make(chan struct{}), string(meta[0])
	return `"result":{"task":{"taskId":"` + id + `","status":"working"},"of":` + string(fields[0]) + `}`
}

// list returns pages of one task.
func (s *taskSession) list(m jsonrpc.Message) string {
	at := 0
	if cursor, ok := jsonrpc.StringField(m.Params, "cursor"); ok {
		var err error
		if at, err = strconv.Atoi(cursor); err != nil || at < 0 || at >= len(s.tasks) {
			return `"error":{"code":-32602,"message":"Invalid cursor"}`
		}
	}
	if len(s.tasks) == 0 {
		return `"result":{"tasks":[]}`
	}
	next := ""
	if at+1 < len(s.tasks) {
		next = fmt.Sprintf(`,"nextCursor":"%d"`, at+1)
	}
	return `"result":{"tasks":[{"taskId":"` + s.tasks[at] + `","ttl":1e3}]` + next + `}`
}

// received returns the received messages that contain the text.
func (k *taskServer) received(text string) []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(k.seen), func(s string) bool { return !strings.Contains(s, text) })
}
