package upstream

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

// sseScript speaks the script over HTTP+SSE.
type sseScript struct {
	*script
	*httptest.Server

	// Faults: a function that has answered the request returns true.
	onPost   func(w http.ResponseWriter, r *http.Request, m jsonrpc.Message) bool
	onGet    func(w http.ResponseWriter, r *http.Request) bool
	endpoint string // what is named, with the session at the end

	handlers sync.WaitGroup // of messages
	mu       sync.Mutex
	requests []httpRequest
	streams  map[string]*sseStream // by session
	issued   int
}

// sseStream is the stream of one session.
type sseStream struct {
	mu  sync.Mutex
	w   http.ResponseWriter
	ctx context.Context
	end context.CancelFunc

	answered atomic.Bool // the hub has what it waited for
}

func newSSEScript(t testing.TB, configure ...func(*sseScript)) *sseScript {
	t.Helper()
	s := &sseScript{script: newScript(), streams: map[string]*sseStream{}, endpoint: "messages?key=s3cret&session="}
	for _, c := range configure {
		c(s)
	}
	s.Server = httptest.NewServer(s)
	t.Cleanup(func() {
		s.Server.Close()
		s.handlers.Wait()
	})
	return s
}

func (s *sseScript) spec() Spec {
	return Spec{Name: "web", URL: s.URL + "/mcp/sse", SSE: true, ConnectTimeout: patience, CallTimeout: patience}
}

func (s *sseScript) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	s.requests = append(s.requests, httpRequest{r.Method, r.Header.Clone(), string(body)})
	s.mu.Unlock()
	if r.Method == http.MethodGet {
		if s.onGet == nil || !s.onGet(w, r) {
			s.stream(w, r)
		}
		return
	}
	m, err := jsonrpc.Parse(body)
	if err != nil || r.Header.Get("Content-Type") != "application/json" || !strings.HasPrefix(r.URL.Path, "/mcp/messages") {
		http.Error(w, "bad request", http.StatusBadRequest)
		return
	}
	if s.onPost != nil && s.onPost(w, r, m) {
		return
	}
	stream := s.of(r.URL.Query().Get("session"))
	if stream == nil {
		http.Error(w, "unknown session", http.StatusNotFound)
		return
	}
	s.note(body)
	w.WriteHeader(http.StatusAccepted)
	s.handlers.Go(func() { s.answer(stream, m) })
}

func (s *sseScript) stream(w http.ResponseWriter, r *http.Request) {
	ctx, end := context.WithCancel(r.Context())
	defer end()
	stream := &sseStream{w: w, ctx: ctx, end: end}
	s.mu.Lock()
	s.issued++
	session := fmt.Sprintf("secret-session-%d", s.issued)
	s.streams[session] = stream
	s.mu.Unlock()
	defer s.forget(session)
	w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	stream.write("event: endpoint\r\ndata: " + s.endpoint + session + "\r\n\r\n")
	<-ctx.Done()
	stream.close() // whoever writes has done so
}

// close ends the stream; nothing is written to it any more.
func (s *sseStream) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.w = nil
	s.end()
}

// write writes to the stream and flushes it, unless it is closed.
func (s *sseStream) write(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.w != nil {
		_, _ = io.WriteString(s.w, text)
		_ = http.NewResponseController(s.w).Flush()
	}
}

func (s *sseStream) send(message string) {
	s.write("event: message\ndata: " + strings.ReplaceAll(message, "\n", "\ndata: ") + "\n\n")
}

func (s *sseScript) answer(stream *sseStream, m jsonrpc.Message) {
	if m.Kind() != jsonrpc.Request {
		s.take(m)
		return
	}
	if answer := s.handle(stream.ctx, m, stream.send); answer != "" {
		stream.send(`{"jsonrpc":"2.0","id":` + string(m.ID) + `,` + answer + `}`)
	}
}

func (s *sseScript) of(session string) *sseStream {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.streams[session]
}

func (s *sseScript) forget(session string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.streams, session)
}

// forgetAll forgets all sessions, but leaves their streams.
func (s *sseScript) forgetAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.streams)
}

// open returns the number of open streams.
func (s *sseScript) open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.streams)
}

// each calls fn for all streams.
func (s *sseScript) each(fn func(*sseStream)) {
	s.mu.Lock()
	streams := slices.Collect(maps.Values(s.streams))
	s.mu.Unlock()
	for _, stream := range streams {
		fn(stream)
	}
}

// sent returns the requests with that HTTP method whose body has the text.
func (s *sseScript) sent(method, text string) []httpRequest {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []httpRequest
	for _, r := range s.requests {
		if r.method == method && strings.Contains(r.body, text) {
			found = append(found, r)
		}
	}
	return found
}
