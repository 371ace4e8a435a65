package sse

import (
	"net/http/httptest"
	"testing"
	"time"
)

func TestWriterWritesEventsThatReaderReads(t *testing.T) {
	t.Parallel()
	response := httptest.NewRecorder()
	w := NewWriter(response, time.Second)
	for _, err := range []error{
		w.Prime("7"), w.Comment("alive"), w.Event("8", "message", []byte(`{"a":1}`)), w.Event("", "message", []byte("x")),
		w.Retry(),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	w.Close()
	if h := response.Header(); h.Get("Content-Type") != "text/event-stream" || h.Get("Cache-Control") != "no-store, no-transform" ||
		h.Get("X-Accel-Buffering") != "no" || !response.Flushed {
		t.Errorf("the headers are %v, flushed %t", h, response.Flushed)
	}
	const want = "id: 7\nretry: 1000\ndata: \n\n" + ": alive\n\n" + "id: 8\nevent: message\ndata: {\"a\":1}\n\n" +
		"event: message\ndata: x\n\n" + "retry: 1000\n\n"
	if got := response.Body.String(); got != want {
		t.Errorf("the stream is %q, want %q", got, want)
	}
	events, _ := readEvents(response.Body.Bytes(), 1000)
	if len(events) != 4 || !sameEvent(events[0], Event{ID: "7", Retry: time.Second}) ||
		!sameEvent(events[1], Event{ID: "8", Name: "message", Data: []byte(`{"a":1}`)}) ||
		!sameEvent(events[2], Event{Name: "message", Data: []byte("x")}) || !sameEvent(events[3], Event{Retry: time.Second}) {
		t.Errorf("the events are %v", events)
	}
}
