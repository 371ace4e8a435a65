package hubtest

import (
	"io"
	"net/http"
	"sync"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

// ServeHTTP serves Streamable HTTP. The reply to a request is one JSON object,
// or an event stream if the script sends something before it. The script offers
// no stream of its own: a GET request gets status 405. All clients of a legacy
// script share one session, which does not end.
func (s *Script) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	m, err := jsonrpc.Parse(body)
	switch {
	case r.Method == http.MethodDelete:
		return
	case r.Method != http.MethodPost:
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	case err != nil:
		w.WriteHeader(http.StatusBadRequest)
		_, _ = w.Write(jsonrpc.NewError(m.ID, jsonrpc.AsError(err)).Encode())
		return
	}
	if m.Method == "initialize" && !s.Modern {
		w.Header().Set("Mcp-Session-Id", "script")
	}
	stream := &eventStream{w: w}
	reply := s.take(r.Context(), m, r.Header.Clone(), stream.send)
	switch {
	case reply == nil:
		w.WriteHeader(http.StatusAccepted)
	case stream.begun:
		stream.send(reply)
	default:
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(reply)
	}
}

// eventStream makes a response an event stream with its first event.
type eventStream struct {
	mu    sync.Mutex
	w     http.ResponseWriter
	begun bool
}

func (s *eventStream) send(data []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.begun {
		s.w.Header().Set("Content-Type", "text/event-stream")
		s.begun = true
	}
	_, _ = io.WriteString(s.w, "data: "+string(data)+"\n\n")
	_ = http.NewResponseController(s.w).Flush()
}
