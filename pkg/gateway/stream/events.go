package stream

import (
	"bytes"
	"net/http"
	"time"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/sse"
)

// writeTimeout is the limit of each write to a client that does not read.
const writeTimeout = 30 * time.Second

// Events is the event stream of one HTTP response, with its metrics. One goroutine uses it.
type Events struct {
	metrics *Metrics
	writer  *sse.Writer
	kind    string // of the stream, for the metrics
}

// Start sets the headers of an event stream and counts the stream. The caller calls End.
func (x *Metrics) Start(w http.ResponseWriter, kind string) *Events {
	x.active.WithLabelValues(kind).Inc()
	return &Events{metrics: x, writer: sse.NewWriter(w, writeTimeout), kind: kind}
}

// End counts the end of the stream.
func (s *Events) End(why Reason) {
	s.writer.Close()
	s.metrics.active.WithLabelValues(s.kind).Dec()
	s.metrics.closed.WithLabelValues(s.kind, string(why)).Inc()
}

// Message writes one message as an event, with an id unless that is empty. It reports whether the write succeeded, as
// the other methods do.
func (s *Events) Message(id string, m []byte) bool {
	if bytes.ContainsAny(m, "\r\n") {
		m = jsonrpc.OneLine(bytes.Clone(m))
	}
	return s.writer.Event(id, "message", m) == nil
}

// prime writes an event without a message, which gives the client an event id.
func (s *Events) prime(id string) bool { return s.writer.Prime(id) == nil }

// retry writes the time after which the client reconnects.
func (s *Events) retry() bool { return s.writer.Retry() == nil }

// Comment writes a comment, which clients ignore.
func (s *Events) Comment(text string) bool { return s.writer.Comment(text) == nil }
