package peers

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// Recorder is an http.RoundTripper that keeps what a client sends and gets.
type Recorder struct {
	mu    sync.Mutex
	seen  []*Exchange
	trace string // the traceparent header of requests, if there is one
	begun [][]byte
}

// SetTrace sets the traceparent header of requests from now on.
func (w *Recorder) SetTrace(traceparent string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.trace = traceparent
}

// Trace returns the traceparent header that requests have now.
func (w *Recorder) Trace() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.trace
}

// Sent returns how many requests whose body contains part were begun, answered or
// not.
func (w *Recorder) Sent(part string) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, body := range w.begun {
		if bytes.Contains(body, []byte(part)) {
			n++
		}
	}
	return n
}

// Exchange is one HTTP request and what has come back of its response.
type Exchange struct {
	io.ReadCloser // the response's body

	Method  string // of HTTP
	Request []byte
	Status  int

	mu   sync.Mutex
	body bytes.Buffer
}

// RoundTrip sends a request and keeps it and its response.
func (w *Recorder) RoundTrip(r *http.Request) (*http.Response, error) {
	x := &Exchange{Method: r.Method}
	trace := w.Trace()
	if r.Body != nil {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		_ = r.Body.Close()
		x.Request = body
		w.mu.Lock()
		w.begun = append(w.begun, body)
		w.mu.Unlock()
		r = r.Clone(r.Context())
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	if trace != "" {
		r = r.Clone(r.Context())
		r.Header.Set("Traceparent", trace)
	}
	response, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	x.Status, x.ReadCloser, response.Body = response.StatusCode, response.Body, x
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen = append(w.seen, x)
	return response, nil
}

// Read reads the body of the response and keeps it.
func (x *Exchange) Read(p []byte) (int, error) {
	n, err := x.ReadCloser.Read(p)
	x.mu.Lock()
	defer x.mu.Unlock()
	x.body.Write(p[:n])
	return n, err
}

// Find returns the exchanges for which fits returns true.
func (w *Recorder) Find(fits func(*Exchange) bool) (found []*Exchange) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, x := range w.seen {
		if fits(x) {
			found = append(found, x)
		}
	}
	return found
}

// Of returns the messages that came in answer to the last request whose body
// contains part.
func (w *Recorder) Of(t testing.TB, part string) []Message {
	t.Helper()
	found := w.Find(func(x *Exchange) bool { return bytes.Contains(x.Request, []byte(part)) })
	if len(found) == 0 {
		t.Fatalf("no request has %s in it", part)
	}
	return found[len(found)-1].Messages()
}

// All returns all messages that came.
func (w *Recorder) All() (all []Message) {
	for _, x := range w.Find(func(*Exchange) bool { return true }) {
		all = append(all, x.Messages()...)
	}
	return all
}

// Message is a message whose parts are the bytes that came.
type Message struct {
	Method                string
	Params, Result, Error json.RawMessage
}

// Messages returns the messages of the response that have come so far.
func (x *Exchange) Messages() (messages []Message) {
	x.mu.Lock()
	body := bytes.Clone(x.body.Bytes())
	x.mu.Unlock()
	lines := bufio.NewScanner(bytes.NewReader(body))
	lines.Buffer(nil, len(body)+1)
	for lines.Scan() {
		line := strings.TrimPrefix(lines.Text(), "data: ")
		var m Message
		if strings.HasPrefix(line, "{") && json.Unmarshal([]byte(line), &m) == nil {
			messages = append(messages, m)
		}
	}
	return messages
}
