package hubtest

import (
	"bufio"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// Event is an event of a stream of server-sent events, or a comment.
type Event struct{ ID, Name, Data, Comment string }

// Stream is an open stream of server-sent events. It is for one goroutine.
type Stream struct {
	t     testing.TB
	body  io.ReadCloser
	lines *bufio.Scanner
}

// newStream fails the test unless the response is a stream.
func newStream(t testing.TB, response *http.Response) *Stream {
	t.Helper()
	t.Cleanup(func() { response.Body.Close() })
	if response.StatusCode != http.StatusOK || !isStream(response) {
		text, _ := io.ReadAll(response.Body)
		t.Fatalf("not a stream: %d %s %s", response.StatusCode, response.Header.Get("Content-Type"), text)
	}
	s := &Stream{t: t, body: response.Body, lines: bufio.NewScanner(response.Body)}
	s.lines.Buffer(nil, 16<<20)
	return s
}

func isStream(response *http.Response) bool {
	return strings.HasPrefix(response.Header.Get("Content-Type"), "text/event-stream")
}

// Next returns the next event or comment; false at the end of the stream. It
// fails the test if nothing comes for 20 s.
func (s *Stream) Next() (e Event, ok bool) {
	s.t.Helper()
	timeout := time.AfterFunc(patience, func() { s.body.Close() })
	for s.lines.Scan() {
		line := s.lines.Text()
		if line == "" && ok {
			timeout.Stop()
			return e, true
		}
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		ok = true
		switch name {
		case "":
			e.Comment = value
		case "id":
			e.ID = value
		case "event":
			e.Name = value
		case "data":
			e.Data += value
		}
	}
	if !timeout.Stop() {
		s.t.Fatalf("nothing came on the stream for %s", patience)
	}
	return Event{}, false
}

// NextData returns the next event that has data; the test fails if the stream ends
// before.
func (s *Stream) NextData() Event {
	s.t.Helper()
	for {
		switch e, ok := s.Next(); {
		case !ok:
			s.t.Fatal("the stream has ended")
		case e.Data != "":
			return e
		}
	}
}

// Drain reads the stream to its end.
func (s *Stream) Drain() {
	s.t.Helper()
	for {
		if _, ok := s.Next(); !ok {
			return
		}
	}
}
