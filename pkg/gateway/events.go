package gateway

import (
	"bytes"
	"net/http"
	"strconv"
	"time"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

// writeTimeout bounds each write to a client that does not read.
const writeTimeout = 30 * time.Second

// retryAfter is how long a client is to wait, in milliseconds, before it comes
// back for a stream that was closed.
const retryAfter = "1000"

// eventStream writes server-sent events to one connection.
type eventStream struct {
	g    *Gateway
	w    http.ResponseWriter
	ctl  *http.ResponseController
	kind string
}

func (g *Gateway) startEvents(w http.ResponseWriter, kind string) *eventStream {
	h := w.Header()
	h.Set("Content-Type", typeEvents)
	h.Set("Cache-Control", "no-cache, no-transform")
	h.Set("X-Accel-Buffering", "no") // reverse proxies must not collect events
	g.tel.streams.WithLabelValues(kind).Inc()
	return &eventStream{g: g, w: w, ctl: http.NewResponseController(w), kind: kind}
}

// end notes that the connection is done with, and why.
func (s *eventStream) end(why string) {
	_ = s.ctl.SetWriteDeadline(time.Time{})
	s.g.tel.streams.WithLabelValues(s.kind).Dec()
	s.g.tel.closed.WithLabelValues(s.kind, why).Inc()
}

// message writes one message as an event, with an id if it has one, and
// reports whether the client got it.
func (s *eventStream) message(id string, m []byte) bool {
	event := make([]byte, 0, len(m)+len(id)+40)
	if id != "" {
		event = append(append(append(event, "id: "...), id...), '\n')
	}
	event = append(event, "event: message\ndata: "...)
	if bytes.ContainsAny(m, "\r\n") {
		m = jsonrpc.OneLine(bytes.Clone(m))
	}
	return s.write(append(append(event, m...), "\n\n"...))
}

// prime writes the event without a message that tells a client how to come
// back, specification 2025-11-25, basic/transports, sending messages.
func (s *eventStream) prime(id string) bool {
	return s.write([]byte("id: " + id + "\nretry: " + retryAfter + "\ndata: \n\n"))
}

// retry tells the client when to come back.
func (s *eventStream) retry() bool { return s.write([]byte("retry: " + retryAfter + "\n\n")) }

func (s *eventStream) comment(text string) bool { return s.write([]byte(": " + text + "\n\n")) }

func (s *eventStream) write(b []byte) bool {
	_ = s.ctl.SetWriteDeadline(time.Now().Add(writeTimeout + time.Duration(len(b))*time.Microsecond))
	_, err := s.w.Write(b) //nolint:gosec // JSON in an event stream, and said to be
	return err == nil && s.ctl.Flush() == nil
}

// writeJSON answers with one object, or a list of them.
func writeJSON(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", typeJSON)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout + time.Duration(len(body))*time.Microsecond))
	w.WriteHeader(status)
	_, _ = w.Write(body) //nolint:gosec // JSON, and said to be
	_ = http.NewResponseController(w).SetWriteDeadline(time.Time{})
}
