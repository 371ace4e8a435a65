package hubtest

import (
	"io"
	"net/http"
	"sync"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

// ServeHTTP serves Streamable HTTP. The reply to a request is one JSON object,
// or an event stream if the script sends something before it. A legacy client gets
// a session, and its GET stream carries what Announce sends.
func (s *Script) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	m, err := jsonrpc.Parse(body)
	got := Received{Message: m, Header: r.Header.Clone()}
	if err == nil {
		s.record(got)
	}
	session := r.Header.Get("Mcp-Session-Id")
	switch {
	case s.Intercept != nil && s.Intercept(w, r, m):
	case !s.Modern && m.Method != "initialize" && !s.knows(session):
		http.Error(w, "unknown session", http.StatusNotFound)
	case r.Method == http.MethodGet && !s.Modern:
		stream := &eventStream{w: w}
		stream.begin()
		s.announce(r.Context(), &announcements{send: stream.send})
	case r.Method == http.MethodDelete && !s.Modern:
		s.forget(session)
		w.WriteHeader(http.StatusNoContent)
	case r.Method != http.MethodPost:
		w.WriteHeader(http.StatusMethodNotAllowed)
	case err != nil:
		w.WriteHeader(http.StatusBadRequest)
		_, _ = w.Write(jsonrpc.NewError(m.ID, jsonrpc.AsError(err)).Encode())
	default:
		s.post(w, r, session, got)
	}
}

func (s *Script) post(w http.ResponseWriter, r *http.Request, session string, m Received) {
	switch {
	case s.Modern: // clients may use an id twice; closing the connection cancels a request
		session = s.unique("request")
	case m.Method == "initialize":
		session = s.issue()
		w.Header().Set("Mcp-Session-Id", session)
	}
	stream := &eventStream{w: w}
	answer := s.accept(r.Context(), session, m, stream.send)
	if answer == nil {
		w.WriteHeader(http.StatusAccepted)
		return
	}
	switch reply := answer(); {
	case reply == nil: // cancelled: the response is an empty stream
		stream.begin()
	case stream.begun:
		stream.send(reply)
	default:
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(reply)
	}
}

// EndSessions ends the sessions of all legacy clients over HTTP: their next request
// gets status 404.
func (s *Script) EndSessions() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.sessions)
}

func (s *Script) issue() (session string) {
	session = s.unique("script-session")
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sessions == nil {
		s.sessions = map[string]bool{}
	}
	s.sessions[session] = true
	return session
}

func (s *Script) knows(session string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sessions[session]
}

func (s *Script) forget(session string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sessions, session)
}

// eventStream makes a response an event stream with its first event.
type eventStream struct {
	mu    sync.Mutex
	w     http.ResponseWriter
	begun bool
}

// begin sends the header before there is an event.
func (s *eventStream) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.header()
	_ = http.NewResponseController(s.w).Flush()
}

func (s *eventStream) send(data []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.header()
	_, _ = io.WriteString(s.w, "data: "+string(data)+"\n\n")
	_ = http.NewResponseController(s.w).Flush()
}

func (s *eventStream) header() {
	if !s.begun {
		s.w.Header().Set("Content-Type", "text/event-stream")
		s.begun = true
	}
}
