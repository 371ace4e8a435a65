package stream

import (
	"bytes"
	"net/http"
	"time"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/sse"
)

// WriteTimeout bounds each write to a client that does not read.
const WriteTimeout = 30 * time.Second

// Events is the event stream of one HTTP response, with its metrics. One goroutine uses it.
type Events struct {
	metrics *Metrics
	writer  *sse.Writer
	kind    string
}

// Start sets the headers of an event stream and counts the stream. The caller calls End.
func (x *Metrics) Start(w http.ResponseWriter, kind string) *Events {
	x.active.WithLabelValues(kind).Inc()
	return &Events{metrics: x, writer: sse.NewWriter(w, WriteTimeout), kind: kind}
}

// End counts the end of the stream.
func (s *Events) End(why Reason) {
	s.writer.Close()
	s.metrics.active.WithLabelValues(s.kind).Dec()
	s.metrics.closed.WithLabelValues(s.kind, string(why)).Inc()
}

// Message writes one message as an event, with an id unless that is empty. Like the other methods it
// reports whether the write succeeded.
func (s *Events) Message(id string, m []byte) bool {
	if bytes.ContainsAny(m, "\r\n") {
		m = jsonrpc.OneLine(bytes.Clone(m))
	}
	return s.writer.Event(id, "message", m) == nil
}

func (s *Events) prime(id string) bool { return s.writer.Prime(id) == nil }

func (s *Events) retry() bool { return s.writer.Retry() == nil }

// Comment writes a comment, which clients ignore.
func (s *Events) Comment(text string) bool { return s.writer.Comment(text) == nil }
