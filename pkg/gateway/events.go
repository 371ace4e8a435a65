package gateway

import (
	"bytes"
	"net/http"
	"time"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/sse"
)

// writeTimeout bounds each write to a client that does not read.
const writeTimeout = 30 * time.Second

// eventStream is the event stream of one HTTP response, with its metrics. One goroutine uses it.
type eventStream struct {
	metrics *streamMetrics
	writer  *sse.Writer
	kind    string
}

// start sets the headers of an event stream and counts it. The caller ends it.
func (x *streamMetrics) start(w http.ResponseWriter, kind string) *eventStream {
	x.active.WithLabelValues(kind).Inc()
	return &eventStream{metrics: x, writer: sse.NewWriter(w, writeTimeout), kind: kind}
}

// end counts the end of the stream and its reason.
func (s *eventStream) end(why string) {
	s.writer.Close()
	s.metrics.active.WithLabelValues(s.kind).Dec()
	s.metrics.closed.WithLabelValues(s.kind, why).Inc()
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
