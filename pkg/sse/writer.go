package sse

import (
	"net/http"
	"time"
)

// retry is the reconnection time of clients in milliseconds.
const retry = "1000"

// Writer writes events to one HTTP response. Each write is flushed to the client at once, and fails if that takes
// longer than the timeout. The headers are sent with the first write.
type Writer struct {
	w       http.ResponseWriter
	control *http.ResponseController
	timeout time.Duration
}

// NewWriter sets the headers of an event stream and returns its Writer. timeout bounds each write; a write gets one
// microsecond per byte in addition.
func NewWriter(w http.ResponseWriter, timeout time.Duration) *Writer {
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	if h.Get("Cache-Control") == "" { // the server may have a policy of its own
		// Not only no-cache: Chromium then stores the stream, and sends a DELETE for the same URL twice.
		h.Set("Cache-Control", "no-store, no-transform")
	}
	h.Set("X-Accel-Buffering", "no") // a reverse proxy must not buffer events
	return &Writer{w: w, control: http.NewResponseController(w), timeout: timeout}
}

// Event writes one event, which has no ID if id is empty. id, name and data must not contain a line break.
func (w *Writer) Event(id, name string, data []byte) error {
	if len(data) > maxCopy {
		return w.longEvent(id, name, data)
	}
	event := make([]byte, 0, len(id)+len(name)+len(data)+24)
	if id != "" {
		event = append(append(append(event, "id: "...), id...), '\n')
	}
	event = append(append(event, "event: "...), name...)
	event = append(append(event, "\ndata: "...), data...)
	return w.write(append(event, "\n\n"...))
}

// maxCopy is the length of data up to which an event is put together in memory: one write is cheaper than three, but a
// client that does not read must not keep a second copy of a long message.
const maxCopy = 16 << 10

// longEvent is Event without a copy of data.
func (w *Writer) longEvent(id, name string, data []byte) error {
	head := "event: " + name + "\ndata: "
	if id != "" {
		head = "id: " + id + "\n" + head
	}
	w.setDeadline(len(data))
	for _, part := range [][]byte{[]byte(head), data, []byte("\n\n")} {
		if _, err := w.w.Write(part); err != nil {
			return err
		}
	}
	return w.control.Flush()
}

// Prime writes an event with an ID, a reconnection time and empty data. The event tells a client that loses the stream
// from where and when to resume it, specification 2025-11-25, basic/transports, sending messages.
func (w *Writer) Prime(id string) error {
	return w.write([]byte("id: " + id + "\nretry: " + retry + "\ndata: \n\n"))
}

// Retry writes the reconnection time without an event.
func (w *Writer) Retry() error { return w.write([]byte("retry: " + retry + "\n\n")) }

// Comment writes a comment, which clients ignore. It keeps a connection alive. text must not contain a line break.
func (w *Writer) Comment(text string) error { return w.write([]byte(": " + text + "\n\n")) }

// Close removes the deadline of the last write from the connection, so that the server can reuse the connection.
func (w *Writer) Close() { _ = w.control.SetWriteDeadline(time.Time{}) }

// setDeadline limits the writes of an event of so many bytes.
func (w *Writer) setDeadline(size int) {
	_ = w.control.SetWriteDeadline(time.Now().Add(w.timeout + time.Duration(size)*time.Microsecond))
}

func (w *Writer) write(b []byte) error {
	w.setDeadline(len(b))
	if _, err := w.w.Write(b); err != nil {
		return err
	}
	return w.control.Flush()
}
