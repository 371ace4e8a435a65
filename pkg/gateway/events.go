package gateway

import (
	"bytes"
	"net/http"
	"strconv"
	"time"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
	"github.com/mcphub-go/mcphub/pkg/sse"
)

// writeTimeout bounds each write to a client that does not read.
const writeTimeout = 30 * time.Second

// eventStream is the event stream of one HTTP response, with its metrics. One goroutine uses it.
type eventStream struct {
	tel    *telemetry
	writer *sse.Writer
	kind   string
}

// startEvents sets the headers of an event stream. The caller ends it.
func (t *telemetry) startEvents(w http.ResponseWriter, kind string) *eventStream {
	t.streams.WithLabelValues(kind).Inc()
	return &eventStream{tel: t, writer: sse.NewWriter(w, writeTimeout), kind: kind}
}

// end counts the end of the stream and its reason.
func (s *eventStream) end(why string) {
	s.writer.Close()
	s.tel.streams.WithLabelValues(s.kind).Dec()
	s.tel.closed.WithLabelValues(s.kind, why).Inc()
}

// message writes one message as an event, with an id unless that is empty. It reports whether
// the write succeeded, as do the methods below.
func (s *eventStream) message(id string, m []byte) bool {
	if bytes.ContainsAny(m, "\r\n") {
		m = jsonrpc.OneLine(bytes.Clone(m))
	}
	return s.writer.Event(id, "message", m) == nil
}

func (s *eventStream) prime(id string) bool { return s.writer.Prime(id) == nil }

func (s *eventStream) retry() bool { return s.writer.Retry() == nil }

func (s *eventStream) comment(text string) bool { return s.writer.Comment(text) == nil }

// writeJSON answers with one JSON text.
func writeJSON(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", protocol.TypeJSON)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout + time.Duration(len(body))*time.Microsecond))
	w.WriteHeader(status)
	_, _ = w.Write(body) //nolint:gosec // JSON, and declared as JSON
	_ = http.NewResponseController(w).SetWriteDeadline(time.Time{})
}
