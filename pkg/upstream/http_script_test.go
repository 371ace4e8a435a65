package upstream

import (
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
)

// httpScript speaks the script over Streamable HTTP.
type httpScript struct {
	*script
	*httptest.Server

	// Faults: a function that has answered the request returns true.
	onPost   func(w http.ResponseWriter, r *http.Request, m jsonrpc.Message) bool
	onGet    func(w http.ResponseWriter, r *http.Request) // nil: 405
	stateful bool
	events   bool // answers are always streams
	// deny answers a request in a session that is not known; nil: 404
	deny func(w http.ResponseWriter, r *http.Request, m jsonrpc.Message)

	onConn func(net.Conn, http.ConnState)

	mu       sync.Mutex
	requests []httpRequest
	sessions map[string]string // to the client's name
	issued   int
}

type httpRequest struct {
	method string
	header http.Header
	body   string
}

func newHTTPScript(t testing.TB, configure ...func(*httpScript)) *httpScript {
	t.Helper()
	h := &httpScript{script: newScript(), stateful: true, sessions: map[string]string{}}
	for _, c := range configure {
		c(h)
	}
	h.Server = httptest.NewUnstartedServer(h)
	h.Config.ConnState = h.onConn
	h.Start()
	t.Cleanup(h.Server.Close)
	return h
}

func (h *httpScript) spec() Spec {
	return Spec{Name: "web", URL: h.URL, Era: protocol.Legacy, ConnectTimeout: patience, CallTimeout: patience}
}

func (h *httpScript) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	m, _ := jsonrpc.Parse(body)
	h.mu.Lock()
	h.requests = append(h.requests, httpRequest{r.Method, r.Header.Clone(), string(body)})
	h.mu.Unlock()
	if r.Method == http.MethodPost && h.onPost != nil && h.onPost(w, r, m) {
		return
	}
	session := r.Header.Get("Mcp-Session-Id")
	if h.stateful && m.Method != "initialize" && !h.knows(session) {
		if h.deny != nil {
			h.deny(w, r, m)
			return
		}
		http.Error(w, "unknown session", http.StatusNotFound)
		return
	}
	switch r.Method {
	case http.MethodGet:
		if h.onGet == nil {
			w.WriteHeader(http.StatusMethodNotAllowed)
			return
		}
		h.onGet(w, r)
	case http.MethodDelete:
		h.forget(session)
		w.WriteHeader(http.StatusNoContent)
	default:
		h.note(body)
		h.post(w, r, m)
	}
}

func (h *httpScript) post(w http.ResponseWriter, r *http.Request, m jsonrpc.Message) {
	if m.Kind() != jsonrpc.Request {
		h.take(m)
		w.WriteHeader(http.StatusAccepted)
		return
	}
	if m.Method == "initialize" && h.stateful {
		w.Header().Set("Mcp-Session-Id", h.issue(m))
	}
	var out sync.Mutex
	streaming := false
	send := func(message string) {
		out.Lock()
		defer out.Unlock()
		if !streaming {
			w.Header().Set("Content-Type", "text/event-stream")
			streaming = true
		}
		writeEvent(w, "", message)
	}
	answer := h.handle(r.Context(), m, send)
	if answer == "" {
		<-r.Context().Done() // keeps the stream open
		return
	}
	answer = `{"jsonrpc":"2.0","id":` + string(m.ID) + `,` + answer + `}`
	if streaming || h.events {
		send(answer)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, answer)
}

// writeEvent writes one event and flushes it.
func writeEvent(w http.ResponseWriter, id, data string) {
	if id != "" {
		fmt.Fprintf(w, "id: %s\n", id)
	}
	fmt.Fprintf(w, "data: %s\n\n", strings.ReplaceAll(data, "\n", "\ndata: "))
	_ = http.NewResponseController(w).Flush()
}

func (h *httpScript) issue(m jsonrpc.Message) string {
	fields, _ := jsonrpc.Fields(m.Params, "clientInfo")
	name, _ := jsonrpc.StringField(fields[0], "name")
	h.mu.Lock()
	defer h.mu.Unlock()
	h.issued++
	id := fmt.Sprintf("secret-session-%d", h.issued)
	h.sessions[id] = name
	return id
}

func (h *httpScript) knows(session string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	_, ok := h.sessions[session]
	return ok
}

func (h *httpScript) forget(session string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.sessions, session)
}

// forgetAll forgets the sessions of the clients of that name.
func (h *httpScript) forgetAll(client string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	maps.DeleteFunc(h.sessions, func(_, name string) bool { return name == client })
}

// live returns the open sessions of the clients of that name.
func (h *httpScript) live(client string) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var ids []string
	for id, name := range h.sessions {
		if name == client {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// sent returns the requests with that HTTP method whose body has the text.
func (h *httpScript) sent(method, text string) []httpRequest {
	h.mu.Lock()
	defer h.mu.Unlock()
	var found []httpRequest
	for _, r := range h.requests {
		if r.method == method && strings.Contains(r.body, text) {
			found = append(found, r)
		}
	}
	return found
}

// dispatched counts the calls of the tool that the script carried out.
func (h *httpScript) dispatched(text string) int {
	n := 0
	for _, line := range h.seen() {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}

// hangs makes the server take messages with that text and never answer.
func hangs(text string) func(*httpScript) {
	return func(h *httpScript) {
		h.onPost = func(_ http.ResponseWriter, r *http.Request, m jsonrpc.Message) bool {
			if !strings.Contains(string(m.Encode()), text) {
				return false
			}
			<-r.Context().Done()
			return true
		}
	}
}
